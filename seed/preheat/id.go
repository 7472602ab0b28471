package preheat

import (
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"strconv"

	"github.com/libp2p/go-libp2p/core/peer"
)

// ID names a job in the whole mesh: the upper 32 of 52 bits are its owner's tag, the lower 20 count the owner's jobs from
// 1. So it is an integer that JSON carries exactly everywhere, and any node that is asked for a job knows whom to ask.
// Two members of one tag (1 % in a mesh of 10,000) are both asked.
type ID uint64

const (
	countBits = 20
	maxCount  = 1<<countBits - 1
	maxID     = 1<<(32+countBits) - 1
)

// tagOf is the owner's part of its ids.
func tagOf(p peer.ID) uint32 {
	sum := sha256.Sum256([]byte(p))
	return binary.BigEndian.Uint32(sum[:])
}

func newID(tag uint32, count uint32) ID { return ID(tag)<<countBits | ID(count) }

func (id ID) tag() uint32   { return uint32(id >> countBits) }
func (id ID) count() uint32 { return uint32(id & maxCount) }

// String is the id in decimal.
func (id ID) String() string { return strconv.FormatUint(uint64(id), 10) }

// ParseID reads a decimal id. Errors wrap ErrNotFound: nothing goes by such an id.
func ParseID(s string) (ID, error) {
	n, err := strconv.ParseUint(s, 10, 64)
	if id := ID(n); err == nil && n <= maxID && id.count() > 0 && id.String() == s {
		return id, nil
	}
	return 0, fmt.Errorf("%w: %.40q is no id of a job", ErrNotFound, s)
}
