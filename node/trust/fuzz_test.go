package trust

import (
	"bytes"
	"errors"
	"io"
	"testing"
)

func FuzzReadFrame(f *testing.F) {
	for _, b := range [][]byte{nil, {0, 0, 0, 0}, {0, 0, 0, 2, 'a', 'b', 'c'}, {255, 255, 255, 255}, {0, 16, 0, 1}} {
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		data, err := readFrame(bytes.NewReader(b))
		if err != nil {
			if !errors.Is(err, ErrList) && !errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF) {
				t.Fatal(err)
			}
			return
		}
		var again bytes.Buffer
		if err := writeFrame(&again, data); err != nil || !bytes.HasPrefix(b, again.Bytes()) || len(data) > MaxList {
			t.Fatalf("%x reads as %x", b, data)
		}
	})
}
