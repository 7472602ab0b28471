package gateway

import (
	"errors"
	"net/http"
	"strconv"
	"strings"
)

// span is a range of bytes within a file. n is -1 for all of one whose size is unknown.
type span struct {
	off, n int64
	part   bool // 206
}

var errRange = errors.New("range past the end")

// parseRange applies a Range header to a file of size bytes. One that is malformed, of another unit, or for several
// ranges is ignored, as RFC 9110, 14.2 allows, and so is any while the size is unknown.
func parseRange(header string, size int64) (span, error) {
	whole := span{n: size}
	spec, ok := strings.CutPrefix(header, "bytes=")
	first, last, dash := strings.Cut(strings.Trim(spec, " \t"), "-")
	if !ok || !dash || size < 0 {
		return whole, nil
	}
	if first == "" {
		n, ok := position(last)
		switch {
		case !ok:
			return whole, nil
		case n == 0:
			return span{}, errRange
		case size == 0:
			return whole, nil
		}
		n = min(n, size)
		return span{off: size - n, n: n, part: true}, nil
	}
	off, ok := position(first)
	if !ok {
		return whole, nil
	}
	end := size - 1
	if last != "" {
		if end, ok = position(last); !ok || end < off {
			return whole, nil
		}
		end = min(end, size-1)
	}
	if off >= size {
		return span{}, errRange
	}
	return span{off: off, n: end - off + 1, part: true}, nil
}

// position reads digits only; numbers past the largest int64 stand for it.
func position(s string) (int64, bool) {
	if s == "" || strings.Trim(s, "0123456789") != "" {
		return 0, false
	}
	n, _ := strconv.ParseInt(s, 10, 64) // saturates on overflow
	return n, true
}

// rangeHeader is the Range header, "" if its If-Range is for another version.
func rangeHeader(h http.Header, tag string) string {
	if cond := h.Get("If-Range"); tag == "" || cond != "" && cond != `"`+tag+`"` {
		return ""
	}
	return h.Get("Range")
}

// condition is the status that If-Match and If-None-Match ask for: 200, 304 or 412 (RFC 9110, 13.2.2). A version without
// a name matches nothing.
func condition(h http.Header, tag string) int {
	if want := h.Get("If-Match"); want != "" && !listed(want, tag) {
		return http.StatusPreconditionFailed
	}
	if known := h.Get("If-None-Match"); known != "" && listed(known, tag) {
		return http.StatusNotModified
	}
	return http.StatusOK
}

func listed(list, tag string) bool {
	for item := range strings.SplitSeq(list, ",") {
		item = strings.TrimSpace(item)
		if tag != "" && (item == `"`+tag+`"` || item == `W/"`+tag+`"`) || item == "*" {
			return true
		}
	}
	return false
}
