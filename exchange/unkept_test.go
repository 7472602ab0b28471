package exchange

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"io"
	"sync"
	"testing"
	"time"

	"github.com/meshd-project/meshd/exchange/store"
	"github.com/meshd-project/meshd/exchange/swarm"
	"github.com/opencontainers/go-digest"
)

// soonOver has sessions end soon after their readers.
func soonOver(c *Config) { c.Swarm.Linger = 50 * time.Millisecond }

// keepsNothing asserts that a node has nothing of a blob on disk, says why, and lets go of all memory for it.
func (n *node) keepsNothing(d digest.Digest) {
	n.t.Helper()
	if st := n.Status(); st.NotKept == nil || st.StreamedBytes == 0 {
		n.t.Errorf("the operator is told nothing: %+v, %d bytes", st.NotKept, st.StreamedBytes)
	}
	eventually(n.t, "the session ends", func() bool { return n.session(d) == nil })
	eventually(n.t, "nothing is on disk", func() bool { _, err := n.st.Stat(d); return errors.Is(err, store.ErrNotFound) })
	eventually(n.t, "memory is given back", func() bool {
		all := n.streams.TryAcquire(n.cfg.StreamBytes)
		if all {
			n.streams.Release(n.cfg.StreamBytes)
		}
		return all
	})
}

// A node without room gets a blob from those who keep it: the origin sends it once, whoever asks first.
func TestNoRoomStreamsFromPeers(t *testing.T) {
	for _, row := range []struct {
		name       string
		size       int
		seed       bool   // the first node is one
		firstFull  bool   // the node without room asks first, alone
		withOthers bool   // all ask at once
		zone       string // of the node without room
		unsized    bool
	}{
		{name: "others have it", size: 20<<20 + 5, zone: "a"},
		{name: "others of another zone have it", size: 20<<20 + 5, zone: "b"},
		{name: "all at once", size: 20<<20 + 5, withOthers: true, zone: "a"},
		{name: "all at once over zones", size: 20<<20 + 5, withOthers: true, zone: "b"},
		{name: "first, with a seed", size: 20<<20 + 5, seed: true, firstFull: true, zone: "a"},
		{name: "first, with a seed in another zone", size: 20<<20 + 5, seed: true, firstFull: true, zone: "b"},
		{name: "first, with a seed, size unknown", size: 20<<20 + 5, seed: true, firstFull: true, zone: "a", unsized: true},
		{name: "first, one piece", size: 900_000, seed: true, firstFull: true, zone: "a"},
	} {
		t.Run(row.name, func(t *testing.T) {
			data, d := content(row.size, 11)
			o := newOrigin(data)
			a := startNode(t, nodeConfig{zone: "a", origin: o, seed: row.seed})
			b := startNode(t, nodeConfig{zone: "a", origin: o})
			full := startNode(t, nodeConfig{zone: row.zone, origin: o, capacity: 512 << 10, edit: soonOver})
			mesh(t, a, b, full)
			w := want(d, int64(len(data)))
			if row.unsized {
				w.Size = -1
			}
			switch {
			case row.firstFull:
				full.mustPull(w, data)
				pullAll([]*node{a, b}, w, data)
			case row.withOthers:
				together(o, []*node{a, b}, full, w, data)
			default:
				pullAll([]*node{a, b}, w, data)
				full.mustPull(w, data)
			}
			if c := copies(o, data); c != "1.0000" {
				t.Errorf("the origin sent %s copies", c)
			}
			full.keepsNothing(d)
		})
	}
}

// together has a node pull while others, who began before it, wait for the origin.
func together(o *fakeOrigin, others []*node, full *node, w Want, data []byte) {
	o.gate = make(chan struct{})
	var wg sync.WaitGroup
	wg.Go(func() { pullAll(others, w, data) })
	eventually(full.t, "others ask for it", func() bool { return o.open.Load() > 0 })
	wg.Go(func() { full.mustPull(w, data) })
	eventually(full.t, "it is asked for where there is no room", func() bool { return full.session(w.Digest) != nil })
	close(o.gate)
	wg.Wait()
}

// A node that has nobody else streams from the origin, once.
func TestNoRoomAlone(t *testing.T) {
	data, d := content(40<<20+1, 12)
	for _, row := range []struct {
		name string
		edit func(*fakeOrigin)
		size int64
	}{
		{"plain", func(*fakeOrigin) {}, int64(len(data))},
		{"size unknown", func(*fakeOrigin) {}, -1},
		{"no ranges", func(o *fakeOrigin) { o.noRange = true }, int64(len(data))},
		{"no size", func(o *fakeOrigin) { o.noRange, o.noSize = true, true }, -1},
	} {
		t.Run(row.name, func(t *testing.T) {
			o := newOrigin(data)
			row.edit(o)
			n := startNode(t, nodeConfig{zone: "a", origin: o, capacity: 1 << 20, edit: soonOver})
			n.mustPull(want(d, row.size), data)
			if c := copies(o, data); c != "1.0000" {
				t.Errorf("the origin sent %s copies", c)
			}
			n.keepsNothing(d)
		})
	}
}

// Readers that do not read bound what comes: a blob that is not kept takes its window of memory and no more.
func TestNoRoomWaitsForItsReaders(t *testing.T) {
	data, d := content(64<<20, 13)
	o := newOrigin(data)
	n := startNode(t, nodeConfig{zone: "a", origin: o, capacity: 1 << 20, edit: soonOver})
	h, err := n.Open(t.Context(), want(d, int64(len(data))))
	if err != nil {
		t.Fatal(err)
	}
	defer h.Close()
	var readers []*Reader
	for _, part := range [][2]int64{{0, -1}, {30 << 20, 10 << 20}, {0, 1 << 20}} {
		r, err := h.Reader(part[0], part[1])
		if err != nil {
			t.Fatal(err)
		}
		defer r.Close()
		readers = append(readers, r)
	}
	s := n.session(d)
	held := func() (bytes int64, full bool) {
		s.mu.Lock()
		defer s.mu.Unlock()
		for _, p := range s.unkept.held {
			bytes += int64(len(p))
		}
		return bytes, len(s.unkept.held) == s.unkept.now.Count()
	}
	eventually(t, "the windows are full", func() bool { _, full := held(); return full && s.unkept.now.Count() > 2 })
	if got, _ := held(); got > s.unkept.reserved {
		t.Errorf("%d bytes in memory, %d reserved", got, s.unkept.reserved)
	}
	read := func(i int, off, n int64) {
		t.Helper()
		got, err := io.ReadAll(struct{ io.Reader }{readers[i]})
		if err != nil || !bytes.Equal(got, data[off:off+n]) {
			t.Errorf("reader %d: %d bytes, %v", i, len(got), err)
		}
		_ = readers[i].Close()
	}
	read(2, 0, 1<<20) // the last first: each has a window of its own
	read(1, 30<<20, 10<<20)
	read(0, 0, int64(len(data)))
}

// A disk that fails in the middle of a pull: what is on it stays readable and is served, the rest streams, to readers that
// have read some and to those who come later.
func TestDiskFailsInTheMiddle(t *testing.T) {
	data, d := content(40<<20, 14)
	o := newOrigin(data)
	o.gate = make(chan struct{})
	full := startNode(t, nodeConfig{zone: "a", origin: o, seed: true, edit: soonOver})
	b := startNode(t, nodeConfig{zone: "a", origin: o})
	mesh(t, full, b)
	ctx, cancel := context.WithTimeout(t.Context(), 40*time.Second)
	defer cancel()
	opened := make(chan *Handle, 1)
	go func() {
		h, err := full.Open(ctx, want(d, int64(len(data))))
		if err != nil {
			t.Error(err)
		}
		opened <- h
	}()
	eventually(t, "it is asked for", func() bool { return o.open.Load() > 0 })
	o.mu.Lock()
	gate := o.gate
	o.gate, o.slow = nil, time.Millisecond
	o.mu.Unlock()
	close(gate)
	h := <-opened
	if h == nil {
		t.FailNow()
	}
	defer h.Close()
	r, err := h.Reader(0, -1)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	got := make([]byte, 5<<20)
	if _, err := io.ReadFull(struct{ io.Reader }{r}, got); err != nil {
		t.Fatal(err)
	}
	s := full.session(d)
	kept := func() int { s.mu.Lock(); defer s.mu.Unlock(); return s.held - len(s.unkept.held) }
	broken := errors.New("write piece: input/output error")
	full.notKept(1, broken)
	if !full.stream(s, int64(len(data)), broken) {
		t.Fatal("it is not streamed")
	}
	onDisk := kept()
	if onDisk < 10 {
		t.Fatalf("%d pieces on disk", onDisk)
	}
	rest, err := io.ReadAll(struct{ io.Reader }{r})
	if err != nil || !bytes.Equal(append(got, rest...), data) {
		t.Fatalf("%d bytes, %v", len(got)+len(rest), err)
	}
	full.mustPull(want(d, int64(len(data))), data) // with half of it on disk
	if err := full.Fetch(ctx, want(d, int64(len(data))), nil); !errors.Is(err, broken) {
		t.Errorf("a fetch onto the disk: %v", err)
	}
	b.mustPull(want(d, int64(len(data))), data)
	if full.Status().BytesOut.Zone == 0 {
		t.Error("what is on disk was not served")
	}
	_ = r.Close()
	_ = h.Close()
	eventually(t, "the session ends", func() bool { return full.session(d) == nil })
	if info, err := full.st.Stat(d); err != nil || info.Complete || info.Have < int64(onDisk)*(512<<10) {
		t.Errorf("of the %d pieces on disk the store has %+v, %v", onDisk, info, err)
	}
	full.mustPull(want(d, int64(len(data))), data) // the disk is well again
	eventually(t, "it is kept", func() bool { info, err := full.st.Stat(d); return err == nil && info.Complete })
	eventually(t, "the operator is told so", func() bool { return full.Status().NotKept == nil })
}

// What does not match its digest never ends cleanly, and a reader that was given none of it gets the right bytes after all.
func TestNoRoomAndWrongBytes(t *testing.T) {
	for _, size := range []int{900_000, 10 << 20} {
		data, d := content(size, 15)
		bad := bytes.Clone(data)
		bad[size/2]++
		liar := startNode(t, nodeConfig{zone: "a", origin: newOrigin()})
		full := startNode(t, nodeConfig{zone: "a", origin: newOrigin(data), capacity: 512 << 10, edit: soonOver})
		mesh(t, liar, full)
		doctor(t, liar, d, bad, func(b []byte) swarm.Hash { return sha256.Sum256(b) })
		h, err := full.Open(t.Context(), want(d, int64(size)))
		if err != nil {
			t.Fatal(err)
		}
		r, err := h.Reader(0, -1) // stays: with the session the node would forget who lied
		if err != nil {
			t.Fatal(err)
		}
		got, err := io.ReadAll(struct{ io.Reader }{r})
		switch {
		case size < 1<<20:
			if err != nil || !bytes.Equal(got, data) {
				t.Errorf("one piece: %d bytes, %v", len(got), err)
			}
		case err == nil:
			t.Errorf("%d bytes, right: %v, end cleanly", len(got), bytes.Equal(got, data))
		case !errors.Is(err, ErrRestarted):
			t.Error(err)
		}
		full.mustPull(want(d, int64(size)), data)
		_ = r.Close()
		_ = h.Close()
		if in := full.Status().BytesIn; in.Zone < int64(size) {
			t.Errorf("the liar was not asked: %+v", in)
		}
	}
}

// Fetch is for the disk: without room it fails, and a client that waits for the same blob gets it all the same.
func TestFetchWithoutRoom(t *testing.T) {
	data, d := content(6<<20, 16)
	o := newOrigin(data)
	n := startNode(t, nodeConfig{zone: "a", origin: o, capacity: 1 << 20, edit: soonOver})
	if err := n.Fetch(t.Context(), want(d, int64(len(data))), nil); !errors.Is(err, store.ErrNoSpace) {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	wg.Go(func() { n.mustPull(want(d, int64(len(data))), data) })
	wg.Go(func() {
		if err := n.Fetch(t.Context(), want(d, int64(len(data))), nil); !errors.Is(err, store.ErrNoSpace) {
			t.Errorf("fetch: %v", err)
		}
	})
	wg.Wait()
	if info, err := n.st.Stat(d); err == nil {
		t.Errorf("left on disk: %+v", info)
	}
}
