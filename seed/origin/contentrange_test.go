package origin

import (
	"errors"
	"fmt"
	"math"
	"strings"
	"testing"
	"time"
)

func TestParseContentRange(t *testing.T) {
	for _, tt := range []struct {
		in   string
		want contentRange
		ok   bool
	}{
		{"bytes 0-99/200", contentRange{0, 99, 200}, true},
		{"bytes 0-0/1", contentRange{0, 0, 1}, true},
		{"bytes 5-9/*", contentRange{5, 9, -1}, true},
		{"bytes */200", contentRange{-1, -1, 200}, true},
		{"bytes */0", contentRange{-1, -1, 0}, true},
		{"Bytes 0-9/10", contentRange{0, 9, 10}, true},
		{"bytes 0-9223372036854775806/9223372036854775807", contentRange{0, math.MaxInt64 - 1, math.MaxInt64}, true},
		{"bytes 0-9223372036854775807/*", contentRange{}, false}, // its length does not fit
		{"", contentRange{}, false},
		{"bytes", contentRange{}, false},
		{"bytes ", contentRange{}, false},
		{"bytes=0-9/10", contentRange{}, false},
		{"items 0-9/10", contentRange{}, false},
		{"bytes 0-9", contentRange{}, false},
		{"bytes 9-0/10", contentRange{}, false},
		{"bytes 0-10/10", contentRange{}, false},
		{"bytes -9/10", contentRange{}, false},
		{"bytes 0-/10", contentRange{}, false},
		{"bytes 0--9/10", contentRange{}, false},
		{"bytes +0-9/10", contentRange{}, false},
		{"bytes 0 - 9/10", contentRange{}, false},
		{"bytes 0-9/ 10", contentRange{}, false},
		{"bytes 0-9/10/10", contentRange{}, false},
		{"bytes */*", contentRange{}, false},
		{"bytes 0-9/-1", contentRange{}, false},
		{"bytes 0-9/99999999999999999999", contentRange{}, false},
		{"bytes 0-9/9223372036854775808", contentRange{}, false},
	} {
		got, err := parseContentRange(tt.in)
		if (err == nil) != tt.ok || got != tt.want {
			t.Errorf("%q: got %+v, %v", tt.in, got, err)
		}
		if err != nil && !errors.Is(err, ErrInvalid) {
			t.Errorf("%q: %v is no ErrInvalid", tt.in, err)
		}
	}
}

// What is accepted makes sense and reads the same when written again.
func FuzzParseContentRange(f *testing.F) {
	for _, s := range []string{"bytes 0-99/200", "bytes 0-0/*", "bytes */5", "bytes 0-9223372036854775807/*", "bytes 1-0/2", "", "bytes 00-01/002"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		r, err := parseContentRange(s)
		if err != nil {
			return
		}
		size, span := "*", "*"
		if r.size >= 0 {
			size = fmt.Sprint(r.size)
		}
		switch {
		case r.first == -1 && r.last == -1 && r.size >= 0:
		case r.first < 0 || r.last < r.first || r.length() <= 0 || r.size >= 0 && r.last >= r.size:
			t.Fatalf("%q gives %+v", s, r)
		default:
			span = fmt.Sprintf("%d-%d", r.first, r.last)
		}
		again, err := parseContentRange("bytes " + span + "/" + size)
		if err != nil || again != r {
			t.Fatalf("%q gives %+v, then %+v, %v", s, r, again, err)
		}
	})
}

func TestParseRetryAfter(t *testing.T) {
	now := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	for _, tt := range []struct {
		in   string
		want time.Duration
	}{
		{"", 0},
		{"0", 0},
		{"7", 7 * time.Second},
		{" 7 ", 7 * time.Second},
		{"-7", 0},
		{"7s", 0},
		{"1.5", 0},
		{"86400", time.Hour},
		{"4294967295", time.Hour},
		{"99999999999999999999", 0},
		{"Fri, 02 Jan 2026 03:04:15 GMT", 10 * time.Second},
		{"Fri, 02 Jan 2026 03:04:00 GMT", 0},
		{"Fri, 02 Jan 2099 03:04:00 GMT", time.Hour},
		{strings.Repeat("9", 1000), 0},
	} {
		if got := parseRetryAfter(tt.in, now); got != tt.want {
			t.Errorf("%.20q: %s, want %s", tt.in, got, tt.want)
		}
	}
}
