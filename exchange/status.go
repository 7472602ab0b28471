package exchange

import (
	"slices"
	"strings"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/meshd-project/meshd/exchange/store"
	"github.com/meshd-project/meshd/exchange/swarm"
	"github.com/opencontainers/go-digest"
)

// Status is what the exchange has done since its start and does now.
type Status struct {
	BytesIn        Sources       `json:"bytes_in"`
	BytesOut       Sources       `json:"bytes_out"`       // to peers; disk and origin are always 0
	ClientBytes    int64         `json:"client_bytes"`    // handed to local readers
	OriginRequests int64         `json:"origin_requests"` // ranges asked for
	DuplicateBytes int64         `json:"duplicate_bytes"` // came over the network and led to nothing
	Pulls          []Pull        `json:"pulls"`           // under way, oldest first
	Quarantined    []Quarantined `json:"quarantined"`
	StreamedBytes  int64         `json:"streamed_bytes"`     // handed to local readers out of memory, and not kept
	NotKept        *Shortage     `json:"not_kept,omitempty"` // why blobs are not; absent while the disk takes them
}

// Pull is a blob on its way into the store.
type Pull struct {
	Digest  digest.Digest `json:"digest"`
	Private bool          `json:"private,omitempty"` // given out for credentials only
	Size    int64         `json:"size"`              // -1 while unknown
	Have    int64         `json:"have"`              // bytes of verified pieces
	Readers int           `json:"readers"`
	Class   string        `json:"class"`
	Started time.Time     `json:"started"`
	BytesIn Sources       `json:"bytes_in"`
	// Reader is the peer that reads all of it, while the origin tells no size; empty if that is this node or nobody yet.
	Reader peer.ID `json:"reader,omitempty"`
	// Spooled is how many bytes this node has read of it then.
	Spooled int64 `json:"spooled,omitempty"`
	// Streamed: it goes to its readers only, for the disk has no room.
	Streamed bool `json:"streamed,omitempty"`
}

// Quarantined is a peer that is not used for a time.
type Quarantined struct {
	Peer  peer.ID   `json:"peer"`
	Until time.Time `json:"until"`
	Why   string    `json:"why"`
}

// Status returns a snapshot.
func (x *Exchange) Status() Status {
	st := Status{
		BytesIn:        x.accounts.in.sources(),
		BytesOut:       x.accounts.out.sources(),
		ClientBytes:    x.accounts.clients.Load(),
		OriginRequests: x.accounts.originRequests.Load(),
		DuplicateBytes: x.accounts.duplicate.Load(),
		StreamedBytes:  x.accounts.streamed.Load(),
		NotKept:        x.shortage(),
		Pulls:          []Pull{},
		Quarantined:    []Quarantined{},
	}
	now := time.Now()
	x.mu.Lock()
	sessions := make([]*session, 0, len(x.sessions))
	for _, s := range x.sessions {
		if !s.asleep() {
			sessions = append(sessions, s)
		}
	}
	for id, b := range x.banned {
		if now.Before(b.until) {
			st.Quarantined = append(st.Quarantined, Quarantined{Peer: id, Until: b.until, Why: failureText(b.why)})
		}
	}
	x.mu.Unlock()
	for _, s := range sessions {
		st.Pulls = append(st.Pulls, s.status())
	}
	slices.SortFunc(st.Pulls, func(a, b Pull) int { return a.Started.Compare(b.Started) })
	slices.SortFunc(st.Quarantined, func(a, b Quarantined) int { return strings.Compare(string(a.Peer), string(b.Peer)) })
	return st
}

// Pull returns the blob of that name in the store that is on its way, as in Status.
func (x *Exchange) Pull(name digest.Digest) (Pull, bool) {
	s := x.session(name)
	if s == nil || s.asleep() {
		return Pull{}, false
	}
	return s.status(), true
}

func (s *session) status() Pull {
	s.mu.Lock()
	defer s.mu.Unlock()
	content, private := store.Content(s.digest)
	p := Pull{Digest: content, Private: private, Size: s.size, Readers: s.readers, Class: "background", Started: s.started, BytesIn: s.in.sources(), Streamed: s.unkept.on}
	if s.class == swarm.Foreground {
		p.Class = "foreground"
	}
	if s.size < 0 {
		p.Reader, p.Spooled = peer.ID(s.reader), s.spooled
	}
	if s.size > 0 {
		p.Have = min(int64(s.held)*s.layout.PieceSize, s.size)
	}
	return p
}
