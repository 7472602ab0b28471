package storetest

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"io"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/opencontainers/go-digest"

	"github.com/meshd-project/meshd/exchange/store"
)

// PieceSize is what the kit cuts its blobs into, in bytes.
const PieceSize = 4 << 10

// Sample returns a blob that only seed decides.
func Sample(seed uint64, size int) []byte {
	var key [32]byte
	key[0] = byte(seed)
	b := make([]byte, size)
	_, _ = rand.NewChaCha8(key).Read(b)
	return b
}

// Outline describes a blob in pieces of PieceSize.
func Outline(data []byte) store.Outline {
	o := store.Outline{Size: int64(len(data)), PieceSize: PieceSize, MediaType: "application/x-test"}
	for piece := range slices.Chunk(data, PieceSize) {
		o.Hashes = append(o.Hashes, sha256.Sum256(piece))
	}
	return o
}

// Backend checks a backend that has the blobs given, and no others, under their digests.
func Backend(t *testing.T, b store.Backend, blobs ...[]byte) {
	for _, data := range blobs {
		wantBlob(t, b, digest.FromBytes(data), data)
	}
	for name, row := range map[string]struct {
		d    digest.Digest
		want error
	}{
		"absent":    {digest.FromString("absent"), store.ErrNotFound},
		"file":      {store.File([]byte("absent")), store.ErrNotFound},
		"no digest": {"sha256:../../../etc/passwd", store.ErrInvalid},
		"empty":     {"", store.ErrInvalid},
	} {
		o, err := b.Open(t.Context(), row.d)
		if !errors.Is(err, row.want) {
			t.Errorf("open %s: %v, want %v", name, err, row.want)
		}
		if err == nil {
			o.Close()
		}
	}
}

// wantBlob checks that a backend has a blob, and reads it in all ways.
func wantBlob(t *testing.T, b store.Backend, d digest.Digest, data []byte) {
	t.Helper()
	o, err := b.Open(t.Context(), d)
	if err != nil {
		t.Errorf("open: %v", err)
		return
	}
	defer o.Close()
	if o.Size() != int64(len(data)) {
		t.Errorf("%d bytes in place of %d", o.Size(), len(data))
	}
	wantBytes(t, o, data)
}

func wantBytes(t *testing.T, o store.Object, data []byte) {
	t.Helper()
	size := int64(len(data))
	for _, span := range [][2]int64{{0, size}, {size / 3, size / 2}, {max(size-1, 0), size}, {0, min(size, 1)}, {PieceSize - 1, PieceSize + 1}} {
		off, end := min(span[0], size), min(span[1], size)
		got := make([]byte, end-off)
		n, err := o.ReadAt(got, off)
		if int64(n) != end-off || err != nil && err != io.EOF || !bytes.Equal(got, data[off:end]) {
			t.Errorf("bytes %d to %d: %d, %v, right: %v", off, end, n, err, bytes.Equal(got, data[off:end]))
		}
	}
	if n, err := o.ReadAt(make([]byte, 10), size); n != 0 || err != io.EOF {
		t.Errorf("behind the end: %d, %v", n, err)
	}
	if n, err := o.ReadAt(make([]byte, size+10), 0); int64(n) != size || err != io.EOF {
		t.Errorf("over the end: %d of %d, %v", n, size, err)
	}
}

// Keeper checks a backend that takes blobs in. make returns an empty one.
func Keeper(t *testing.T, make func(t *testing.T) store.Keeper) {
	for name, f := range map[string]func(*testing.T, store.Keeper){
		"Keep": keepOpens, "KeepRefuses": keepRefuses, "KeepFails": keepFails, "KeepAtOnce": keepAtOnce, "Names": keepNames, "Drop": dropForgets,
	} {
		t.Run(name, func(t *testing.T) { f(t, make(t)) })
	}
}

func keepOpens(t *testing.T, b store.Keeper) {
	blobs := [][]byte{Sample(1, 1), Sample(2, PieceSize), Sample(3, 3*PieceSize+100)}
	for i, data := range slices.Concat(blobs, blobs) { // and once more: that is no error
		if err := b.Keep(t.Context(), digest.FromBytes(data), Outline(data), bytes.NewReader(data)); err != nil {
			t.Fatalf("keep %d: %v", i, err)
		}
	}
	Backend(t, b, blobs...)
	wantNames(t, b, digest.FromBytes(blobs[0]), digest.FromBytes(blobs[1]), digest.FromBytes(blobs[2]))
	o, err := b.Open(t.Context(), digest.FromBytes(blobs[2]))
	if err != nil {
		t.Fatal(err)
	}
	defer o.Close()
	got, err := o.Outline()
	if want := Outline(blobs[2]); err != nil || got.Size != want.Size || got.PieceSize != want.PieceSize ||
		got.MediaType != want.MediaType || !slices.Equal(got.Hashes, want.Hashes) {
		t.Errorf("outline %+v, %v", got, err)
	}
}

func wantNames(t *testing.T, b store.Keeper, want ...digest.Digest) {
	t.Helper()
	var got []digest.Digest
	err := b.Walk(t.Context(), func(d digest.Digest) error { got = append(got, d); return nil })
	slices.Sort(got)
	slices.Sort(want)
	if err != nil || !slices.Equal(got, want) {
		t.Errorf("walk: %v, %v; want %v", got, err, want)
	}
	if stop := errors.New("stop"); len(want) > 0 {
		if err := b.Walk(t.Context(), func(digest.Digest) error { return stop }); !errors.Is(err, stop) {
			t.Errorf("walk that is stopped: %v", err)
		}
	}
}

// keepRefuses: bytes that are not what is said of them are not kept, and spoil nothing.
func keepRefuses(t *testing.T, b store.Keeper) {
	data, other := Sample(1, 3*PieceSize), Sample(2, 3*PieceSize)
	d := digest.FromBytes(data)
	late := slices.Concat(data[:2*PieceSize], other[2*PieceSize:])
	few := Outline(data)
	few.Hashes = few.Hashes[:2]
	long := Outline(data)
	long.MediaType = strings.Repeat("x", store.MaxMediaType+1)
	for name, row := range map[string]struct {
		d    digest.Digest
		o    store.Outline
		data []byte
		want error
	}{
		"other bytes":        {d, Outline(data), other, store.ErrDigestMismatch},
		"other bytes, lied":  {d, Outline(other), other, store.ErrDigestMismatch},
		"other at the end":   {d, Outline(late), late, store.ErrDigestMismatch},
		"other hashes":       {d, Outline(other), data, store.ErrDigestMismatch},
		"too few bytes":      {d, Outline(data), data[:2*PieceSize], io.ErrUnexpectedEOF},
		"too few hashes":     {d, few, data, store.ErrInvalid},
		"long media type":    {d, long, data, store.ErrInvalid},
		"no piece size":      {d, store.Outline{Size: 1}, data, store.ErrInvalid},
		"no digest":          {"x", Outline(data), data, store.ErrInvalid},
		"digest of no store": {digest.SHA384.FromBytes(data), Outline(data), data, store.ErrUnsupported},
	} {
		if err := b.Keep(t.Context(), row.d, row.o, bytes.NewReader(row.data)); !errors.Is(err, row.want) {
			t.Errorf("%s: %v, want %v", name, err, row.want)
		}
	}
	Backend(t, b)
	wantNames(t, b)
	if err := b.Keep(t.Context(), d, Outline(data), bytes.NewReader(data)); err != nil {
		t.Error(err)
	}
	Backend(t, b, data)
}

// failing gives some bytes and then an error.
type failing struct {
	data []byte
	left int64
	err  error
	then func()
}

func (f *failing) ReadAt(b []byte, off int64) (int, error) {
	if off+int64(len(b)) > f.left {
		if f.then != nil {
			f.then()
		}
		return 0, f.err
	}
	return copy(b, f.data[off:]), nil
}

// keepFails: a source that breaks off, and a caller that gives up, leave nothing.
func keepFails(t *testing.T, b store.Keeper) {
	data := Sample(1, 5*PieceSize)
	d := digest.FromBytes(data)
	broken := errors.New("source breaks off")
	if err := b.Keep(t.Context(), d, Outline(data), &failing{data: data, left: 3 * PieceSize, err: broken}); !errors.Is(err, broken) {
		t.Errorf("got %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	source := &failing{data: data, left: 2 * PieceSize, err: context.Canceled, then: cancel}
	if err := b.Keep(ctx, d, Outline(data), source); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
	Backend(t, b)
	wantNames(t, b)
}

// keepAtOnce: many take the same blob in, and nobody notices.
func keepAtOnce(t *testing.T, b store.Keeper) {
	data := Sample(1, 20*PieceSize)
	d := digest.FromBytes(data)
	var all sync.WaitGroup
	for range 4 {
		all.Go(func() {
			err := b.Keep(t.Context(), d, Outline(data), bytes.NewReader(data))
			if err != nil && !errors.Is(err, store.ErrInUse) { // somebody else is at it
				t.Error(err)
			}
		})
	}
	all.Wait()
	Backend(t, b, data)
	wantNames(t, b, d)
}

// keepNames: a private blob is there under its own name only.
func keepNames(t *testing.T, b store.Keeper) {
	data := Sample(1, 2*PieceSize)
	private, err := store.Scoped("registry.example", digest.FromBytes(data))
	if err != nil {
		t.Fatal(err)
	}
	if err := b.Keep(t.Context(), private, Outline(data), bytes.NewReader(data)); err != nil {
		t.Fatal(err)
	}
	Backend(t, b)
	wantBlob(t, b, private, data)
	wantNames(t, b, private)
	elsewhere, err := store.Scoped("elsewhere.example", digest.FromBytes(data))
	if err != nil {
		t.Fatal(err)
	}
	for _, d := range []digest.Digest{digest.FromBytes(data), elsewhere} {
		if o, err := b.Open(t.Context(), d); !errors.Is(err, store.ErrNotFound) {
			o.Close()
			t.Errorf("a private blob is there as %s: %v", d, err)
		}
	}
}

// dropForgets: what is dropped is gone; who reads it reads it to the end, or fails.
func dropForgets(t *testing.T, b store.Keeper) {
	data := Sample(1, 3*PieceSize)
	d := digest.FromBytes(data)
	if err := b.Keep(t.Context(), d, Outline(data), bytes.NewReader(data)); err != nil {
		t.Fatal(err)
	}
	o, err := b.Open(t.Context(), d)
	if err != nil {
		t.Fatal(err)
	}
	err = b.Drop(t.Context(), d)
	got := make([]byte, len(data))
	if n, rerr := o.ReadAt(got, 0); rerr == nil && !bytes.Equal(got[:n], data[:n]) {
		t.Error("other bytes of a blob that was dropped")
	}
	o.Close()
	if errors.Is(err, store.ErrInUse) { // while it is read
		err = b.Drop(t.Context(), d)
	}
	if err != nil {
		t.Errorf("drop: %v", err)
	}
	if err := b.Drop(t.Context(), d); err != nil {
		t.Errorf("drop of nothing: %v", err)
	}
	Backend(t, b)
	wantNames(t, b)
}
