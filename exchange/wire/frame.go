package wire

import (
	"bufio"
	"errors"
	"fmt"
	"io"
)

// ReadFrame reads the type and body of the next frame into buf, which it grows as needed, and returns them.
// io.EOF means that the stream ended between two frames; a stream that ends inside one fails with
// io.ErrUnexpectedEOF, a frame longer than MaxFrame with ErrMalformed.
func ReadFrame(r *bufio.Reader, buf []byte) ([]byte, error) {
	n, err := readLength(r)
	if err != nil {
		return nil, err
	}
	if cap(buf) < n {
		buf = make([]byte, n)
	}
	buf = buf[:n]
	if _, err := io.ReadFull(r, buf); err != nil {
		if errors.Is(err, io.EOF) {
			err = io.ErrUnexpectedEOF
		}
		return nil, fmt.Errorf("read frame of %d bytes: %w", n, err)
	}
	return buf, nil
}

// readLength reads a uvarint of at most three bytes, in its shortest form, between 1 and MaxFrame.
func readLength(r *bufio.Reader) (int, error) {
	n := 0
	for shift := 0; shift < 21; shift += 7 {
		b, err := r.ReadByte()
		if err != nil {
			if shift > 0 && errors.Is(err, io.EOF) {
				err = io.ErrUnexpectedEOF
			}
			return 0, err
		}
		n |= int(b&0x7f) << shift
		if b < 0x80 {
			if n < 1 || n > MaxFrame || shift > 0 && b == 0 {
				break
			}
			return n, nil
		}
	}
	return 0, fmt.Errorf("%w: frame length", ErrMalformed)
}
