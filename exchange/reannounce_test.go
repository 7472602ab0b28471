package exchange

import (
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/opencontainers/go-digest"
)

// heardGossip remembers what was announced.
type heardGossip struct {
	mu   sync.Mutex
	held []digest.Digest
}

func (g *heardGossip) Announce(d digest.Digest, holding bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if holding {
		g.held = append(g.held, d)
	}
}

func (g *heardGossip) Holders(digest.Digest) []peer.ID { return nil }

func (g *heardGossip) heard(d digest.Digest) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	return slices.Contains(g.held, d)
}

// What a restarted node holds is known to the mesh seconds after it is back, and not told to nobody before.
func TestRestartedHolderAnnouncesSoon(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		data, d := content(1<<20, 9)
		g := &heardGossip{}
		hosts, ports := simulated(t, 2)
		a := startNode(t, nodeConfig{host: hosts[0], port: ports.Listen("a"), gossip: g, edit: func(c *Config) { c.Reannounce = time.Hour }})
		if err := a.st.Put(d, "", data); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Minute)
		if g.heard(d) {
			t.Error("announced to nobody")
		}
		mesh(t, a, startNode(t, nodeConfig{host: hosts[1], port: ports.Listen("b")}))
		time.Sleep(2*firstQuiet + firstLook)
		if !g.heard(d) {
			t.Error("not announced within seconds")
		}
	})
}
