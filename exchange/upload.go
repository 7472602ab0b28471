package exchange

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	stdlog "log"
	"net"
	"net/http"
	"os"
	"sync"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/meshd-project/meshd/exchange/store"
	"github.com/meshd-project/meshd/exchange/swarm"
	"github.com/meshd-project/meshd/exchange/wire"
	"github.com/opencontainers/go-digest"
	"golang.org/x/sync/errgroup"
)

// Bounds of the data port.
const (
	headerTimeout  = 5 * time.Second
	keepAlive      = 2 * time.Minute // between requests; longer than the client's
	decisionLimit  = 30 * time.Second
	maxHeaderBytes = 8 << 10
	overloadWait   = 100 * time.Millisecond
)

// uploadSlot is a request that waits for the core's decision.
type uploadSlot struct{ decided chan decision }

// decision is the core's answer to a request.
type decision struct {
	serve bool
	wait  time.Duration // if not served: ask again after this; 0: not here
	load  uint8
}

// newServer returns the server of the data port.
func (x *Exchange) newServer() *http.Server {
	slots := make(chan struct{}, x.cfg.MaxUploads)
	return &http.Server{
		Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if r.ContentLength != 0 {
				turnAway(w, http.StatusBadRequest, "no body wanted")
				return
			}
			select {
			case slots <- struct{}{}:
				defer func() { <-slots }()
				x.serveHTTP(w, r)
			default:
				refuse(w, decision{wait: overloadWait, load: 255})
			}
		}),
		ConnContext:       func(ctx context.Context, c net.Conn) context.Context { return withClient(ctx, c) },
		ReadHeaderTimeout: headerTimeout,
		IdleTimeout:       keepAlive,
		MaxHeaderBytes:    maxHeaderBytes,
		TLSNextProto:      map[string]func(*http.Server, *tls.Conn, http.Handler){},
		ErrorLog:          stdlog.New(debugLog{}, "", 0),
	}
}

// serveData serves the data port until it is closed.
func (x *Exchange) serveData(ctx context.Context, server *http.Server) error {
	if !x.cfg.Plaintext {
		return server.Serve(x.secured(x.cfg.Transport))
	}
	f := x.newFork(x.cfg.Transport)
	var g errgroup.Group
	g.Go(func() error { f.run(ctx); return nil })
	g.Go(func() error { return server.Serve(f.plain) })
	g.Go(func() error { return server.Serve(f.tls) })
	return g.Wait()
}

// debugLog takes net/http's complaints about strangers' connections.
type debugLog struct{}

func (debugLog) Write(p []byte) (int, error) {
	log.Debugw("data port", "err", string(p))
	return len(p), nil
}

// serveHTTP answers one request for a piece.
func (x *Exchange) serveHTTP(w http.ResponseWriter, r *http.Request) {
	id, send, err := x.requester(r)
	switch {
	case err != nil, !x.connected(id), x.isBanned(id):
		turnAway(w, http.StatusForbidden, "members only")
		return
	case r.Method != http.MethodGet:
		turnAway(w, http.StatusMethodNotAllowed, "GET only")
		return
	}
	d, i, err := wire.ParsePiecePath(r.URL.Path)
	if err != nil {
		turnAway(w, http.StatusBadRequest, "no such path")
		return
	}
	p, err := x.openPiece(d, i)
	if err != nil {
		refuse(w, decision{})
		return
	}
	defer p.close()
	xfer, decided := x.register()
	x.post(swarm.PieceRequested{From: swarm.PeerID(id), Digest: d, Piece: i, Xfer: xfer})
	dec, ok := x.awaitDecision(r.Context(), xfer, decided)
	if !ok {
		panic(http.ErrAbortHandler) // the requester is gone, or we are going
	}
	if !dec.serve {
		refuse(w, dec)
		return
	}
	err = send(w, r, id, p)
	x.post(swarm.PieceServed{Xfer: xfer, OK: err == nil})
	if err != nil {
		log.Debugw("upload failed", "peer", id, "blob", d, "piece", i, "err", err)
		panic(http.ErrAbortHandler)
	}
}

// sender writes a piece as the answer to a request of a peer.
type sender func(w http.ResponseWriter, r *http.Request, to peer.ID, p *localPiece) error

// requester returns the peer whose request it is, and how it is answered.
func (x *Exchange) requester(r *http.Request) (peer.ID, sender, error) {
	if r.TLS == nil {
		id, ticket, err := x.plainClient(r)
		return id, func(w http.ResponseWriter, r *http.Request, to peer.ID, p *localPiece) error {
			return x.sendPlain(w, r, to, p, ticket)
		}, err
	}
	id, conn, err := clientOf(r)
	return id, func(w http.ResponseWriter, r *http.Request, to peer.ID, p *localPiece) error {
		return x.sendPiece(w, r, conn, to, p)
	}, err
}

// turnAway refuses a request that no member makes and ends its connection, whatever else was to come on it.
func turnAway(w http.ResponseWriter, status int, why string) {
	_ = http.NewResponseController(w).SetReadDeadline(time.Now())
	w.Header().Set("Connection", "close")
	http.Error(w, why, status)
}

func refuse(w http.ResponseWriter, d decision) {
	if d.wait <= 0 {
		w.WriteHeader(http.StatusNotFound)
		return
	}
	wire.SetBusy(w.Header(), d.wait, d.load)
	w.WriteHeader(http.StatusServiceUnavailable)
}

// register makes a slot for the core's decision on a new upload.
func (x *Exchange) register() (xfer uint64, decided <-chan decision) {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.lastXfer++
	slot := &uploadSlot{decided: make(chan decision, 1)}
	x.uploads[x.lastXfer] = slot
	return x.lastXfer, slot.decided
}

// awaitDecision waits for the core. If the requester goes away meanwhile, the core is told.
func (x *Exchange) awaitDecision(ctx context.Context, xfer uint64, decided <-chan decision) (decision, bool) {
	timer := time.NewTimer(decisionLimit)
	defer timer.Stop()
	select {
	case d := <-decided:
		return d, true
	case <-x.done:
		return decision{}, false
	case <-ctx.Done():
	case <-timer.C:
	}
	x.mu.Lock()
	delete(x.uploads, xfer)
	x.mu.Unlock()
	x.post(swarm.PieceServed{Xfer: xfer})
	return decision{}, false
}

// decide hands the core's decision to the upload, if it still waits.
func (x *Exchange) decide(xfer uint64, d decision) {
	x.mu.Lock()
	defer x.mu.Unlock()
	if slot := x.uploads[xfer]; slot != nil {
		delete(x.uploads, xfer)
		slot.decided <- d
	}
}

// sendPiece writes a piece with its attestation. The last write is flushed when it returns.
func (x *Exchange) sendPiece(w http.ResponseWriter, r *http.Request, conn *corkConn, to peer.ID, p *localPiece) error {
	a, err := p.attestation(x.notary)
	if err != nil {
		return err
	}
	pieceHeader(w.Header(), a, p.n)
	conn.cork(2 * x.cfg.Limits.Upload.Chunk())
	defer func() { _ = conn.uncork() }()
	_, own := x.zoneOf(to)
	out := x.accounts.out.peer(own)
	rc := http.NewResponseController(w)
	buf := chunks.Get().(*[]byte)
	defer chunks.Put(buf)
	for off := int64(0); off < p.n; {
		b := (*buf)[:min(p.n-off, int64(x.cfg.Limits.Upload.Chunk()))]
		if _, err := p.src.ReadAt(b, p.off+off); err != nil && err != io.EOF {
			return fmt.Errorf("read: %w", err)
		}
		if err := x.cfg.Limits.Upload.Wait(r.Context(), swarm.Foreground, len(b)); err != nil {
			return err
		}
		_ = rc.SetWriteDeadline(x.writeBy(len(b) + chunkSize)) // as much may be gathered
		m, err := w.Write(b)
		out.Add(int64(m))
		if err != nil {
			return err
		}
		off += int64(m)
	}
	_ = rc.SetWriteDeadline(x.writeBy(chunkSize))
	if err := rc.Flush(); err != nil {
		return err
	}
	if err := conn.uncork(); err != nil {
		return err
	}
	return rc.SetWriteDeadline(time.Time{})
}

var chunks = sync.Pool{New: func() any { b := make([]byte, chunkSize); return &b }}

// localPiece is a verified piece on this node's disk.
type localPiece struct {
	digest digest.Digest
	index  swarm.PieceIndex
	size   int64 // of the blob
	off, n int64
	src    io.ReaderAt
	hash   swarm.Hash
	file   func() (*os.File, error) // the blob, in a descriptor of the caller's own; the piece is proven
	proof  []byte                   // who vouches; nil: this node, which has verified the whole blob
	close  func()
}

var errNotHere = errors.New("piece is not here")

// openPiece finds a piece in the session of its blob, or in the store.
func (x *Exchange) openPiece(d digest.Digest, i swarm.PieceIndex) (*localPiece, error) {
	if s := x.session(d); s != nil {
		if p := s.openPiece(x, i); p != nil {
			return p, nil
		}
	}
	b, err := x.store.Get(d)
	if err != nil {
		return nil, err
	}
	l := swarm.LayoutOf(b.Size())
	off, n := l.Span(i)
	if n == 0 || b.PieceSize() != l.PieceSize {
		_ = b.Close()
		return nil, errNotHere
	}
	x.offer(d)
	return &localPiece{
		digest: d, index: i, size: b.Size(), off: off, n: n, src: b, hash: b.Hash(int(i)),
		file:  func() (*os.File, error) { return provenFile(b, off, n) },
		close: func() { _ = b.Close() },
	}, nil
}

// provenFile opens a blob whose n bytes from off are what they should be.
func provenFile(b *store.Blob, off, n int64) (*os.File, error) {
	if err := b.Check(off, n); err != nil {
		return nil, err
	}
	return b.OpenFile()
}

// openPiece returns a piece that the session holds, nil if it does not.
func (s *session) openPiece(x *Exchange, i swarm.PieceIndex) *localPiece {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.refs == 0 || s.file == nil || !s.have.Has(i) || s.unkept.on && (s.unkept.suspect != nil || !s.part.Have(int(i))) {
		return nil
	}
	p := &localPiece{digest: s.digest, index: i, size: s.size, src: s.file, file: s.openFile}
	p.off, p.n = s.layout.Span(i)
	switch {
	case s.blob != nil:
		p.hash = s.blob.Hash(int(i))
	case s.part != nil:
		p.hash, p.proof = s.part.Hash(int(i)), s.part.Proof(int(i))
	default:
		return nil
	}
	s.refs++
	p.close = func() { x.release(s) }
	return p
}

// attestation returns whose word the piece rests on. A piece of a blob that was verified as a whole rests on ours.
func (p *localPiece) attestation(n notary) (wire.Attestation, error) {
	if p.proof != nil {
		return wire.ParseProof(p.hash, p.proof)
	}
	return n.attest(p.digest, p.size, p.index, p.hash)
}
