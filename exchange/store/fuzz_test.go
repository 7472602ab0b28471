package store

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"hash/crc32"
	"testing"

	"github.com/opencontainers/go-digest"
)

// fuzzJournal returns a journal of three records.
func fuzzJournal() []byte {
	h := journalHeader{digest.FromString("x"), layout{5*smallPieces + 1, smallPieces}}
	b := h.encode()
	for _, i := range []int{5, 0, 5} {
		b = record{piece: i, hash: Hash{byte(i)}, proof: proofOf(i)}.append(b)
	}
	return b
}

// seal writes the checksum of sum at to, as far as both are inside b, and reports whether they are. Without such help
// a fuzzer does not get past the checksums.
func seal(b []byte, to, start, end int) bool {
	if to < 0 || start < 0 || start > end || end > len(b) || to+4 > len(b) {
		return false
	}
	binary.LittleEndian.PutUint32(b[to:], crc32.Checksum(b[start:end], castagnoli))
	return true
}

// fixJournal makes all checksums right.
func fixJournal(b []byte) []byte {
	b = bytes.Clone(b)
	if len(b) < journalFixed {
		return b
	}
	end := journalFixed + int(binary.LittleEndian.Uint16(b[24:]))
	if !seal(b, end, 0, min(end, len(b))) {
		return b
	}
	for at := end + 4; at+recordFixed <= len(b); {
		next := at + recordFixed + int(binary.LittleEndian.Uint16(b[at+8:]))
		if !seal(b, at, at+4, next) {
			break
		}
		at = next
	}
	return b
}

// fixSidecar makes both checksums right.
func fixSidecar(b []byte) []byte {
	b = bytes.Clone(b)
	if len(b) < sidecarFixed+sha256.Size {
		return b
	}
	end := sidecarFixed + int(binary.LittleEndian.Uint16(b[24:]))
	seal(b, end, 0, min(end, len(b)))
	sum := sha256.Sum256(b[:len(b)-sha256.Size])
	copy(b[len(b)-sha256.Size:], sum[:])
	return b
}

// Whatever is in a journal: what is taken from it is in bounds, and is just what its good bytes say.
func FuzzJournal(f *testing.F) {
	whole := fuzzJournal()
	f.Add(whole, false)
	f.Add(whole[:len(whole)-1], false)
	f.Add(journalHeader{digest.FromString(""), layout{0, 1}}.encode(), false)
	f.Add([]byte(journalMagic), true)
	f.Fuzz(func(t *testing.T, b []byte, fix bool) {
		if fix {
			b = fixJournal(b)
		}
		var records []record
		h, good, err := scanJournal(bytes.NewReader(b), func(r record) { records = append(records, r) })
		if err != nil {
			if len(records) > 0 || good != 0 {
				t.Fatalf("records from a bad journal: %v", err)
			}
			return
		}
		again := h.encode()
		for _, r := range records {
			if _, n := h.layout.span(r.piece); n == 0 || len(r.proof) > MaxProof {
				t.Fatalf("record out of bounds: %+v", r)
			}
			again = r.append(again)
		}
		if good > int64(len(b)) || !bytes.Equal(again, b[:good]) {
			t.Fatalf("%d good bytes of %d say something else", good, len(b))
		}
		if checkDigest(h.digest) != nil || h.layout.pieces() > MaxPieces {
			t.Fatalf("header out of bounds: %+v", h)
		}
	})
}

// A sidecar that is accepted is just the encoding of what was taken from it.
func FuzzSidecar(f *testing.F) {
	whole := sidecar{layout{2*smallPieces + 1, smallPieces}, manifestType, []Hash{{1}, {2}, {3}}}.encode()
	f.Add(whole, false)
	f.Add(whole[:len(whole)-1], false)
	f.Add(append(whole, 0), false)
	f.Add(sidecar{layout{0, 1}, "", nil}.encode(), false)
	f.Add([]byte(sidecarMagic), true)
	f.Fuzz(func(t *testing.T, b []byte, fix bool) {
		if fix {
			b = fixSidecar(b)
		}
		head, n, herr := parseSidecarHeader(b)
		if herr == nil && (n > len(b) || len(head.mediaType) > MaxMediaType || head.layout.pieces() > MaxPieces) {
			t.Fatalf("header out of bounds: %+v", head)
		}
		s, err := parseSidecar(b)
		if err != nil {
			return
		}
		if herr != nil || head.layout != s.layout || head.mediaType != s.mediaType {
			t.Fatalf("header %+v, %v; whole %+v", head, herr, s)
		}
		if len(s.hashes) != s.layout.pieces() || !bytes.Equal(s.encode(), b) {
			t.Fatal("another encoding")
		}
	})
}
