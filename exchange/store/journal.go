package store

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"sync"

	"github.com/opencontainers/go-digest"
)

// A journal tells which pieces of a partial were written. All numbers are little-endian.
//
//	header  "meshd-j1" | size u64 | piece size u64 | length of digest u16 | digest | crc32c of the header u32
//	record  crc32c of the rest u32 | index u32 | length of proof u16 | hash [32] | proof
//
// Records are appended after their data was written. The last record of an index counts.
const (
	journalMagic      = "meshd-j1"
	journalFixed      = 8 + 8 + 8 + 2
	recordFixed       = 4 + 4 + 2 + 32
	maxJournalDigests = 256
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// errJournal says that a journal's header is unreadable; the partial is then worthless.
var errJournal = errors.New("unreadable journal")

type journalHeader struct {
	digest digest.Digest
	layout layout
}

type record struct {
	piece int
	hash  Hash
	proof []byte
}

func (h journalHeader) encode() []byte {
	b := make([]byte, 0, journalFixed+len(h.digest)+4)
	b = append(b, journalMagic...)
	b = binary.LittleEndian.AppendUint64(b, uint64(h.layout.size))
	b = binary.LittleEndian.AppendUint64(b, uint64(h.layout.pieceSize))
	b = binary.LittleEndian.AppendUint16(b, uint16(len(h.digest)))
	b = append(b, h.digest...)
	return binary.LittleEndian.AppendUint32(b, crc32.Checksum(b, castagnoli))
}

// append adds the encoded record to b.
func (r record) append(b []byte) []byte {
	start := len(b)
	b = append(b, 0, 0, 0, 0)
	b = binary.LittleEndian.AppendUint32(b, uint32(r.piece))
	b = binary.LittleEndian.AppendUint16(b, uint16(len(r.proof)))
	b = append(b, r.hash[:]...)
	b = append(b, r.proof...)
	binary.LittleEndian.PutUint32(b[start:], crc32.Checksum(b[start+4:], castagnoli))
	return b
}

// scanJournal reads a journal and hands each good record to visit. It returns how many bytes are good; what
// follows is a torn tail. Only a bad header is an error (errJournal), or r's own.
func scanJournal(r io.Reader, visit func(record)) (h journalHeader, good int64, err error) {
	br := bufio.NewReaderSize(r, 64<<10)
	h, good, err = readHeader(br)
	if err != nil {
		return h, 0, err
	}
	pieces := h.layout.pieces()
	fixed := make([]byte, recordFixed)
	for {
		if _, err := io.ReadFull(br, fixed); err != nil {
			return h, good, tornIsFine(err)
		}
		index, n := binary.LittleEndian.Uint32(fixed[4:]), int(binary.LittleEndian.Uint16(fixed[8:]))
		if int64(index) >= int64(pieces) || n > MaxProof {
			return h, good, nil
		}
		rec := record{piece: int(index), proof: make([]byte, n)}
		if _, err := io.ReadFull(br, rec.proof); err != nil {
			return h, good, tornIsFine(err)
		}
		sum := crc32.Update(crc32.Checksum(fixed[4:], castagnoli), castagnoli, rec.proof)
		if sum != binary.LittleEndian.Uint32(fixed) {
			return h, good, nil
		}
		copy(rec.hash[:], fixed[10:])
		visit(rec)
		good += int64(recordFixed + n)
	}
}

func readHeader(r io.Reader) (h journalHeader, n int64, err error) {
	b := make([]byte, journalFixed, journalFixed+maxJournalDigests+4)
	if _, err := io.ReadFull(r, b); err != nil {
		return h, 0, badHeader(err)
	}
	dlen := int(binary.LittleEndian.Uint16(b[24:]))
	if string(b[:8]) != journalMagic || dlen > maxJournalDigests {
		return h, 0, errJournal
	}
	b = b[:journalFixed+dlen+4]
	if _, err := io.ReadFull(r, b[journalFixed:]); err != nil {
		return h, 0, badHeader(err)
	}
	end := journalFixed + dlen
	if crc32.Checksum(b[:end], castagnoli) != binary.LittleEndian.Uint32(b[end:]) {
		return h, 0, errJournal
	}
	h.digest = digest.Digest(b[journalFixed:end])
	h.layout, err = newLayout(int64(binary.LittleEndian.Uint64(b[8:])), int64(binary.LittleEndian.Uint64(b[16:])))
	if err != nil {
		return h, 0, fmt.Errorf("%w: %w", errJournal, err)
	}
	if err := checkDigest(h.digest); err != nil {
		return h, 0, fmt.Errorf("%w: %w", errJournal, err)
	}
	return h, int64(len(b)), nil
}

func tornIsFine(err error) error {
	if err == io.EOF || err == io.ErrUnexpectedEOF {
		return nil
	}
	return err
}

func badHeader(err error) error {
	if tornIsFine(err) == nil {
		return errJournal
	}
	return err
}

// journal appends records to an open journal file.
type journal struct {
	f    file
	head int64 // bytes of the header

	mu  sync.Mutex
	end int64 // where the next record goes; moves only when one was written whole
	buf []byte
}

// newJournal writes the header of a fresh journal.
func newJournal(f file, h journalHeader) (*journal, error) {
	b := h.encode()
	if _, err := f.WriteAt(b, 0); err != nil {
		return nil, err
	}
	return &journal{f: f, head: int64(len(b)), end: int64(len(b))}, nil
}

// Append records a piece whose data is written. A failed append leaves at most a torn tail, which the next one
// overwrites.
func (j *journal) Append(r record) error {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.buf = r.append(j.buf[:0])
	if _, err := j.f.WriteAt(j.buf, j.end); err != nil {
		return err
	}
	j.end += int64(len(j.buf))
	return nil
}

// Clear forgets all records.
func (j *journal) Clear() error {
	j.mu.Lock()
	defer j.mu.Unlock()
	if err := j.f.Truncate(j.head); err != nil {
		return err
	}
	j.end = j.head
	return nil
}
