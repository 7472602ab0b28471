package gateway

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// one is a world of one file.
type one struct {
	data []byte
	info Info
	err  error // of Stat
	cut  int   // > 0: readers break after so many bytes
	asks []Ask
	offs []int64

	hurried bool // Open was given an end
}

func (o *one) Stat(ctx context.Context, a Ask) (File, error) {
	o.asks = append(o.asks, a)
	if errors.Is(o.err, context.DeadlineExceeded) {
		<-ctx.Done()
		return nil, ctx.Err()
	}
	return o, o.err
}

func (o *one) Info() Info { return o.info }

func (o *one) Open(ctx context.Context, off, n int64) (Content, error) {
	_, o.hurried = ctx.Deadline()
	o.offs = append(o.offs, off, n)
	return o, nil
}

func (o *one) Size() int64  { return int64(len(o.data)) }
func (o *one) Close() error { return nil }

func (o *one) Reader(off, n int64) (Reader, error) {
	if n < 0 {
		n = int64(len(o.data)) - off
	}
	return &oneReader{o, bytes.NewReader(o.data[off : off+n])}, nil
}

type oneReader struct {
	o *one
	r *bytes.Reader
}

func (r *oneReader) Close() error { return nil }

func (r *oneReader) WriteTo(w io.Writer) (int64, error) {
	if r.o.cut > 0 {
		n, err := io.CopyN(w, r.r, int64(r.o.cut))
		return n, errors.Join(err, &Error{Code: Changed, Status: 409, Err: errors.New("changed")})
	}
	if r.o.cut < 0 {
		return 0, &Error{Code: Changed, Status: 409, Err: errors.New("changed")}
	}
	return r.r.WriteTo(w)
}

func newOne() *one {
	data := bytes.Repeat([]byte("0123456789"), 10)
	return &one{data: data, info: Info{Tag: "t", Size: int64(len(data)), ContentType: "text/x"}}
}

func do(t testing.TB, h http.Handler, method, target string, headers ...string) (*http.Response, string, error) {
	t.Helper()
	s := httptest.NewServer(h)
	defer s.Close()
	req, err := http.NewRequest(method, s.URL+"/", nil)
	if err != nil {
		t.Fatal(err)
	}
	req.URL.Opaque = target
	for i := 0; i < len(headers); i += 2 {
		if headers[i] == "Host" {
			req.Host = headers[i+1]
			continue
		}
		req.Header.Set(headers[i], headers[i+1])
	}
	tr := &http.Transport{DisableCompression: true}
	defer tr.CloseIdleConnections()
	resp, err := tr.RoundTrip(req)
	if err != nil {
		return nil, "", err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	return resp, string(body), err
}

const target = "/mesh/https://a.example/b//c?d=/e"

func TestAnswers(t *testing.T) {
	for _, row := range []struct {
		name    string
		method  string
		headers []string
		edit    func(*one)
		status  int
		body    string // of 2xx
		code    Code
	}{
		{"whole", "GET", nil, nil, 200, strings.Repeat("0123456789", 10), ""},
		{"head", "HEAD", nil, nil, 200, "", ""},
		{"range", "GET", []string{"Range", "bytes=5-12"}, nil, 206, "56789012", ""},
		{"suffix", "GET", []string{"Range", "bytes=-3"}, nil, 206, "789", ""},
		{"two ranges", "GET", []string{"Range", "bytes=0-1,3-4"}, nil, 200, strings.Repeat("0123456789", 10), ""},
		{"another unit", "GET", []string{"Range", "lines=0-1"}, nil, 200, strings.Repeat("0123456789", 10), ""},
		{"past the end", "GET", []string{"Range", "bytes=100-"}, nil, 416, "", BadRequest},
		{"range of this version", "GET", []string{"Range", "bytes=98-", "If-Range", `"t"`}, nil, 206, "89", ""},
		{"range of another", "GET", []string{"Range", "bytes=98-", "If-Range", `"u"`}, nil, 200, strings.Repeat("0123456789", 10), ""},
		{"range of what has no version", "GET", []string{"Range", "bytes=98-"}, func(o *one) { o.info.Tag = "" }, 200, strings.Repeat("0123456789", 10), ""},
		{"range of unknown size", "GET", []string{"Range", "bytes=98-"}, func(o *one) { o.info.Size = -1 }, 206, "89", ""},
		{"known", "GET", []string{"If-None-Match", `"x", W/"t"`}, nil, 304, "", ""},
		{"any", "GET", []string{"If-None-Match", `*`}, nil, 304, "", ""},
		{"not known", "GET", []string{"If-None-Match", `"x"`}, nil, 200, strings.Repeat("0123456789", 10), ""},
		{"must be another", "GET", []string{"If-Match", `"x"`}, nil, 412, "", Changed},
		{"empty", "GET", nil, func(o *one) { o.data, o.info.Size = nil, 0 }, 200, "", ""},
		{"refused", "GET", nil, func(o *one) { o.err = &Error{Code: Refused, Status: 403, Err: errors.New("no")} }, 403, "", Refused},
		{"internal", "GET", nil, func(o *one) { o.err = errors.New("geheim") }, 502, "", Unreachable},
		{"no answer", "GET", nil, func(o *one) { o.err = context.DeadlineExceeded }, 504, "", Timeout},
		{"failed before a byte", "GET", nil, func(o *one) { o.cut = -1 }, 409, "", Changed},
		{"post", "POST", nil, nil, 405, "", BadRequest},
		{"a name for this host", "GET", []string{"Host", "evil.example"}, nil, 403, "", Refused},
		{"from another site", "GET", []string{"Sec-Fetch-Site", "cross-site"}, nil, 403, "", Refused},
		{"from another origin", "GET", []string{"Origin", "http://evil.example"}, nil, 403, "", Refused},
	} {
		t.Run(row.name, func(t *testing.T) {
			o := newOne()
			if row.edit != nil {
				row.edit(o)
			}
			var cfg Config
			if row.code == Timeout {
				cfg.OpenTimeout = 50 * time.Millisecond
			}
			resp, body, err := do(t, New(cfg, o), row.method, target, row.headers...)
			if err != nil || resp.StatusCode != row.status || Code(resp.Header.Get(ErrorHeader)) != row.code {
				t.Fatalf("%v, %q, %v", resp, body, err)
			}
			if row.code == "" && body != row.body {
				t.Errorf("body %q", body)
			}
			if strings.Contains(body, "geheim") {
				t.Error("the failure is told")
			}
		})
	}
}

// A file of unknown length is waited for until its Open gives up: all of it may have to be read first.
func TestWaitForLength(t *testing.T) {
	for _, size := range []int64{100, -1} {
		o := newOne()
		o.info.Size = size
		if resp, body, err := do(t, New(Config{}, o), "GET", target); err != nil || resp.StatusCode != 200 || body != string(o.data) {
			t.Errorf("length %d: %v, %q, %v", size, resp, body, err)
		}
		if o.hurried != (size >= 0) {
			t.Errorf("length %d: the wait has an end: %v", size, o.hurried)
		}
	}
}

// What was begun and cannot be ended is cut: the client sees that it is not whole.
func TestCut(t *testing.T) {
	o := newOne()
	o.cut = 30
	if resp, body, err := do(t, New(Config{}, o), "GET", target); err == nil {
		t.Errorf("%v with %d bytes ends well", resp, len(body))
	}
}

// What opening a file says of its length counts, not what was said before.
func TestLengthOfTheContent(t *testing.T) {
	for _, told := range []int64{0, 10, 1000, -1} {
		o := newOne()
		o.info.Tag, o.info.Size = "", told
		resp, body, err := do(t, New(Config{}, o), http.MethodGet, target)
		if err != nil || body != string(o.data) || resp.ContentLength != int64(len(o.data)) {
			t.Errorf("told %d: %d bytes, %v", told, len(body), err)
		}
	}
}

func TestOneTooMany(t *testing.T) {
	h := New(Config{MaxRequests: 1}, newOne())
	h.slots <- struct{}{}
	if resp, _, err := do(t, h, "GET", target); err != nil || resp.StatusCode != 503 || resp.Header.Get("Retry-After") == "" {
		t.Errorf("%v, %v", resp, err)
	}
}

// Headers go to the origin, but for those that are the connection's, ours, or every client's.
func TestAsk(t *testing.T) {
	o := newOne()
	_, _, err := do(t, New(Config{}, o), "GET", target, "Authorization", "Bearer x", "X-Token", "y", "User-Agent", "curl", "Accept", "*/*",
		"Range", "bytes=0-1", DigestHeader, "sha256:ab", FilterHeader, "sig,date")
	if err != nil || len(o.asks) != 1 {
		t.Fatalf("%v, %v", o.asks, err)
	}
	a := o.asks[0]
	if got := fmt.Sprintf("%v %v %v %v %v", a.URL, a.Header, a.Filter, a.Digest, a.Listed); got != "https://a.example/b//c?d=/e map[Authorization:[Bearer x] X-Token:[y]] [sig date] sha256:ab true" {
		t.Errorf("%s", got)
	}
	if fmt.Sprint(o.offs) != "[0 2]" {
		t.Errorf("opened %v", o.offs)
	}
}

func TestMatch(t *testing.T) {
	for target, want := range map[string]bool{
		"/mesh/http://a/": true, "/mesh/": true, "/mesh": false, "/v2/": false, "http://a.example/mesh/x": false,
	} {
		r := httptest.NewRequest(http.MethodGet, target, nil)
		if got := Match(r); got != want {
			t.Errorf("%s: %v", target, got)
		}
	}
}

// FuzzRange: an accepted range lies within the file.
func FuzzRange(f *testing.F) {
	f.Add("bytes=0-1", int64(5))
	f.Add("bytes=-0", int64(0))
	f.Add("bytes=99999999999999999999-", int64(1))
	f.Fuzz(func(t *testing.T, header string, size int64) {
		if size < -1 {
			return
		}
		s, err := parseRange(header, size)
		if err != nil {
			return
		}
		if size >= 0 && (s.off < 0 || s.n < 0 || s.off+s.n > size || !s.part && (s.off != 0 || s.n != size)) || size < 0 && s.part {
			t.Fatalf("%q of %d: %+v", header, size, s)
		}
	})
}

// FuzzAsk: whatever a client sends, what stays here does not go on.
func FuzzAsk(f *testing.F) {
	f.Add("/mesh/http:/a/b", "X-Token", "y")
	f.Fuzz(func(t *testing.T, target, name, value string) {
		r := &http.Request{Method: http.MethodGet, RequestURI: target, Header: http.Header{http.CanonicalHeaderKey(name): {value}}}
		a, err := ask(r)
		if err != nil {
			return
		}
		for k := range a.Header {
			if kept[k] || strings.HasPrefix(k, "Sec-") {
				t.Fatalf("%q goes on", k)
			}
		}
	})
}

func (o *one) Waiting() Waiting { return Waiting{} }
