package exchange

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"net/http"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/meshd-project/meshd/exchange/pace"
	"github.com/meshd-project/meshd/exchange/swarm"
	"github.com/meshd-project/meshd/exchange/wire"
	"github.com/opencontainers/go-digest"
)

// transferKey names a piece request under way.
type transferKey struct {
	from   swarm.PeerID
	digest digest.Digest
	piece  swarm.PieceIndex
}

var (
	errCancelled = errors.New("cancelled")
	errTimeout   = errors.New("no piece in time")
)

// pieceFailure is a failed request as the core is to know it.
type pieceFailure struct {
	why  swarm.Failure
	wait time.Duration
	load uint8
	err  error
}

func (f *pieceFailure) Error() string { return failureText(f.why) + ": " + f.err.Error() }
func (f *pieceFailure) Unwrap() error { return f.err }

func fault(why swarm.Failure, format string, args ...any) *pieceFailure {
	return &pieceFailure{why: why, err: fmt.Errorf(format, args...)}
}

// requestPiece starts a download.
func (x *Exchange) requestPiece(ctx context.Context, a swarm.RequestPiece) {
	s := x.session(a.Digest)
	if s == nil {
		return // ended meanwhile
	}
	ctx, cancel := context.WithCancelCause(ctx)
	key := transferKey{a.To, a.Digest, a.Piece}
	x.mu.Lock()
	if old := x.transfer[key]; old != nil {
		old(errCancelled)
	}
	x.transfer[key] = cancel
	x.mu.Unlock()
	s.work.Add(1)
	if !x.spawn(func() { defer s.work.Done(); x.downloadPiece(ctx, cancel, s, a) }) {
		s.work.Done()
		cancel(ErrClosed)
	}
}

func (x *Exchange) cancelPiece(key transferKey) {
	x.mu.Lock()
	defer x.mu.Unlock()
	if cancel := x.transfer[key]; cancel != nil {
		cancel(errCancelled)
		delete(x.transfer, key)
	}
}

// downloadPiece fetches, verifies and stores a piece and tells the core how it went.
func (x *Exchange) downloadPiece(ctx context.Context, cancel context.CancelCauseFunc, s *session, a swarm.RequestPiece) {
	began := time.Now()
	end := newGrace(a.Timeout, func() { cancel(errTimeout) })
	defer end.stop()
	att, err := x.fetchPiece(ctx, s, a, end)
	cause := context.Cause(ctx)
	cancel(nil)
	x.endTransfer(transferKey{a.To, a.Digest, a.Piece}, cause)
	if err == nil {
		x.post(swarm.PieceArrived{
			Digest: a.Digest, Piece: a.Piece, From: a.To, Hash: att.Hash, Attester: att.Attester, Took: time.Since(began),
		})
		s.toldOf(a.Piece)
		return
	}
	if errors.Is(cause, errCancelled) || errors.Is(cause, ErrClosed) || errors.Is(cause, context.Canceled) {
		return
	}
	ev := swarm.PieceFailed{Digest: a.Digest, Piece: a.Piece, From: a.To, Why: swarm.FailedReset}
	var f *pieceFailure
	switch {
	case errors.Is(cause, errTimeout):
		ev.Why = swarm.FailedTimeout
	case errors.As(err, &f):
		ev.Why, ev.Wait, ev.Load = f.why, f.wait, f.load
	}
	switch ev.Why {
	case swarm.FailedHash, swarm.FailedProtocol, swarm.FailedAttestation:
		log.Warnw("piece rejected", "blob", a.Digest, "peer", peer.ID(a.To), "piece", a.Piece, "err", err)
	case swarm.FailedBusy:
	default:
		log.Debugw("piece failed", "blob", a.Digest, "peer", peer.ID(a.To), "piece", a.Piece, "err", err)
	}
	x.post(ev)
}

// endTransfer forgets a request, unless a cancelled one has been replaced by another.
func (x *Exchange) endTransfer(key transferKey, cause error) {
	x.mu.Lock()
	defer x.mu.Unlock()
	if !errors.Is(cause, errCancelled) {
		delete(x.transfer, key)
	}
}

// fetchPiece fetches a piece, checks it against its attestation and stores it.
func (x *Exchange) fetchPiece(ctx context.Context, s *session, a swarm.RequestPiece, end *grace) (wire.Attestation, error) {
	var att wire.Attestation
	s.mu.Lock()
	gen, size, l := s.gen, s.size, s.layout
	s.mu.Unlock()
	_, n := l.Span(a.Piece)
	if n == 0 {
		return att, fault(swarm.FailedProtocol, "no piece %d in %d bytes", a.Piece, size)
	}
	buf, err := x.buffers.get(ctx, n)
	if err != nil {
		return att, err
	}
	defer x.buffers.put(buf)
	resp, err := x.ask(ctx, a)
	if err != nil {
		return att, err
	}
	defer resp.Body.Close()
	if att, err = x.acceptHeaders(s, a, resp, size, n); err != nil {
		return att, err
	}
	x.post(swarm.PieceStarted{Digest: a.Digest, Piece: a.Piece, From: a.To})
	g := newGauge(x.cfg.Swarm, func() { x.post(swarm.PieceDrips{Digest: a.Digest, Piece: a.Piece, From: a.To}) })
	defer g.stop()
	if err := x.readPiece(ctx, s, peer.ID(a.To), &moving{resp.Body, end, g}, buf, att.Hash, end); err != nil {
		return att, err
	}
	kept, err := x.keepPiece(ctx, s, gen, a.Piece, buf, att)
	if err != nil {
		x.storeFailed(s, fmt.Errorf("write piece %d of %s: %w", a.Piece, a.Digest, err))
		return att, err
	}
	if !kept {
		x.accounts.duplicate.Add(n)
		if s.current(gen) {
			return att, nil // held already: of no harm
		}
		return att, errCancelled
	}
	return att, nil
}

// current reports whether pieces of a generation still count.
func (s *session) current(gen int) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.gen == gen && s.phase != failed
}

// ask sends the request and returns the answer if it is a piece.
func (x *Exchange) ask(ctx context.Context, a swarm.RequestPiece) (*http.Response, error) {
	resp, err := x.get(ctx, peer.ID(a.To), wire.PiecePath(a.Digest, a.Piece))
	if err != nil {
		return nil, err
	}
	if resp.StatusCode == http.StatusOK {
		return resp, nil
	}
	defer drop(resp)
	switch resp.StatusCode {
	case http.StatusServiceUnavailable:
		f := fault(swarm.FailedBusy, "busy")
		f.wait, f.load = wire.ParseBusy(resp.Header)
		return nil, f
	case http.StatusNotFound:
		return nil, fault(swarm.FailedNotFound, "not there")
	case http.StatusForbidden:
		return nil, fault(swarm.FailedReset, "refused as a stranger")
	}
	return nil, fault(swarm.FailedProtocol, "status %d", resp.StatusCode)
}

// get asks a peer for a path: in plaintext if it gives tickets, else over TLS. A peer that no longer knows its tickets is
// asked for another one first, once.
func (x *Exchange) get(ctx context.Context, id peer.ID, path string) (*http.Response, error) {
	for again := true; ; again = false {
		t, plain := x.ticket(ctx, id)
		scheme := "https://"
		if plain {
			scheme = "http://"
		}
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, scheme+peerHost(id)+path, nil)
		if err != nil {
			return nil, fault(swarm.FailedProtocol, "request: %w", err)
		}
		req.Header["User-Agent"] = nil
		if plain {
			t.SignRequest(req.Header, swarm.PeerID(x.self), path)
		}
		resp, err := x.client.Do(req)
		if err != nil {
			return nil, fault(swarm.FailedReset, "request: %w", err)
		}
		if !plain {
			return resp, nil
		}
		switch stale := resp.StatusCode == http.StatusForbidden || resp.StatusCode == http.StatusBadRequest; {
		case stale && again:
			x.tickets.forget(id)
			drop(resp)
		case resp.StatusCode == http.StatusOK && !sealed(t, path, resp.Header):
			drop(resp)
			return nil, fault(swarm.FailedReset, "answer in plaintext without the peer's seal: was it changed on the way?")
		default:
			return resp, nil
		}
	}
}

// sealed reports whether an answer's attestation is what the peer that gave a ticket said.
func sealed(t wire.Ticket, path string, h http.Header) bool {
	att, err := wire.ParseAttestation(h)
	return err == nil && t.Sealed(h, path, att)
}

// drop ends an answer that is not read, so that its connection can be used again if it was short.
func drop(resp *http.Response) {
	_, _ = io.Copy(io.Discard, io.LimitReader(resp.Body, 4<<10))
	_ = resp.Body.Close()
}

// acceptHeaders checks the length and the attestation of an answer before its body is read.
func (x *Exchange) acceptHeaders(s *session, a swarm.RequestPiece, resp *http.Response, size, n int64) (wire.Attestation, error) {
	if resp.ContentLength != n {
		return wire.Attestation{}, fault(swarm.FailedProtocol, "%d bytes for a piece of %d", resp.ContentLength, n)
	}
	att, err := wire.ParseAttestation(resp.Header)
	if err != nil {
		return att, fault(swarm.FailedProtocol, "attestation: %w", err)
	}
	if err := checkAttestation(att, a.Digest, size, a.Piece); err != nil {
		return att, fault(swarm.FailedProtocol, "attestation: %w", err)
	}
	if x.distrusts(s, att.Attester) || x.isBanned(peer.ID(att.Attester)) {
		return att, fault(swarm.FailedDistrusted, "attested by %s", peer.ID(att.Attester))
	}
	return att, nil
}

func (x *Exchange) distrusts(s *session, id swarm.PeerID) bool {
	s.mu.Lock()
	distrusted, wary := s.distrusted[id], s.wary
	s.mu.Unlock()
	if distrusted || !wary || peer.ID(id) == x.self {
		return distrusted
	}
	_, member := x.memberEvent(peer.ID(id))
	return !member
}

// readPiece fills buf from the body, hashing as it comes, and compares with the attested hash. Bytes that lead to
// nothing count as duplicates.
func (x *Exchange) readPiece(ctx context.Context, s *session, from peer.ID, body io.Reader, buf []byte, want swarm.Hash, end *grace) error {
	_, own := x.zoneOf(from)
	total, mine := x.accounts.in.peer(own), s.in.peer(own)
	h := sha256.New()
	got := 0
	for got < len(buf) {
		n, waited, err := pace.Read(ctx, s.rank(), body, buf[got:], x.cfg.Limits.Download)
		end.extend(waited)
		total.Add(int64(n))
		mine.Add(int64(n))
		_, _ = h.Write(buf[got : got+n])
		got += n
		if err != nil {
			x.accounts.duplicate.Add(int64(got))
			return fault(swarm.FailedReset, "after %d of %d bytes: %w", got, len(buf), err)
		}
	}
	var sum swarm.Hash
	if h.Sum(sum[:0]); sum != want {
		x.accounts.duplicate.Add(int64(got))
		return fault(swarm.FailedHash, "SHA-256 is %x, attested %x", sum[:8], want[:8])
	}
	return nil
}
