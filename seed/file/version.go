package file

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"
)

// maxValidator bounds an ETag, in bytes. A longer one counts as none.
const maxValidator = 256

// Version is what an origin says to tell one version of a file from the next.
type Version struct {
	ETag     string // strong and quoted, as it came; "" if there is none
	Modified string // Last-Modified as it came, if no ETag and old enough to count
	Size     int64  // bytes; -1 if the origin does not tell
}

// Strong reports whether the version can be read in parts, by several, and gone on with.
func (v Version) Strong() bool { return v.ETag != "" || v.Modified != "" && v.Size >= 0 }

// versionOf reads the validators of an answer to GET or HEAD.
func versionOf(h http.Header, size int64) Version {
	v := Version{Size: size}
	if tag := h.Get("ETag"); strongTag(tag) {
		v.ETag = tag
		return v
	}
	modified, err := http.ParseTime(h.Get("Last-Modified"))
	if err != nil {
		return v
	}
	if date, err := http.ParseTime(h.Get("Date")); err == nil && date.Sub(modified) >= time.Second {
		v.Modified = h.Get("Last-Modified")
	}
	return v
}

// strongTag accepts what RFC 9110, 8.8.3 does, without W/.
func strongTag(s string) bool {
	if len(s) < 2 || len(s) > maxValidator || s[0] != '"' || s[len(s)-1] != '"' {
		return false
	}
	for _, c := range []byte(s[1 : len(s)-1]) {
		if c <= ' ' || c == '"' || c == 0x7f {
			return false
		}
	}
	return true
}

// Check reports the first field that no origin's answer gives: versions come from peers too.
func (v Version) Check() error {
	switch {
	case v.ETag != "" && !strongTag(v.ETag):
		return errors.New("version: the ETag is not a strong one")
	case v.Modified != "":
		if _, err := http.ParseTime(v.Modified); err != nil || v.ETag != "" {
			return errors.New("version: the date of the last change is not one")
		}
	}
	return nil
}

// same compares the validators of an answer with those that were asked for, as far as both know the length.
func (v Version) same(o Version) bool {
	return v.ETag == o.ETag && v.Modified == o.Modified && (v.Size == o.Size || v.Size < 0 || o.Size < 0)
}

// condition makes a request one for this version only.
func (v Version) condition(h http.Header) {
	switch {
	case v.ETag != "":
		h.Set("If-Match", v.ETag)
	case v.Modified != "":
		h.Set("If-Unmodified-Since", v.Modified)
	}
}

// Tag names a version as an ETag does, without quotes: the same for all who have the same Identity, which it does not tell.
func (r Request) Tag(v Version, key []byte) string {
	sum := sha256.Sum256(append([]byte("meshd tag\n"), r.Identity(v, key)...))
	return hex.EncodeToString(sum[:16])
}

// Identity is what the name of a version is made of: who has the same has asked for the same file, with the same headers,
// and was told the same validators and length. key keeps headers from being guessed by their hash; all who are to share a
// private file have to have the same.
func (r Request) Identity(v Version, key []byte) []byte {
	var b strings.Builder
	fmt.Fprintf(&b, "meshd file 1\n%s\n%s\n%s\n%d\n", r.Same(), v.ETag, v.Modified, v.Size)
	if r.Private() {
		mac := hmac.New(sha256.New, key)
		names := make([]string, 0, len(r.Header))
		for name := range r.Header {
			names = append(names, name)
		}
		slices.Sort(names)
		for _, name := range names {
			for _, value := range r.Header[name] {
				fmt.Fprintf(mac, "%d %d %s%s", len(name), len(value), name, value)
			}
		}
		b.WriteString(hex.EncodeToString(mac.Sum(nil)))
	}
	return []byte(b.String())
}
