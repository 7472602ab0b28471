package preheat

import (
	"fmt"
	"strings"

	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/multiformats/go-multiaddr"
)

// Scope says which nodes take an image: ScopeSeed, ScopeSeeds, ScopeAll, ScopeHere, or zone=NAME.
type Scope string

// The scopes without a name in them. Where there is no seed, the node that runs the job stands in.
const (
	ScopeSeed  Scope = "seed"  // one seed: this node, or the nearest
	ScopeSeeds Scope = "seeds" // every seed
	ScopeAll   Scope = "all"   // every node
	ScopeHere  Scope = "here"  // the node that runs the job

	scopeZone = "zone=" // then a name: every node of that zone
)

// zone returns the zone of a scope that names one.
func (s Scope) zone() (string, bool) { return strings.CutPrefix(string(s), scopeZone) }

// Validate reports a scope that is none. Errors wrap ErrInvalid.
func (s Scope) Validate() error {
	if zone, ok := s.zone(); ok && zone != "" && len(zone) <= 64 && !strings.ContainsFunc(zone, func(r rune) bool { return r <= ' ' || r > '~' }) {
		return nil
	}
	switch s {
	case ScopeSeed, ScopeSeeds, ScopeAll, ScopeHere:
		return nil
	}
	return fmt.Errorf("%w: scope %.80q: want seed, seeds, zone=NAME, all or here", ErrInvalid, string(s))
}

// Member is a node of the mesh, as Members tells it.
type Member struct {
	ID    peer.ID
	Name  string // for people: its address, "" if unknown
	Zone  string
	Seed  bool
	Addrs []multiaddr.Multiaddr
}

// choose returns the members of a scope; self comes first among all, others are ordered from the nearest.
func (s Scope) choose(self Member, others []Member) ([]Member, error) {
	all := append([]Member{self}, others...)
	zone, inZone := s.zone()
	var out []Member
	for _, m := range all {
		switch {
		case inZone && m.Zone == zone, s == ScopeAll, (s == ScopeSeed || s == ScopeSeeds) && m.Seed:
			out = append(out, m)
		}
		if s == ScopeSeed && len(out) == 1 {
			return out, nil
		}
	}
	switch {
	case len(out) > 0:
		return out, nil
	case inZone:
		return nil, fmt.Errorf("%w: no node of zone %q is known here (`meshd peers` lists the zones)", ErrNoNode, zone)
	}
	return []Member{self}, nil // also ScopeHere
}
