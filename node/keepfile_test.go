package node

import (
	"context"
	"os"
	"path/filepath"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/test"
	ma "github.com/multiformats/go-multiaddr"

	"github.com/meshd-project/meshd/dht/gossip"
	"github.com/meshd-project/meshd/node/topology"
)

// A file is written when its text changes and at the end, again after a failure, and not for a nil text.
func TestKeepFile(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir := filepath.Join(t.TempDir(), "away")
		path := filepath.Join(dir, "file")
		var text atomic.Value
		text.Store([]byte(nil))
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error)
		go func() { done <- keepFile(ctx, path, time.Second, func() []byte { return text.Load().([]byte) }) }()
		step := func(now, want string, do func()) {
			t.Helper()
			do()
			time.Sleep(time.Second)
			synctest.Wait()
			if got, _ := os.ReadFile(path); string(got) != want {
				t.Errorf("%s: the file has %q, want %q", now, got, want)
			}
		}
		step("no directory", "", func() { text.Store([]byte("a")) })
		step("tried again", "a", func() { _ = os.Mkdir(dir, 0o700) })
		step("nil", "a", func() { text.Store([]byte(nil)) })
		step("the same is not written", "other", func() { text.Store([]byte("a")); _ = os.WriteFile(path, []byte("other"), 0o600) })
		step("empty", "", func() { text.Store([]byte{}) })
		text.Store([]byte("end"))
		cancel()
		if err := <-done; err != nil {
			t.Fatal(err)
		}
		if got, _ := os.ReadFile(path); string(got) != "end" {
			t.Errorf("at the end the file has %q", got)
		}
	})
}

func TestPeersText(t *testing.T) {
	a, b, c := test.RandPeerIDFatal(t), test.RandPeerIDFatal(t), test.RandPeerIDFatal(t)
	member := func(id peer.ID, connected, seed bool) topology.Member {
		return topology.Member{
			Member:    gossip.Member{ID: id, Seed: seed, Addrs: []ma.Multiaddr{ma.StringCast("/ip4/10.0.0.1/tcp/1")}},
			Connected: connected,
		}
	}
	if got := peersText([]topology.Member{member(a, false, false)}); got != nil {
		t.Errorf("nobody is connected: %q", got)
	}
	at := func(id peer.ID) string { return "/ip4/10.0.0.1/tcp/1/p2p/" + id.String() + "\n" }
	got := peersText([]topology.Member{member(a, true, false), member(b, false, true), member(c, true, true)})
	if want := at(c) + at(a); string(got) != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
}
