package origin

import (
	"fmt"
	"strconv"
	"strings"
)

// contentRange is a Content-Range in bytes (RFC 9110, 14.4).
type contentRange struct {
	first, last int64 // inclusive; both -1 for an unsatisfied range ("bytes */SIZE")
	size        int64 // of the whole; -1 unknown
}

// length is the number of bytes that the range covers.
func (r contentRange) length() int64 { return r.last - r.first + 1 }

// parseContentRange reads "bytes 0-99/200", "bytes 0-99/*" and "bytes */200".
func parseContentRange(v string) (contentRange, error) {
	bad := fmt.Errorf("%w: Content-Range %s", ErrInvalid, clip(v))
	unit, spec, ok := strings.Cut(strings.TrimSpace(v), " ")
	if !ok || !strings.EqualFold(unit, "bytes") {
		return contentRange{}, bad
	}
	span, whole, ok := strings.Cut(spec, "/")
	if !ok {
		return contentRange{}, bad
	}
	r := contentRange{first: -1, last: -1, size: -1}
	if whole != "*" {
		if r.size, ok = parseOffset(whole); !ok {
			return contentRange{}, bad
		}
	}
	if span == "*" {
		if r.size < 0 {
			return contentRange{}, bad
		}
		return r, nil
	}
	first, last, ok := strings.Cut(span, "-")
	if !ok {
		return contentRange{}, bad
	}
	var okFirst, okLast bool
	r.first, okFirst = parseOffset(first)
	r.last, okLast = parseOffset(last)
	if !okFirst || !okLast || r.first > r.last || r.size >= 0 && r.last >= r.size || r.length() <= 0 {
		return contentRange{}, bad
	}
	return r, nil
}

// parseOffset reads digits and nothing else.
func parseOffset(s string) (int64, bool) {
	if s == "" || len(s) > 19 || strings.Trim(s, "0123456789") != "" {
		return 0, false
	}
	n, err := strconv.ParseInt(s, 10, 64)
	return n, err == nil
}
