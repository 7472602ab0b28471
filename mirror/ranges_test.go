package mirror

import (
	"bytes"
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"
)

func TestParseRange(t *testing.T) {
	const size = 1000
	whole := span{n: size}
	for _, c := range []struct {
		name, header string
		want         span
		err          error
	}{
		{"none", "", whole, nil},
		{"first-last", "bytes=0-9", span{0, 10, true}, nil},
		{"one byte", "bytes=999-999", span{999, 1, true}, nil},
		{"open", "bytes=500-", span{500, 500, true}, nil},
		{"all of it", "bytes=0-", span{0, size, true}, nil},
		{"suffix", "bytes=-10", span{990, 10, true}, nil},
		{"suffix longer than the blob", "bytes=-5000", span{0, size, true}, nil},
		{"last past the end", "bytes=990-5000", span{990, 10, true}, nil},
		{"last beyond int64", "bytes=990-99999999999999999999", span{990, 10, true}, nil},
		{"unit in capitals", "Bytes=0-9", span{0, 10, true}, nil},
		{"spaces around", "bytes= 0-9 ", span{0, 10, true}, nil},

		{"first at the end", "bytes=1000-", span{}, errRange},
		{"first past the end", "bytes=1000-2000", span{}, errRange},
		{"first beyond int64", "bytes=99999999999999999999-", span{}, errRange},
		{"empty suffix", "bytes=-0", span{}, errRange},

		{"other unit", "items=0-9", whole, nil},
		{"no unit", "0-9", whole, nil},
		{"no dash", "bytes=5", whole, nil},
		{"only a dash", "bytes=-", whole, nil},
		{"last before first", "bytes=9-0", whole, nil},
		{"several", "bytes=0-9,20-29", whole, nil},
		{"negative", "bytes=--5", whole, nil},
		{"signed", "bytes=+0-9", whole, nil},
		{"hex", "bytes=0x0-0x9", whole, nil},
		{"letters", "bytes=a-b", whole, nil},
		{"10k of ranges", "bytes=" + strings.Repeat("0-1,", 10_000), whole, nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			got, err := parseRange(c.header, size)
			if got != c.want || !errors.Is(err, c.err) {
				t.Fatalf("got %+v, %v; want %+v, %v", got, err, c.want, c.err)
			}
		})
	}
}

func TestParseRangeOfEmptyBlob(t *testing.T) {
	for header, want := range map[string]error{"": nil, "bytes=0-": errRange, "bytes=0-0": errRange, "bytes=-5": nil, "bytes=-0": errRange} {
		if got, err := parseRange(header, 0); !errors.Is(err, want) || got != (span{}) {
			t.Errorf("%q: %+v, %v; want %v", header, got, err, want)
		}
	}
}

// FuzzRange checks that no header reads outside of the blob, and that where the
// standard library's file server gives one range too, it is the same one.
func FuzzRange(f *testing.F) {
	f.Add("bytes=0-9", uint16(100))
	f.Add("bytes=-5", uint16(3))
	f.Add("bytes=7-", uint16(7))
	f.Add("bytes=9-0,", uint16(0))
	f.Fuzz(func(t *testing.T, header string, size uint16) {
		n := int64(size)
		s, err := parseRange(header, n)
		if err != nil {
			if !errors.Is(err, errRange) {
				t.Fatal(err)
			}
			return
		}
		if s.off < 0 || s.n < 0 || s.off+s.n > n || s.part && s.n == 0 || !s.part && s.n != n {
			t.Fatalf("%q of %d: %+v", header, n, s)
		}
		if !s.part {
			return
		}
		r := httptest.NewRequest(http.MethodGet, "/", nil)
		r.Header["Range"] = []string{header}
		rec := httptest.NewRecorder()
		http.ServeContent(rec, r, "", time.Time{}, bytes.NewReader(make([]byte, n)))
		if rec.Code == http.StatusPartialContent && rec.Header().Get("Content-Range") != s.contentRange(n) {
			t.Fatalf("%q of %d: %s, net/http says %s", header, n, s.contentRange(n), rec.Header().Get("Content-Range"))
		}
	})
}

func TestNotModified(t *testing.T) {
	h := func(values ...string) http.Header { return http.Header{"If-None-Match": values} }
	for _, c := range []struct {
		name   string
		header http.Header
		want   bool
	}{
		{"none", http.Header{}, false},
		{"same", h(`"` + someSHA256 + `"`), true},
		{"weak", h(`W/"` + someSHA256 + `"`), true},
		{"bare", h(someSHA256), true},
		{"star", h("*"), true},
		{"in a list", h(`"x", "` + someSHA256 + `"`), true},
		{"in a second line", h(`"x"`, `"`+someSHA256+`"`), true},
		{"other", h(`"` + someSHA512 + `"`), false},
	} {
		t.Run(c.name, func(t *testing.T) {
			if got := notModified(c.header, someSHA256); got != c.want {
				t.Fatalf("got %v", got)
			}
		})
	}
}

// TestRangeIsWantedAsAPart: the mesh is told which bytes a client wants, if the
// size is known and they are not all.
func TestRangeIsWantedAsAPart(t *testing.T) {
	w, _, _, target := pulled(t, Config{}, 1000)
	for _, c := range []struct {
		header string
		off, n int64
	}{
		{"", 0, 0},
		{"bytes=0-", 0, 0},
		{"bytes=0-999", 0, 0},
		{"bytes=10-19", 10, 10},
		{"bytes=990-", 990, 10},
		{"bytes=-51", 949, 51},
		{"bytes=0-1,5-6", 0, 0},
		{"bytes=1000-", 0, 0}, // 416
	} {
		w.do("GET", target, "Range", c.header)
		w.mesh.mu.Lock()
		got := w.mesh.wants[len(w.mesh.wants)-1]
		w.mesh.mu.Unlock()
		if got.Off != c.off || got.Len != c.n {
			t.Errorf("%q: %d+%d wanted", c.header, got.Off, got.Len)
		}
	}
}
