package mirror

import (
	"context"
	"fmt"
	"net/http"
	"strconv"
	"time"

	"github.com/opencontainers/go-digest"
)

// askBlob asks the origin whether the caller may have a blob, and how large it is.
func (m *Mirror) askBlob(ctx context.Context, c caller, d digest.Digest) (grant, error) {
	at := time.Now()
	m.stats.originAsks.Add(1)
	size, err := m.origin.HeadBlob(ctx, c.ref, d, c.auth)
	if err != nil {
		return grant{}, fmt.Errorf("head blob %s of %s: %w", d, c.ref, err)
	}
	yes := grant{at: at, size: max(size, -1), proven: size >= 0}
	m.gate.give(c, d, yes)
	return yes, nil
}

// serveBlob answers GET and HEAD of a blob.
func (m *Mirror) serveBlob(w http.ResponseWriter, r *http.Request, rq request) error {
	deadline := time.Now().Add(m.cfg.FirstByteTimeout)
	ctx, cancel := context.WithDeadline(r.Context(), deadline)
	defer cancel()
	yes, err := m.gate.allow(ctx, endpointBlob, rq.caller, rq.digest, func(ctx context.Context) (grant, error) {
		return m.askBlob(ctx, rq.caller, rq.digest)
	})
	if err != nil {
		return err
	}
	if notModified(r.Header, rq.digest) {
		blobHeader(w.Header(), rq.digest)
		w.WriteHeader(http.StatusNotModified)
		return nil
	}
	if r.Method == http.MethodHead {
		return m.headBlob(ctx, w, rq, yes)
	}
	who := rq.caller.under(yes)
	want := BlobWant{
		Ref: rq.ref, Digest: rq.digest, Size: yes.size,
		Authorization: who.auth, Private: who.auth != "" && m.gate.private(who),
	}
	want.Off, want.Len = partWanted(r.Header, rq.digest, yes.size)
	blob, err := m.blobs.Open(ctx, want)
	if err != nil {
		return fmt.Errorf("open blob %s: %w", rq.digest, err)
	}
	defer blob.Close()
	return m.sendBlob(w, r, rq, blob, deadline)
}

// partWanted is the part that a request will be answered with, as far as the
// believed size tells; 0, 0 is all.
func partWanted(h http.Header, d digest.Digest, size int64) (off, n int64) {
	if size < 0 {
		return 0, 0
	}
	s, err := parseRange(rangeHeader(h, d), size)
	if err != nil || !s.part || s.n == size {
		return 0, 0
	}
	return s.off, s.n
}

// headBlob tells the size of a blob: as on disk, as the origin told, or after
// asking the origin when only a manifest has claimed it.
func (m *Mirror) headBlob(ctx context.Context, w http.ResponseWriter, rq request, yes grant) error {
	size, ok := m.blobs.Stat(rq.digest)
	if !ok && !yes.proven && !yes.stale {
		told, err := m.gate.ask(ctx, endpointBlob, rq.caller, rq.digest, func(ctx context.Context) (grant, error) {
			return m.askBlob(ctx, rq.caller, rq.digest)
		})
		if err != nil {
			return err
		}
		yes = told
	}
	if !ok {
		size = yes.size
	}
	h := w.Header()
	blobHeader(h, rq.digest)
	if size >= 0 {
		h.Set("Content-Length", strconv.FormatInt(size, 10))
	}
	w.WriteHeader(http.StatusOK)
	return nil
}

// sendBlob writes the whole blob or the range asked for.
func (m *Mirror) sendBlob(w http.ResponseWriter, r *http.Request, rq request, blob Blob, deadline time.Time) error {
	size := blob.Size()
	s, err := parseRange(rangeHeader(r.Header, rq.digest), size)
	if err != nil {
		w.Header().Set("Content-Range", "bytes */"+strconv.FormatInt(size, 10))
		return err
	}
	commit := func() {
		h := w.Header()
		blobHeader(h, rq.digest)
		h.Set("Content-Length", strconv.FormatInt(s.n, 10))
		if !s.part {
			w.WriteHeader(http.StatusOK)
			return
		}
		h.Set("Content-Range", s.contentRange(size))
		w.WriteHeader(http.StatusPartialContent)
	}
	if s.n == 0 {
		commit()
		return nil
	}
	reader, err := blob.Reader(s.off, s.n)
	if err != nil {
		return fmt.Errorf("read blob %s: %w", rq.digest, err)
	}
	defer reader.Close()
	return m.stream(w, r, rq, reader, s.n, deadline, commit)
}

// stream moves n bytes from the mesh to the client. Before the first byte it
// returns an error that can still be answered; after it, a failure aborts the
// connection.
func (m *Mirror) stream(w http.ResponseWriter, r *http.Request, rq request, reader BlobReader, n int64, deadline time.Time, commit func()) error {
	watch := startWatch(r.Context(), reader, time.Until(deadline), m.cfg.StallTimeout)
	defer watch.stop()
	body := &bodyWriter{
		w: w, control: http.NewResponseController(w), limit: m.cfg.WriteTimeout,
		commit: commit, left: n, watch: watch, sent: &m.stats.blobBytes,
	}
	_, err := reader.WriteTo(body)
	if err == nil && body.left > 0 {
		err = fmt.Errorf("read blob %s: ended %d bytes early", rq.digest, body.left)
	}
	if err == nil {
		m.stats.blobPulls.Add(1)
		return nil
	}
	if watch.stalled.Load() {
		err = fmt.Errorf("read blob %s: %w", rq.digest, errStall)
	}
	if !body.committed {
		return err
	}
	m.stats.aborted.Add(1)
	if r.Context().Err() != nil || body.failed != nil {
		log.Debugw("client left a blob", "blob", rq.digest, "ref", rq.ref.String(), "bytes", n-body.left, "err", err)
	} else {
		log.Warnw("blob cut", "blob", rq.digest, "ref", rq.ref.String(), "origin", rq.ref.Registry, "bytes", n-body.left, "err", err)
	}
	panic(http.ErrAbortHandler)
}

func blobHeader(h http.Header, d digest.Digest) {
	h.Set("Content-Type", typeUnknown)
	h.Set("Docker-Content-Digest", d.String())
	h.Set("ETag", etag(d))
	h.Set("Accept-Ranges", "bytes")
}
