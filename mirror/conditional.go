package mirror

import (
	"net/http"
	"strings"

	"github.com/opencontainers/go-digest"
)

// etag is a strong validator: a digest never changes its content.
func etag(d digest.Digest) string { return `"` + d.String() + `"` }

// notModified reports whether If-None-Match names the digest. Comparison is weak
// (RFC 9110 13.1.2), and a bare digest without quotes is taken too, because some
// registry clients send it so.
func notModified(h http.Header, d digest.Digest) bool {
	for _, line := range h.Values("If-None-Match") {
		for tag := range strings.SplitSeq(line, ",") {
			tag = strings.TrimPrefix(strings.TrimSpace(tag), "W/")
			if tag == "*" || strings.Trim(tag, `"`) == d.String() {
				return true
			}
		}
	}
	return false
}

// rangeHeader returns the Range header if it applies: If-Range has to name the
// same digest by a strong validator. We send no dates, so that none matches.
func rangeHeader(h http.Header, d digest.Digest) string {
	if cond := h.Get("If-Range"); cond != "" && cond != etag(d) {
		return ""
	}
	return h.Get("Range")
}
