package topology

import (
	"cmp"
	"crypto/sha256"
	"encoding/base32"
	"slices"
	"strings"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"
)

// Undecided is the zone of nodes that nobody gave one and that have not found theirs yet. It is no place.
const Undecided = "default"

const (
	nearRTT       = 3 * time.Millisecond // who is nearer stands in the same place
	farRTT        = 2 * nearRTT          // who is farther does not; in between counts for nothing
	foundWindows  = 3                    // without a zone to join until one is founded
	changeWindows = 6                    // in which another zone has to be the better one
	halfAsFar     = 2                    // another label has to be nearer by this factor
	support       = 2                    // nodes that have to agree on a name, where there are enough
)

// inferredPrefix begins the names that nodes make up: inferredPrefix, the time of the founding, '-', the founder.
const (
	inferredPrefix = "auto-"
	foundedLayout  = "060102-150405" // UTC, so that names sort by age
	founderChars   = 6
	clockSlack     = 24 * time.Hour
)

var earliest = time.Date(2025, 1, 1, 0, 0, 0, 0, time.UTC) // no clock that is right was before

// sighting is a member that this node has measured.
type sighting struct {
	id       peer.ID
	zone     string
	inferred bool
	rtt      time.Duration
}

// zoner finds out in which zone a node stands that was not told, from what it sees window by window. It decides only;
// it is not safe for concurrent use.
type zoner struct {
	self peer.ID
	name string // "" = not decided

	waited int    // windows with others in sight and no zone to be in
	rival  string // the better name of the last windows
	streak int    // how many they are
}

// faction is those in sight, and perhaps this node, that tell one name.
type faction struct {
	name  string
	count int             // of the near ones, this node among them
	far   int             // who tell it elsewhere
	rtts  []time.Duration // of the near ones, sorted; empty if it is this node alone
}

// here reports whether the name is one of this place: more tell it here than elsewhere. Else a liar could lead a node,
// and all that follow it, into the zone of another place.
func (f *faction) here() bool { return len(f.rtts) > f.far }

func (f *faction) labelled() bool { return !strings.HasPrefix(f.name, inferredPrefix) }

// window takes in what is seen now and reports whether the name changed. It is called once a window.
func (z *zoner) window(now time.Time, seen []sighting) bool {
	list, outside := z.factions(now, seen)
	best := z.best(list)
	switch {
	case best == "" && (z.name == "" || outside) && len(seen) > 0:
		z.waited++
		if best = z.found(now, seen); best == "" {
			return false
		}
	case best == z.name || best == "":
		z.rival, z.streak, z.waited = "", 0, 0
		return false
	case z.name != "":
		if best != z.rival {
			z.rival, z.streak = best, 0
		}
		if z.streak++; z.streak < changeWindows {
			return false
		}
	}
	z.name, z.rival, z.streak, z.waited = best, "", 0, 0
	return true
}

// factions counts the names told here, in their order. outside: the others of the node's own zone are elsewhere, it
// has moved or was misled.
func (z *zoner) factions(now time.Time, seen []sighting) (list []*faction, outside bool) {
	byName := make(map[string]*faction)
	get := func(name string) *faction {
		if byName[name] == nil {
			byName[name] = &faction{name: name}
		}
		return byName[name]
	}
	for _, s := range seen {
		switch f := get(s.zone); {
		case s.rtt <= nearRTT:
			f.count++
			f.rtts = append(f.rtts, s.rtt)
		case s.rtt > farRTT:
			f.far++
		}
	}
	if z.name != "" {
		own := get(z.name)
		if outside = own.far > len(own.rtts); !outside {
			own.count++
		}
	}
	for name, f := range byName {
		if slices.Sort(f.rtts); isPlace(name, now) && (f.here() || name == z.name && !outside) {
			list = append(list, f)
		}
	}
	slices.SortFunc(list, func(a, b *faction) int { return cmp.Compare(a.name, b.name) })
	return list, outside
}

// best picks the name to go by, "" if none is told.
func (z *zoner) best(list []*faction) string {
	total, agreed := 0, false
	for _, f := range list {
		total += f.count
		agreed = agreed || f.count >= support
	}
	var best *faction
	for _, f := range list {
		if total > support && agreed && f.count < support {
			continue // one liar, or a node on its way here
		}
		if best == nil || z.better(f, best) {
			best = f
		}
	}
	if best == nil {
		return ""
	}
	return best.name
}

// better reports whether a goes before b: labels before inferred names, the nearest label, the oldest inferred name.
func (z *zoner) better(a, b *faction) bool {
	switch {
	case a.labelled() != b.labelled():
		return a.labelled()
	case !a.labelled():
		return a.name < b.name
	}
	da, db := a.median(), b.median()
	switch z.name {
	case a.name:
		return da <= halfAsFar*db
	case b.name:
		return halfAsFar*da < db
	}
	return da < db
}

// median is the distance of the others of a faction; a node that is alone in it keeps to it.
func (f *faction) median() time.Duration {
	if len(f.rtts) == 0 {
		return 0
	}
	return f.rtts[len(f.rtts)/2]
}

// found returns a new name if it is for this node to make one: the least id nearby of those without a zone, or
// whoever has waited for that one twice as long. A node that has a zone waits as long as for another change.
func (z *zoner) found(now time.Time, seen []sighting) string {
	wait := foundWindows
	if z.name != "" {
		wait = changeWindows
	}
	if z.waited < wait || now.Before(earliest) {
		return ""
	}
	for _, s := range seen {
		if s.rtt <= nearRTT && s.inferred && s.zone == Undecided && s.id < z.self && z.waited < 2*foundWindows {
			return ""
		}
	}
	sum := sha256.Sum256([]byte(z.self))
	id := strings.ToLower(base32.StdEncoding.EncodeToString(sum[:]))[:founderChars]
	return inferredPrefix + now.UTC().Format(foundedLayout) + "-" + id
}

// isPlace reports whether a zone's name names a place: Undecided does not, nor does a made up name from the future
// or of another form.
func isPlace(name string, now time.Time) bool {
	if name == Undecided || name == "" {
		return false
	}
	rest, madeUp := strings.CutPrefix(name, inferredPrefix)
	if !madeUp {
		return true
	}
	if len(rest) != len(foundedLayout)+1+founderChars || rest[len(foundedLayout)] != '-' {
		return false
	}
	founded, err := time.Parse(foundedLayout, rest[:len(foundedLayout)])
	return err == nil && !founded.Before(earliest) && !founded.After(now.Add(clockSlack))
}
