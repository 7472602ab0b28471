package gateway

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// slow is a file of which nothing comes for a time.
type slow struct {
	*one
	began time.Time
	open  time.Duration // of Open
	first time.Duration // of the first byte after that
	fails error
}

func (s *slow) Stat(context.Context, Ask) (File, error) { return s, nil }

func (s *slow) Waiting() Waiting {
	return Waiting{Read: int64(time.Since(s.began) / time.Second), Reader: Here}
}

func (s *slow) Open(ctx context.Context, off, n int64) (Content, error) {
	time.Sleep(s.open)
	return s, s.fails
}

func (s *slow) Reader(off, n int64) (Reader, error) {
	time.Sleep(s.first)
	return s.one.Reader(off, n)
}

// interim keeps the interim responses, and what the final one begins with.
type interim struct {
	*httptest.ResponseRecorder
	told []string
}

func (i *interim) WriteHeader(status int) {
	if status == http.StatusProcessing {
		i.told = append(i.told, i.Header().Get(WaitHeader))
		return
	}
	i.ResponseRecorder.WriteHeader(status)
}

// Who asks for it is told once a second until the answer begins, and nobody else is.
func TestWaiting(t *testing.T) {
	for _, row := range []struct {
		name   string
		header string
		minor  int
		file   slow
		told   int
		status int
	}{
		{"not asked for", "", 1, slow{open: 5 * time.Second}, 0, 200},
		{"HTTP/1.0", "1", 0, slow{open: 5 * time.Second}, 0, 200},
		{"at once", "1", 1, slow{}, 0, 200},
		{"open", "1", 1, slow{open: 3500 * time.Millisecond}, 3, 200},
		{"open and the first byte", "1", 1, slow{open: 1500 * time.Millisecond, first: 2 * time.Second}, 3, 200},
		{"in vain", "1", 1, slow{open: 2500 * time.Millisecond, fails: problem(Unreachable, 502, "gone")}, 2, 502},
	} {
		t.Run(row.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				f := row.file
				f.one, f.began = &one{data: []byte("data"), info: Info{Size: -1, Tag: "t"}}, time.Now()
				r := httptest.NewRequest(http.MethodGet, "http://127.0.0.1/mesh/http://a.example/f", nil)
				r.ProtoMajor, r.ProtoMinor = 1, row.minor
				if row.header != "" {
					r.Header.Set(WaitHeader, row.header)
				}
				w := &interim{ResponseRecorder: httptest.NewRecorder()}
				New(Config{}, &f).ServeHTTP(w, r)
				var want []string
				for i := range row.told {
					want = append(want, fmt.Sprintf(`{"read":%d,"reader":"here"}`, i+1))
				}
				if !slices.Equal(w.told, want) || w.Code != row.status || w.Header().Get(WaitHeader) != "" {
					t.Errorf("told %q, then %d %v", w.told, w.Code, w.Header())
				}
			})
		})
	}
}

// A client that has left is told nothing.
func TestWaitingForNobody(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := slow{one: &one{data: []byte("data")}, open: 5 * time.Second, fails: context.Canceled}
		ctx, cancel := context.WithTimeout(t.Context(), 1500*time.Millisecond)
		defer cancel()
		r := httptest.NewRequestWithContext(ctx, http.MethodGet, "http://127.0.0.1/mesh/http://a.example/f", nil)
		r.Header.Set(WaitHeader, "1")
		w := &interim{ResponseRecorder: httptest.NewRecorder()}
		func() {
			defer func() {
				if p := recover(); p != http.ErrAbortHandler {
					t.Errorf("%v", p)
				}
			}()
			New(Config{}, &f).ServeHTTP(w, r)
		}()
		if len(w.told) != 1 {
			t.Errorf("told %q", w.told)
		}
	})
}

// What a node says comes back as it was, or not at all, and a terminal can show it.
func FuzzParseWaiting(f *testing.F) {
	f.Add(`{"read":12,"reader":"here"}`)
	f.Add(`{"read":-1,"address":"\u001b[2J"}`)
	f.Fuzz(func(t *testing.T, value string) {
		w, ok := ParseWaiting(value)
		if !ok {
			return
		}
		if w.Read < 0 || strings.ContainsFunc(w.Reader+w.Address, func(r rune) bool { return r <= ' ' || r > '~' }) {
			t.Errorf("%+v", w)
		}
		text, err := json.Marshal(w)
		if again, ok := ParseWaiting(string(text)); err != nil || len(text) <= maxWaiting && (!ok || again != w) {
			t.Errorf("%+v, then %+v", w, again)
		}
	})
}
