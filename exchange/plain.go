package exchange

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"sync"
	"time"

	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/protocol"
	"github.com/meshd-project/meshd/exchange/swarm"
	"github.com/meshd-project/meshd/exchange/wire"
)

// TicketProtocol is the id of the streams on which a node that has Config.Plaintext gives tickets.
const TicketProtocol protocol.ID = "/meshd/ticket/1"

const (
	ticketLife  = time.Minute // of a ticket from its giving
	ticketRenew = ticketLife / 2
	noTicket    = time.Minute // how long a peer without tickets is not asked for one

	maxTicketStreams = 64
)

// tickets are those of other nodes, and the secret of our own.
type tickets struct {
	secret [32]byte

	mu    sync.Mutex
	known map[peer.ID]*peerTicket
}

// peerTicket is what a peer gave us; its lock is held while it is asked, so that it is asked once.
type peerTicket struct {
	mu     sync.Mutex
	ticket wire.Ticket
	err    error     // it gave none
	until  time.Time // ask again after this
}

func newTickets() *tickets {
	t := &tickets{known: make(map[peer.ID]*peerTicket)}
	_, _ = rand.Read(t.secret[:])
	return t
}

func (t *tickets) of(id peer.ID) *peerTicket {
	t.mu.Lock()
	defer t.mu.Unlock()
	p := t.known[id]
	if p == nil {
		p = &peerTicket{}
		t.known[id] = p
	}
	return p
}

// forget drops what a peer gave: it has left, or its tickets no longer help.
func (t *tickets) forget(id peer.ID) {
	t.mu.Lock()
	defer t.mu.Unlock()
	delete(t.known, id)
}

// ticket returns a peer's ticket, asking for one if need be; false if pieces are to come over TLS.
func (x *Exchange) ticket(ctx context.Context, id peer.ID) (wire.Ticket, bool) {
	if !x.cfg.Plaintext {
		return wire.Ticket{}, false
	}
	p := x.tickets.of(id)
	p.mu.Lock()
	defer p.mu.Unlock()
	if time.Now().Before(p.until) {
		return p.ticket, p.err == nil
	}
	p.ticket, p.err = x.askTicket(ctx, id)
	p.until = time.Now().Add(ticketRenew)
	if p.err != nil {
		p.until = time.Now().Add(noTicket)
		log.Debugw("pieces come over TLS", "peer", id, "err", p.err)
	}
	return p.ticket, p.err == nil
}

func (x *Exchange) askTicket(ctx context.Context, id peer.ID) (wire.Ticket, error) {
	ctx, cancel := context.WithTimeout(network.WithNoDial(ctx, "ticket"), cardTimeout)
	defer cancel()
	st, err := x.host.NewStream(ctx, id, TicketProtocol)
	if err != nil {
		return wire.Ticket{}, err
	}
	defer func() { _ = st.Reset() }()
	_ = st.SetDeadline(time.Now().Add(cardTimeout))
	b := make([]byte, wire.TicketSize)
	if err := st.CloseWrite(); err != nil {
		return wire.Ticket{}, err
	}
	if _, err := io.ReadFull(st, b); err != nil {
		return wire.Ticket{}, fmt.Errorf("read ticket: %w", err)
	}
	return wire.DecodeTicket(b)
}

// giveTickets answers streams that ask for tickets until the returned function is called.
func (x *Exchange) giveTickets() (stop func()) {
	if !x.cfg.Plaintext {
		return func() {}
	}
	slots := make(chan struct{}, maxTicketStreams)
	x.host.SetStreamHandler(TicketProtocol, func(st network.Stream) {
		select {
		case slots <- struct{}{}:
			defer func() { <-slots }()
		default:
			_ = st.Reset()
			return
		}
		id := st.Conn().RemotePeer()
		if x.isBanned(id) {
			_ = st.Reset()
			return
		}
		t := wire.NewTicket(x.tickets.secret[:], swarm.PeerID(id), time.Now().Add(ticketLife))
		if err := write(st, wire.AppendTicket(nil, t)); err != nil {
			_ = st.Reset()
			return
		}
		_ = st.Close()
	})
	return func() { x.host.RemoveStreamHandler(TicketProtocol) }
}

// plainClient returns the member that asks in plaintext, by the ticket that its request proves to have. Its connection is that
// member's from then on.
func (x *Exchange) plainClient(r *http.Request) (peer.ID, wire.Ticket, error) {
	c, err := wire.ParseClaim(r.Header)
	if err != nil {
		return "", wire.Ticket{}, err
	}
	now := time.Now()
	if now.After(c.Until) || c.Until.After(now.Add(ticketLife+time.Second)) {
		return "", wire.Ticket{}, errors.New("ticket has ended")
	}
	t := wire.NewTicket(x.tickets.secret[:], c.Peer, c.Until)
	if !t.Allows(c, r.URL.Path) {
		return "", wire.Ticket{}, errors.New("no ticket of this node")
	}
	conn, ok := r.Context().Value(clientKey{}).(*dataConn)
	if !ok {
		return "", wire.Ticket{}, errors.New("no data connection")
	}
	return peer.ID(c.Peer), t, x.admit(conn, peer.ID(c.Peer))
}

// sendPlain writes a piece straight from its file: by sendfile, where the system has it.
func (x *Exchange) sendPlain(w http.ResponseWriter, r *http.Request, to peer.ID, p *localPiece, t wire.Ticket) error {
	a, err := p.attestation(x.notary)
	if err != nil {
		return err
	}
	f, err := p.file()
	if err != nil {
		return err
	}
	defer f.Close()
	if _, err := f.Seek(p.off, io.SeekStart); err != nil {
		return err
	}
	pieceHeader(w.Header(), a, p.n)
	t.SealAnswer(w.Header(), r.URL.Path, a)
	_, own := x.zoneOf(to)
	out := x.accounts.out.peer(own)
	rc := http.NewResponseController(w)
	for left := p.n; left > 0; {
		n := min(left, int64(x.cfg.Limits.Upload.Chunk()))
		if err := x.cfg.Limits.Upload.Wait(r.Context(), swarm.Foreground, int(n)); err != nil {
			return err
		}
		_ = rc.SetWriteDeadline(x.writeBy(int(n)))
		m, err := io.CopyN(w, f, n)
		out.Add(m)
		if err != nil {
			return err
		}
		left -= m
	}
	if err := rc.Flush(); err != nil {
		return err
	}
	return rc.SetWriteDeadline(time.Time{})
}

func pieceHeader(h http.Header, a wire.Attestation, n int64) {
	wire.SetAttestation(h, a)
	h["Content-Length"] = []string{strconv.FormatInt(n, 10)}
	h["Content-Type"] = []string{"application/octet-stream"}
	h["Date"] = nil
}
