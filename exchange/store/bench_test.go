package store

import (
	"context"
	"crypto/sha256"
	"fmt"
	"os"
	"strconv"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"
)

// benchStore opens a store on the disk of MESHD_BENCH_DIR, or else of temporary files.
func benchStore(b *testing.B) *Store {
	b.Helper()
	dir, err := os.MkdirTemp(os.Getenv("MESHD_BENCH_DIR"), "store")
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { os.RemoveAll(dir) })
	return openStore(b, Config{Dir: dir, MinFree: -1})
}

// repeated is a blob whose pieces are all the same, so that making it costs nothing.
type repeated struct {
	digest digest.Digest
	layout layout
	piece  []byte
	sum    Hash
}

func repeat(size, pieceSize int64) repeated {
	r := repeated{layout: layout{size, pieceSize}, piece: sample(1, int(pieceSize))}
	r.sum = sha256.Sum256(r.piece)
	h := digest.SHA256.Digester()
	for range r.layout.pieces() {
		h.Hash().Write(r.piece)
	}
	r.digest = h.Digest()
	return r
}

func (r repeated) write(b *testing.B, p *Partial) {
	proof := make([]byte, 100)
	for i := range p.Pieces() {
		if err := p.WritePiece(i, r.piece, r.sum, proof); err != nil {
			b.Fatal(err)
		}
	}
}

func (r repeated) begin(b *testing.B, s *Store) *Partial {
	p, err := s.Begin(r.digest, r.layout.size, r.layout.pieceSize)
	if err != nil {
		b.Fatal(err)
	}
	return p
}

// BenchmarkPull writes a blob as fast as it can, verifies and commits it. write/op is all WritePiece calls, verify and
// commit what a reader waits for after the last piece, and what the disk takes then.
func BenchmarkPull(b *testing.B) {
	for _, row := range []struct{ size, piece int64 }{{1 << 20, 1 << 20}, {128 << 20, 512 << 10}, {1 << 30, 1 << 20}, {1 << 30, 8 << 20}} {
		b.Run(fmt.Sprintf("%dMiB/%dKiB", row.size>>20, row.piece>>10), func(b *testing.B) {
			s := benchStore(b)
			r := repeat(row.size, row.piece)
			b.SetBytes(row.size)
			b.ReportAllocs()
			var write, verify, commit time.Duration
			for b.Loop() {
				start := time.Now()
				p := r.begin(b, s)
				r.write(b, p)
				written := time.Now()
				if err := p.Verify(context.Background()); err != nil {
					b.Fatal(err)
				}
				verified := time.Now()
				blob, err := p.Commit(context.Background())
				if err != nil {
					b.Fatal(err)
				}
				write, verify, commit = write+written.Sub(start), verify+verified.Sub(written), commit+time.Since(verified)
				b.StopTimer()
				blob.Close()
				p.Close()
				if err := s.Delete(r.digest); err != nil {
					b.Fatal(err)
				}
				b.StartTimer()
			}
			ms := func(d time.Duration) float64 { return float64(d.Microseconds()) / 1e3 / float64(b.N) }
			b.ReportMetric(ms(write), "write-ms/op")
			b.ReportMetric(ms(verify), "verify-ms/op")
			b.ReportMetric(ms(commit), "commit-ms/op")
		})
	}
}

// BenchmarkWritePiece is one piece of 1 MiB into a blob of 1 GiB, with hashing and flushing behind it.
func BenchmarkWritePiece(b *testing.B) {
	s := benchStore(b)
	r := repeat(1<<30, 1<<20)
	proof := make([]byte, 100)
	b.SetBytes(r.layout.pieceSize)
	b.ReportAllocs()
	p := r.begin(b, s)
	i := 0
	for b.Loop() {
		if i == p.Pieces() {
			b.StopTimer()
			if err := p.Discard(); err != nil {
				b.Fatal(err)
			}
			p, i = r.begin(b, s), 0
			b.StartTimer()
		}
		if err := p.WritePiece(i, r.piece, r.sum, proof); err != nil {
			b.Fatal(err)
		}
		i++
	}
	b.StopTimer()
	p.Discard()
}

// BenchmarkResume hashes a partial of 256 MiB.
func BenchmarkResume(b *testing.B) {
	s := benchStore(b)
	r := repeat(256<<20, 1<<20)
	p := r.begin(b, s)
	r.write(b, p)
	p.Close()
	b.SetBytes(r.layout.size)
	for b.Loop() {
		p := r.begin(b, s)
		b.StopTimer()
		if p.Held() != p.Size() {
			b.Fatal("pieces lost")
		}
		p.Close()
		b.StartTimer()
	}
}

// BenchmarkRead reads pieces of a complete blob: proven before, and hashed first.
func BenchmarkRead(b *testing.B) {
	for _, proven := range []bool{true, false} {
		b.Run("proven="+strconv.FormatBool(proven), func(b *testing.B) {
			s := benchStore(b)
			r := repeat(64<<20, 1<<20)
			p := r.begin(b, s)
			r.write(b, p)
			blob, err := p.Commit(context.Background())
			if err != nil {
				b.Fatal(err)
			}
			defer blob.Close()
			p.Close()
			buf := make([]byte, r.layout.pieceSize)
			b.SetBytes(r.layout.pieceSize)
			b.ReportAllocs()
			i := 0
			for b.Loop() {
				k := i % blob.Pieces()
				if i++; !proven {
					blob.ledger.proven[k] = false
				}
				if _, err := blob.ReadAt(buf, int64(k)*r.layout.pieceSize); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func BenchmarkGet(b *testing.B) {
	s := benchStore(b)
	data := sample(1, 1000)
	if err := s.Put(digest.FromBytes(data), manifestType, data); err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	for b.Loop() {
		blob, err := s.Get(digest.FromBytes(data))
		if err != nil {
			b.Fatal(err)
		}
		blob.Close()
	}
}

func BenchmarkPut(b *testing.B) {
	s := benchStore(b)
	b.ReportAllocs()
	n := 0
	for b.Loop() {
		data := strconv.AppendInt(nil, int64(n), 10)
		n++
		if err := s.Put(digest.FromBytes(data), manifestType, data); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkOpen opens a store of 10,000 blobs.
func BenchmarkOpen(b *testing.B) {
	s := benchStore(b)
	for i := range 10_000 {
		data := strconv.AppendInt(nil, int64(i), 10)
		if err := s.Put(digest.FromBytes(data), manifestType, data); err != nil {
			b.Fatal(err)
		}
	}
	for b.Loop() {
		s.Close()
		var err error
		if s, err = Open(s.cfg); err != nil {
			b.Fatal(err)
		}
	}
	s.Close()
}
