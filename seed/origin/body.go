package origin

import (
	"errors"
	"fmt"
	"io"
)

// Body is the bytes of a blob, from Offset on. Read ends with io.EOF only after all bytes that were promised have
// come; a body that ends early is an *Error with io.ErrUnexpectedEOF, one that goes on too long with
// ErrInvalid. The bytes are not verified. A Body belongs to one reader and has to be closed.
type Body struct {
	// Size is the whole blob's, -1 if the origin does not tell.
	Size int64
	// Offset is where the first byte lies in the blob.
	Offset int64
	// Ranged tells that the origin honoured the range. Otherwise the whole blob is coming, to its end, even if a
	// Length was asked for.
	Ranged bool

	*stream
	left int64 // bytes still promised, -1 unknown
}

// Read reads what has come.
func (b *Body) Read(p []byte) (int, error) {
	if b.err != nil {
		return 0, b.err
	}
	if len(p) == 0 {
		return 0, nil
	}
	if b.left == 0 {
		return 0, b.end()
	}
	if b.left > 0 && int64(len(p)) > b.left {
		p = p[:b.left]
	}
	n, err := b.stream.Read(p)
	if b.left > 0 {
		b.left -= int64(n)
	}
	if err == io.EOF && b.left > 0 {
		err = b.short()
	}
	if err == nil || errors.Is(err, io.EOF) && n > 0 {
		return n, nil // the end is told by the next Read
	}
	return n, err
}

// end checks that nothing follows the promised bytes.
func (b *Body) end() error {
	var one [1]byte
	for {
		n, err := b.stream.Read(one[:])
		switch {
		case n > 0:
			return b.fail(fmt.Errorf("%w: more bytes than promised", ErrInvalid), false)
		case err != nil:
			return err
		}
	}
}

func (b *Body) short() error {
	return b.fail(fmt.Errorf("%w: %d bytes missing: %w", ErrUnreachable, b.left, io.ErrUnexpectedEOF), true)
}
