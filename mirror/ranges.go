package mirror

import (
	"fmt"
	"strconv"
	"strings"
)

// span is a range of bytes within a blob.
type span struct {
	off, n int64
	part   bool // a range was asked for and applies: 206
}

// contentRange is the header of a 206.
func (s span) contentRange(size int64) string {
	return fmt.Sprintf("bytes %d-%d/%d", s.off, s.off+s.n-1, size)
}

// parseRange applies a Range header to a blob of size bytes. A header that is
// malformed, of another unit or for several ranges is ignored, as RFC 9110
// allows, and gives the whole blob; one that lies past the end is errRange.
func parseRange(header string, size int64) (span, error) {
	whole := span{n: size}
	unit, spec, ok := strings.Cut(header, "=")
	if !ok || !strings.EqualFold(strings.TrimSpace(unit), "bytes") {
		return whole, nil
	}
	first, last, ok := strings.Cut(strings.Trim(spec, " \t"), "-")
	if !ok {
		return whole, nil
	}
	if first == "" {
		return suffixRange(last, size)
	}
	off, ok := parsePos(first)
	if !ok {
		return whole, nil
	}
	end := size - 1
	if last != "" {
		if end, ok = parsePos(last); !ok || end < off {
			return whole, nil
		}
		end = min(end, size-1)
	}
	if off >= size {
		return span{}, errRange
	}
	return span{off: off, n: end - off + 1, part: true}, nil
}

// suffixRange is the last n bytes. A suffix of an empty blob is the whole blob:
// no Content-Range can say "no bytes of none".
func suffixRange(suffix string, size int64) (span, error) {
	n, ok := parsePos(suffix)
	switch {
	case !ok:
		return span{n: size}, nil
	case n == 0:
		return span{}, errRange
	case size == 0:
		return span{}, nil
	}
	n = min(n, size)
	return span{off: size - n, n: n, part: true}, nil
}

// parsePos reads digits only: no sign, no space. Numbers past the largest int64
// stand for it, since they only have to compare greater than any size.
func parsePos(s string) (int64, bool) {
	if s == "" {
		return 0, false
	}
	for i := range len(s) {
		if s[i] < '0' || s[i] > '9' {
			return 0, false
		}
	}
	n, _ := strconv.ParseInt(s, 10, 64) // saturates on overflow
	return n, true
}
