package trust

import (
	"context"
	"encoding/base64"
	"errors"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"github.com/libp2p/go-libp2p"
	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/p2p/security/noise"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m,
		goleak.IgnoreTopFunction("github.com/ipfs/go-log/v2/writer.(*MirrorWriter).logRoutine"),
	)
}

func b64(b []byte) string { return base64.StdEncoding.EncodeToString(b) }

func nowhere([]byte) error { return nil }

func TestGate(t *testing.T) {
	key := operator('a')
	self, a, b := newPeer(t), newPeer(t), newPeer(t)
	var saved []byte
	g := NewGate(self, public(key), nil, func(raw []byte) error { saved = raw; return nil })
	if !g.Admits(a) {
		t.Fatal("nothing said, and not admitted")
	}
	second := sign(t, key, 2, a)
	if err := g.Take(second); err != nil || g.Admits(a) || !g.Admits(b) {
		t.Fatalf("revoked: %v", err)
	}
	for name, row := range map[string]struct {
		raw  []byte
		want error
	}{
		"the same":         {second, ErrOld},
		"an old one":       {sign(t, key, 1), ErrOld},
		"another operator": {sign(t, operator('b'), 9), ErrList},
		"nonsense":         {[]byte("x"), ErrList},
	} {
		if err := g.Take(row.raw); !errors.Is(err, row.want) || g.Admits(a) {
			t.Errorf("%s: %v", name, err)
		}
	}
	restarted := NewGate(self, public(key), saved, nowhere)
	if restarted.Admits(a) || !errors.Is(restarted.Take(sign(t, key, 1)), ErrOld) {
		t.Error("forgotten over a restart")
	}
	if other := NewGate(self, public(operator('b')), saved, nowhere); !other.Admits(a) {
		t.Error("the list of an operator who is none any more counts")
	}
	if nobody := NewGate(self, nil, saved, nowhere); !nobody.Admits(a) || !errors.Is(nobody.Take(second), ErrNoOperator) {
		t.Error("without an operator a list counts")
	}
	if err := g.Take(sign(t, key, 3, self)); err != nil || !g.Admits(a) || !g.Admits(self) {
		t.Errorf("taken off again: %v", err)
	}
	g.Allow([]peer.ID{b})
	if g.Admits(a) || !g.Admits(b) || !g.Admits(self) {
		t.Error("the allow list")
	}
	if err := g.Take(sign(t, key, 4, b)); err != nil || g.Admits(b) {
		t.Errorf("allowed and revoked: %v", err)
	}
	g.Allow(nil)
	if !g.Admits(a) || g.Admits(b) {
		t.Error("no allow list")
	}
}

// gated is a host with a gate that runs.
type gated struct {
	host.Host
	*Gate
	cut atomic.Int32
}

func newGated(t *testing.T, name byte) *gated {
	t.Helper()
	var x gated
	x.Gate = NewGate("", public(operator(name)), nil, nowhere)
	h, err := libp2p.New(libp2p.ListenAddrStrings("/ip4/127.0.0.1/tcp/0"), libp2p.ConnectionGater(x.Gate), libp2p.Security(noise.ID, noise.New),
		libp2p.DisableRelay(), libp2p.DisableMetrics(), libp2p.DisableIdentifyAddressDiscovery())
	if err != nil {
		t.Fatal(err)
	}
	x.Host, x.self = h, h.ID()
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- x.Run(ctx, h, func(peer.ID) { x.cut.Add(1) }) }()
	t.Cleanup(func() {
		cancel()
		if err := errors.Join(<-done, h.Close()); err != nil {
			t.Error(err)
		}
	})
	eventually(t, "it answers", func() bool { return slices.Contains(h.Mux().Protocols(), protocolID) })
	return &x
}

func (x *gated) dial(t *testing.T, to *gated) error {
	t.Helper()
	return x.Connect(t.Context(), peer.AddrInfo{ID: to.ID(), Addrs: to.Addrs()})
}

func eventually(t *testing.T, what string, done func() bool) {
	t.Helper()
	deadline := time.After(time.Minute)
	for !done() {
		select {
		case <-time.After(5 * time.Millisecond):
		case <-deadline:
			t.Fatalf("waited in vain for %s", what)
		}
	}
}

// A list given to one node reaches those that it is connected to, directly or not, over connections that are there and
// over new ones; who is on it is cut and not let in again, whoever dials; a node with another operator takes nothing.
func TestListSpreads(t *testing.T) {
	a, b, c, other := newGated(t, 'a'), newGated(t, 'a'), newGated(t, 'a'), newGated(t, 'b')
	bad, late := newGated(t, 'a'), newGated(t, 'a')
	for _, pair := range [][2]*gated{{a, b}, {b, c}, {b, other}, {c, bad}, {bad, a}} {
		if err := pair[0].dial(t, pair[1]); err != nil {
			t.Fatal(err)
		}
	}
	if err := a.Take(sign(t, operator('a'), 5, bad.ID())); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the list", func() bool { return !b.Admits(bad.ID()) && !c.Admits(bad.ID()) })
	eventually(t, "the cut", func() bool { return len(bad.Network().Peers()) == 0 })
	if a.cut.Load() == 0 || c.cut.Load() == 0 {
		t.Error("the rest of the node was not told")
	}
	if err := late.dial(t, c); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the list at a newcomer", func() bool { return !late.Admits(bad.ID()) })
	for name, err := range map[string]error{"in": bad.dial(t, late), "out": late.dial(t, bad)} {
		if err == nil && late.Network().Connectedness(bad.ID()) == network.Connected {
			t.Errorf("a revoked peer is connected, %s", name)
		}
	}
	if !other.Admits(bad.ID()) {
		t.Error("a list of another operator counts")
	}
	if err := other.dial(t, bad); err != nil {
		t.Errorf("who has another operator: %v", err)
	}
}

// A frame longer than a list is refused before it is read, and a peer that says nothing holds nothing up.
func TestStreamIsBounded(t *testing.T) {
	a, b := newGated(t, 'a'), newGated(t, 'a')
	if err := a.dial(t, b); err != nil {
		t.Fatal(err)
	}
	s, err := a.NewStream(t.Context(), b.ID(), protocolID)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Reset() //nolint:errcheck // of a test
	if _, err := s.Write([]byte{0xff, 0xff, 0xff, 0xff}); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Read(make([]byte, 1)); err == nil {
		t.Error("answered")
	}
	for range maxHandled + 4 { // silent streams, all but some refused at once
		if s, err := a.NewStream(t.Context(), b.ID(), protocolID); err == nil {
			defer s.Reset()    //nolint:errcheck // of a test
			s.Write([]byte{0}) //nolint:errcheck // the peer may have refused it
		}
	}
	if err := b.Take(sign(t, operator('a'), 5)); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the list beside silent streams", func() bool { l, _ := a.Revoked(); return l.Serial == 5 })
}
