package storage

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"io"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/opencontainers/go-digest"
	"go.uber.org/goleak"

	"github.com/meshd-project/meshd/exchange"
	"github.com/meshd-project/meshd/exchange/store"
	"github.com/meshd-project/meshd/exchange/store/storetest"
	"github.com/meshd-project/meshd/exchange/swarm"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// moody is a bucket in memory that fails as it is told.
type moody struct {
	storetest.Memory
	mu       sync.Mutex
	readErr  error
	writeErr error
	damage   bool // the first byte of what is read is wrong
	silent   bool // nothing comes
	drip     bool // a byte comes every 9 s
	opens    int
}

func (m *moody) set(f func(*moody)) {
	m.mu.Lock()
	defer m.mu.Unlock()
	f(m)
}

func (m *moody) Open(ctx context.Context, d digest.Digest) (store.Object, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.opens++
	if m.readErr != nil {
		return nil, m.readErr
	}
	o, err := m.Memory.Open(ctx, d)
	if err != nil {
		return nil, err
	}
	return moodyObject{o, m}, nil
}

func (m *moody) Keep(ctx context.Context, d digest.Digest, o store.Outline, r io.ReaderAt) error {
	m.mu.Lock()
	err := m.writeErr
	m.mu.Unlock()
	if err != nil {
		return err
	}
	return m.Memory.Keep(ctx, d, o, r)
}

type moodyObject struct {
	store.Object
	m *moody
}

// Stream implements streamer.
func (o moodyObject) Stream(ctx context.Context, off, n int64) (io.ReadCloser, error) {
	o.m.mu.Lock()
	defer o.m.mu.Unlock()
	if o.m.readErr != nil {
		return nil, o.m.readErr
	}
	if o.m.silent {
		r, w := io.Pipe()
		context.AfterFunc(ctx, func() { w.CloseWithError(ctx.Err()) })
		return r, nil
	}
	b := make([]byte, n)
	if _, err := o.ReadAt(b, off); err != nil && err != io.EOF {
		return nil, err
	}
	if o.m.damage {
		b[0]++
	}
	if o.m.drip {
		return io.NopCloser(&dripping{ctx, b}), nil
	}
	return io.NopCloser(&answer{ctx, bytes.NewReader(b)}), nil
}

// answer ends with its context, as that of a server does.
type answer struct {
	ctx context.Context
	r   io.Reader
}

func (a *answer) Read(p []byte) (int, error) {
	if err := a.ctx.Err(); err != nil {
		return 0, err
	}
	return a.r.Read(p)
}

// dripping gives a byte every 9 s.
type dripping struct {
	ctx  context.Context
	data []byte
}

func (d *dripping) Read(p []byte) (int, error) {
	select {
	case <-time.After(9 * time.Second):
		n := copy(p[:1], d.data)
		d.data = d.data[n:]
		return n, nil
	case <-d.ctx.Done():
		return 0, d.ctx.Err()
	}
}

// registry is the origin behind the bucket; it counts.
type registry struct {
	exchange.Origin
	blobs map[digest.Digest][]byte
	asked int
}

func (r *registry) Blob(_ context.Context, _ swarm.OriginRef, _ string, d digest.Digest, off, n int64) (exchange.OriginBody, error) {
	r.asked++
	data, ok := r.blobs[d]
	if !ok {
		return exchange.OriginBody{}, errors.New("not there")
	}
	end := int64(len(data))
	if n >= 0 {
		end = min(off+n, end)
	}
	return exchange.OriginBody{ReadCloser: io.NopCloser(bytes.NewReader(data[off:end])), Size: int64(len(data)), Offset: off, Ranged: n >= 0}, nil
}

// size of the blobs of these tests: some pieces, the last one short.
const size = 5<<20 + 100

func pieceSize(size int64) int64 { return swarm.LayoutOf(size).PieceSize }

func outline(data []byte) store.Outline {
	o := store.Outline{Size: int64(len(data)), PieceSize: pieceSize(int64(len(data)))}
	l := swarm.LayoutOf(o.Size)
	for i := range l.Pieces() {
		off, n := l.Span(swarm.PieceIndex(i))
		o.Hashes = append(o.Hashes, sha256.Sum256(data[off:off+n]))
	}
	return o
}

func openStore(t *testing.T, dir string) *store.Store {
	t.Helper()
	s, err := store.Open(store.Config{Dir: dir, MinFree: -1, PieceSize: pieceSize})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

func keep(t *testing.T, k store.Keeper, d digest.Digest, data []byte) {
	t.Helper()
	if err := k.Keep(t.Context(), d, outline(data), bytes.NewReader(data)); err != nil {
		t.Fatal(err)
	}
}

// run has a tier run until the end of the test.
func run(t *testing.T, tier *Tier) {
	done := make(chan error)
	go func() { done <- tier.Run(t.Context()) }()
	t.Cleanup(func() {
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}

// What the store completes is written to the bucket once, by however many seeds, and after a restart not again.
func TestWriteThrough(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := &moody{}
		data := storetest.Sample(1, size)
		d := digest.FromBytes(data)
		private, err := store.Scoped("registry.example", d)
		if err != nil {
			t.Fatal(err)
		}
		dir := t.TempDir()
		first := openStore(t, dir)
		keep(t, store.Local(first), d, data)
		keep(t, store.Local(first), private, data)
		keep(t, store.Local(first), store.File([]byte("x")), data)
		tier := New(m, first)
		run(t, tier)
		second := openStore(t, t.TempDir())
		keep(t, store.Local(second), d, data)
		other := New(m, second)
		run(t, other)
		time.Sleep(time.Minute)
		for _, name := range []digest.Digest{d, private} {
			if got := m.Kept(name); got != 1 {
				t.Errorf("%s: written %d times", name, got)
			}
		}
		if m.Kept(store.File([]byte("x"))) != 0 {
			t.Error("a file of no digest is written")
		}
		if s := tier.State(); s.Pending != 0 || s.Write.Problem != "" || s.BlobsOut+other.State().BlobsOut != 2 {
			t.Errorf("state: %+v", s)
		}
		opens := m.opens
		time.Sleep(time.Hour)
		if m.opens != opens {
			t.Errorf("%d questions with nothing to do", m.opens-opens)
		}
	})
}

// A bucket that fails is left alone for longer and longer; nothing is lost, and all is written when it is back.
func TestWriteFails(t *testing.T) {
	for problem, err := range map[string]error{
		"full": store.ErrNoSpace, "forbidden": errForbidden, "slow": context.DeadlineExceeded, "unreachable": errors.New("no route to host"),
	} {
		t.Run(problem, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				m := &moody{writeErr: err}
				s := openStore(t, t.TempDir())
				tier := New(m, s)
				run(t, tier)
				var names []digest.Digest
				for i := range 3 {
					data := storetest.Sample(uint64(i), 1000)
					names = append(names, digest.FromBytes(data))
					keep(t, store.Local(s), names[i], data)
				}
				time.Sleep(24 * time.Hour)
				state := tier.State()
				if state.Pending != 3 || state.Write.Problem != problem || state.Write.Failed > 12*25 || state.Write.Failed < 100 {
					t.Errorf("state: %+v", state)
				}
				m.set(func(m *moody) { m.writeErr = nil })
				time.Sleep(maxRest + lookEvery)
				for _, d := range names {
					if m.Kept(d) != 1 {
						t.Errorf("%s is lost", d)
					}
				}
				if state := tier.State(); state.Pending != 0 || state.Write.Problem != "" {
					t.Errorf("state: %+v", state)
				}
			})
		})
	}
}

func sumOfRange(data []byte, off, n int64) []byte {
	end := int64(len(data))
	if n >= 0 {
		end = min(off+n, end)
	}
	return data[off:end]
}

// What is in the bucket is read from it, in whole or in ranges of pieces; the rest is the registry's.
func TestReadThrough(t *testing.T) {
	m, data := &moody{}, storetest.Sample(1, size)
	d := digest.FromBytes(data)
	private, err := store.Scoped("registry.example", d)
	if err != nil {
		t.Fatal(err)
	}
	keep(t, m, d, data)
	keep(t, m, private, data)
	ps := pieceSize(size)
	ref := swarm.OriginRef{Registry: "registry.example", Repository: "r"}
	other := swarm.OriginRef{Registry: "other.example", Repository: "r"}
	for name, row := range map[string]struct {
		d       digest.Digest
		ref     swarm.OriginRef
		auth    string
		off, n  int64
		origins int
	}{
		"whole":                {d, ref, "", 0, -1, 0},
		"first pieces":         {d, ref, "", 0, 2 * ps, 0},
		"part of a piece":      {d, ref, "", ps, 10, 0},
		"last piece":           {d, ref, "", size / ps * ps, -1, 0},
		"over the end":         {d, ref, "", size / ps * ps, ps, 0},
		"private":              {d, ref, "Bearer x", 0, -1, 0},
		"private of another":   {d, other, "Bearer x", 0, -1, 1},
		"not from a piece's 1": {d, ref, "", 1, 10, 1},
		"not in the bucket":    {digest.FromString("x"), ref, "", 0, -1, 1},
	} {
		r := &registry{blobs: map[digest.Digest][]byte{d: data, digest.FromString("x"): []byte("x")}}
		tier := New(m, openStore(t, t.TempDir()))
		body, err := tier.Origin(r).Blob(t.Context(), row.ref, row.auth, row.d, row.off, row.n)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		got, err := io.ReadAll(body)
		body.Close()
		if err != nil || !bytes.Equal(got, sumOfRange(r.blobs[row.d], row.off, row.n)) || body.Offset != row.off || r.asked != row.origins {
			t.Errorf("%s: %d bytes, %v, from %d, registry asked %d times", name, len(got), err, body.Offset, r.asked)
		}
	}
}

// A bucket that fails, stalls or lies has the registry asked in its place; nothing wrong is passed on.
func TestReadFails(t *testing.T) {
	for problem, mood := range map[string]func(*moody){
		"forbidden":   func(m *moody) { m.readErr = errForbidden },
		"unreachable": func(m *moody) { m.readErr = errors.New("no route to host") },
		"slow":        func(m *moody) { m.silent = true },
		"":            func(m *moody) { m.damage = true }, // which says nothing of other blobs
	} {
		t.Run(problem, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				m, data := &moody{}, storetest.Sample(1, size)
				d := digest.FromBytes(data)
				keep(t, m, d, data)
				m.set(mood)
				r := &registry{blobs: map[digest.Digest][]byte{d: data}}
				tier := New(m, openStore(t, t.TempDir()))
				o := tier.Origin(r)
				var got []byte
				for try := 0; try < 2 && len(got) == 0; try++ { // the swarm's own second try
					body, err := o.Blob(t.Context(), swarm.OriginRef{}, "", d, 0, -1)
					if err != nil {
						t.Fatal(err)
					}
					got, err = io.ReadAll(body)
					body.Close()
					if (err == nil) != (len(got) == size) {
						t.Errorf("%d bytes, %v", len(got), err)
					}
				}
				if !bytes.Equal(got, data) || r.asked != 1 {
					t.Errorf("%d bytes, registry asked %d times", len(got), r.asked)
				}
				if s := tier.State(); s.Read.Problem != problem {
					t.Errorf("state: %+v", s)
				}
			})
		})
	}
}

// A bucket that sends a byte now and then is slow; one whose reader takes its time is not.
func TestPace(t *testing.T) {
	for _, drip := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			m, data := &moody{drip: drip}, storetest.Sample(1, size)
			d := digest.FromBytes(data)
			keep(t, m, d, data)
			tier := New(m, openStore(t, t.TempDir()))
			body, err := tier.Origin(&registry{}).Blob(t.Context(), swarm.OriginRef{}, "", d, 0, -1)
			if err != nil {
				t.Fatal(err)
			}
			defer body.Close()
			began, total := time.Now(), 0
			buf := make([]byte, 256<<10)
			for err == nil {
				var n int
				n, err = body.Read(buf)
				total += n
				time.Sleep(15 * time.Second) // of which the bucket knows nothing
			}
			switch s := tier.State(); {
			case drip && (s.Read.Problem != "slow" || time.Since(began) > time.Minute):
				t.Errorf("a byte every 9 s: %+v after %v", s, time.Since(began))
			case !drip && (err != io.EOF || total != size || s.Read.Problem != ""):
				t.Errorf("a slow reader: %d bytes, %v, %+v", total, err, s)
			}
		})
	}
}

// A blob in the bucket that is not what it should be is written anew once it is here again, and read from there from then on.
func TestBadBlobIsReplaced(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m, data := &moody{damage: true}, storetest.Sample(1, size)
		d := digest.FromBytes(data)
		keep(t, m, d, data)
		s := openStore(t, t.TempDir())
		tier := New(m, s)
		run(t, tier)
		r := &registry{blobs: map[digest.Digest][]byte{d: data}}
		read := func() error {
			body, err := tier.Origin(r).Blob(t.Context(), swarm.OriginRef{}, "", d, 0, -1)
			if err != nil {
				return err
			}
			defer body.Close()
			_, err = io.Copy(io.Discard, body)
			return err
		}
		if err := read(); !errors.Is(err, store.ErrDigestMismatch) {
			t.Errorf("wrong bytes: %v", err)
		}
		keep(t, store.Local(s), d, data)
		m.set(func(m *moody) { m.damage = false })
		time.Sleep(time.Minute)
		if n := m.Kept(d); n != 2 {
			t.Errorf("written %d times, want it written anew once", n)
		}
		if err := read(); err != nil || r.asked != 0 {
			t.Errorf("registry asked %d times, %v", r.asked, err)
		}
	})
}

// A blob whose outline lies, so that it never becomes complete, is the registry's in the end.
func TestPoisonedOutline(t *testing.T) {
	m, data := &moody{}, storetest.Sample(1, size)
	d := digest.FromBytes(data)
	keep(t, m, store.File([]byte("poison")), storetest.Sample(2, size))
	poisoned := poison{m, store.File([]byte("poison"))}
	r := &registry{blobs: map[digest.Digest][]byte{d: data}}
	o := New(poisoned, openStore(t, t.TempDir())).Origin(r)
	for range 3 {
		body, err := o.Blob(t.Context(), swarm.OriginRef{}, "", d, 0, -1)
		if err != nil {
			t.Fatal(err)
		}
		_, err = io.ReadAll(body)
		body.Close()
		if err != nil {
			t.Fatal(err)
		}
	}
	if r.asked != 1 {
		t.Errorf("registry asked %d times", r.asked)
	}
}

// poison has one blob under every name.
type poison struct {
	*moody
	name digest.Digest
}

func (p poison) Open(ctx context.Context, _ digest.Digest) (store.Object, error) {
	return p.moody.Open(ctx, p.name)
}
