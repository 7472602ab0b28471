package netsim

import (
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/meshd-project/meshd/exchange/swarm"
)

func (h *host) blob(d digest.Digest) int32 { return h.w.layers.find(d) }

// start tells the core whom the node knows and what is on its disk.
func (h *host) start() {
	if h.w.t.nodes[h.id].relay {
		h.step(h.w.t.member(h.id, h.id)) // its role is no part of the core's configuration
	}
	for _, i := range h.w.byID {
		if h.knows(i) && i != h.id && !h.w.hosts[i].dead {
			h.step(h.w.t.member(h.id, i))
		}
	}
	for b := range h.pulls {
		if p := &h.pulls[b]; p.count > 0 {
			p.opened = p.full()
			if p.full() {
				h.step(swarm.Held{Digest: h.w.layers.list[b].digest, Size: h.w.layers.list[b].layout.Size, Have: p.have.Clone()})
				h.share(shareHoldingGlobal, int32(b))
			}
		}
	}
}

func (h *host) knows(i int32) bool { return h.known.has(i) }

// meet names a peer to the core before anything of it, if it did not know it.
func (h *host) meet(i int32) {
	if !h.knows(i) {
		h.know(i)
	}
}

func (h *host) know(i int32) {
	h.known.add(i)
	h.step(h.w.t.member(h.id, i))
}

func (h *host) lose(i int32) {
	if !h.knows(i) {
		return
	}
	h.known.remove(i)
	h.peers.forget(i)
	h.step(swarm.MemberLost{ID: h.peer(i)})
}

// send carries a message to a peer. One to a peer that was not known waits for the connection.
func (h *host) send(to swarm.PeerID, m swarm.Message) {
	i := h.w.t.indexOf(to)
	if i < 0 || i == h.id {
		return
	}
	if h.w.t.nodes[h.id].lie == lieBoast {
		m = boast(m)
	}
	h.counts.msgs++
	h.counts.msgBytes += int64(messageSize(m))
	var wait time.Duration
	if !h.knows(i) {
		wait = 2 * h.w.t.rtt(h.id, i)
	}
	h.ship(i, wait, event{kind: evMessage, msg: m})
}

// ship has an event reach another node when a message sent after a wait would.
func (h *host) ship(to int32, wait time.Duration, ev event) {
	at := h.now.Add(wait + h.w.t.flight(h.id, to))
	if until := h.w.cutBetween(h.id, to); until > h.now {
		if until.Sub(h.now) > h.w.t.s.Delays.Detect.std() {
			return // the connection is lost before it heals
		}
		at = until.Add(at.Sub(h.now) + retransmission)
	}
	if loss := float64(h.w.t.s.Network.Loss); loss > 0 {
		at = h.delayed(to, at, loss)
	}
	ev.at, ev.node, ev.from = at, to, h.id
	h.emit(ev)
}

// retransmission is the least time after which TCP sends again what nothing follows.
const retransmission = 200 * time.Millisecond

// delayed returns when a message arrives on a lossy path: a lost one is sent again, those behind it wait.
func (h *host) delayed(to int32, at swarm.Time, loss float64) swarm.Time {
	for h.rng.Float64() < loss {
		at = at.Add(max(retransmission, 2*h.w.t.rtt(h.id, to)))
	}
	if h.inOrder == nil {
		h.inOrder = map[int32]swarm.Time{}
	}
	at = max(at, h.inOrder[to])
	h.inOrder[to] = at
	return at
}

// boast turns what a node says of its pieces into a claim to all.
func boast(m swarm.Message) swarm.Message {
	if hello, ok := m.(swarm.Hello); ok && hello.Size >= 0 {
		hello.Have = swarm.FullBitmap(swarm.LayoutOf(hello.Size).Pieces())
		return hello
	}
	return m
}

// providers hands the core what discovery found; strangers are named first.
func (h *host) providers(ev *event) {
	found := swarm.ProvidersFound{Digest: h.w.layers.list[ev.blob].digest, Done: ev.flag&okay != 0}
	list, _ := ev.msg.([]int32)
	for _, i := range list {
		if i != h.id {
			h.meet(i)
			found.Peers = append(found.Peers, h.w.t.names[i])
		}
	}
	h.step(found)
}

// peer is what a node has of connections to another.
type peer struct {
	node int32      // plus one; 0: a free place
	conn            // as a sender
	up   swarm.Time // when the connection to its data port is there; 0: nobody asked for it
}

// peers is a table by node, with open addressing. A peer once met stays in it.
type peers struct {
	list []peer
	n    int
}

// at returns the entry of a node, made if there is none. It is valid until the next call.
func (t *peers) at(node int32) *peer {
	if 4*t.n >= 3*len(t.list) {
		old := t.list
		t.list = make([]peer, max(16, 2*len(old)))
		for i := range old {
			if old[i].node != 0 {
				*t.place(old[i].node - 1) = old[i]
			}
		}
	}
	p := t.place(node)
	if p.node == 0 {
		p.node = node + 1
		t.n++
	}
	return p
}

// place returns where a node is, or the free place for it.
func (t *peers) place(node int32) *peer {
	mask := uint32(len(t.list) - 1)
	for i := uint32(node) * 0x9e3779b1 >> 8; ; i++ {
		if p := &t.list[i&mask]; p.node == node+1 || p.node == 0 {
			return p
		}
	}
}

// forget drops the connections to a node.
func (t *peers) forget(node int32) {
	if t.n > 0 {
		if p := t.place(node); p.node != 0 {
			*p = peer{node: p.node}
		}
	}
}
