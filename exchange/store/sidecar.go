package store

import (
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"hash/crc32"
)

// A sidecar lies beside a complete blob. All numbers are little-endian.
//
//	header  "meshd-b1" | size u64 | piece size u64 | length of media type u16 | media type | crc32c of the header u32
//	body    hash [32] of each piece | SHA-256 [32] of all before
//
// The header has a checksum of its own so that Open reads only that much of each.
const (
	sidecarMagic     = "meshd-b1"
	sidecarFixed     = 8 + 8 + 8 + 2
	sidecarHeaderMax = sidecarFixed + MaxMediaType + 4
)

var errSidecar = errors.New("unreadable sidecar")

type sidecar struct {
	layout    layout
	mediaType string
	hashes    []Hash // one for each piece; nil if only the header was read
}

func (s sidecar) encode() []byte {
	b := make([]byte, 0, sidecarFixed+len(s.mediaType)+4+len(s.hashes)*len(Hash{})+sha256.Size)
	b = append(b, sidecarMagic...)
	b = binary.LittleEndian.AppendUint64(b, uint64(s.layout.size))
	b = binary.LittleEndian.AppendUint64(b, uint64(s.layout.pieceSize))
	b = binary.LittleEndian.AppendUint16(b, uint16(len(s.mediaType)))
	b = append(b, s.mediaType...)
	b = binary.LittleEndian.AppendUint32(b, crc32.Checksum(b, castagnoli))
	for i := range s.hashes {
		b = append(b, s.hashes[i][:]...)
	}
	sum := sha256.Sum256(b)
	return append(b, sum[:]...)
}

// parseSidecarHeader reads the header at the start of b and returns its length.
func parseSidecarHeader(b []byte) (s sidecar, n int, err error) {
	if len(b) < sidecarFixed || string(b[:8]) != sidecarMagic {
		return s, 0, errSidecar
	}
	mlen := int(binary.LittleEndian.Uint16(b[24:]))
	end := sidecarFixed + mlen
	if mlen > MaxMediaType || len(b) < end+4 ||
		crc32.Checksum(b[:end], castagnoli) != binary.LittleEndian.Uint32(b[end:]) {
		return s, 0, errSidecar
	}
	s.mediaType = string(b[sidecarFixed:end])
	s.layout, err = newLayout(int64(binary.LittleEndian.Uint64(b[8:])), int64(binary.LittleEndian.Uint64(b[16:])))
	if err != nil {
		return s, 0, errSidecar
	}
	return s, end + 4, nil
}

// parseSidecar reads a whole sidecar. Nothing may follow it.
func parseSidecar(b []byte) (sidecar, error) {
	s, n, err := parseSidecarHeader(b)
	if err != nil {
		return sidecar{}, err
	}
	pieces := s.layout.pieces()
	body := n + pieces*len(Hash{})
	if len(b) != body+sha256.Size || sha256.Sum256(b[:body]) != Hash(b[body:]) {
		return sidecar{}, errSidecar
	}
	s.hashes = make([]Hash, pieces)
	for i := range s.hashes {
		s.hashes[i] = Hash(b[n+i*len(Hash{}):])
	}
	return s, nil
}
