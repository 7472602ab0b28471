package mirror

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"strings"
	"testing"
)

// TestRows walks the whole table: each row against what the specification and the
// style guide ask for, written down here a second time.
func TestRows(t *testing.T) {
	type want struct {
		status         int
		manifest, blob string // OCI codes
		tags           string
		retry          bool
	}
	same := func(status int, code string) want {
		return want{status: status, manifest: code, blob: code, tags: code}
	}
	wants := map[error]want{
		errRoute:                 same(404, "UNSUPPORTED"),
		errMethod:                same(405, "UNSUPPORTED"),
		errUpload:                same(404, "BLOB_UPLOAD_UNKNOWN"),
		errLarge:                 same(413, "MANIFEST_INVALID"),
		errName:                  same(400, "NAME_INVALID"),
		errQuery:                 same(400, "NAME_INVALID"),
		errTag:                   same(404, "MANIFEST_UNKNOWN"),
		errDigest:                same(400, "DIGEST_INVALID"),
		errRange:                 same(416, "RANGE_INVALID"),
		errBody:                  same(400, "UNSUPPORTED"),
		errScope:                 same(400, "NAME_INVALID"),
		errLogin:                 same(401, "UNAUTHORIZED"),
		errToken:                 same(401, "UNAUTHORIZED"),
		errNoToken:               same(401, "UNAUTHORIZED"),
		ErrNotFound:              {404, "MANIFEST_UNKNOWN", "BLOB_UNKNOWN", "NAME_UNKNOWN", false},
		ErrBusy:                  {429, "TOOMANYREQUESTS", "TOOMANYREQUESTS", "TOOMANYREQUESTS", true},
		ErrDraining:              {503, "UNAVAILABLE", "UNAVAILABLE", "UNAVAILABLE", true},
		ErrNoSpace:               {503, "UNAVAILABLE", "UNAVAILABLE", "UNAVAILABLE", true},
		ErrCorrupt:               same(502, "MANIFEST_INVALID"),
		errStall:                 same(504, "UNAVAILABLE"),
		context.DeadlineExceeded: same(504, "UNAVAILABLE"),
	}
	if len(rows) != len(wants) {
		t.Fatalf("%d rows, %d expectations", len(rows), len(wants))
	}
	for _, r := range rows {
		t.Run(r.cause.Error(), func(t *testing.T) {
			w, ok := wants[r.cause]
			if !ok {
				t.Fatal("a row without expectation")
			}
			for e, code := range map[endpoint]string{endpointManifest: w.manifest, endpointBlob: w.blob, endpointTags: w.tags} {
				p := problemOf(fmt.Errorf("get something: %w", r.cause), request{route: route{endpoint: e}})
				if p.status != w.status || codeOf(p.body) != code || (p.header.Get("Retry-After") != "") != w.retry {
					t.Errorf("%s: %d %s, want %d %s", e, p.status, p.body, w.status, code)
				}
			}
		})
	}
}

func TestErrorsWithoutRow(t *testing.T) {
	for name, c := range map[string]struct {
		err    error
		status int
	}{
		"anything":            {errors.New("dial tcp: connection refused"), 502},
		"network time-out":    {fmt.Errorf("dial: %w", os.ErrDeadlineExceeded), 504},
		"no answer":           {&fakeError{}, 502},
		"no answer in time":   {errors.Join(&fakeError{}, context.DeadlineExceeded), 504},
		"nonsense status":     {&fakeError{status: 200}, 502},
		"nonsense status 999": {&fakeError{status: 999}, 502},
	} {
		t.Run(name, func(t *testing.T) {
			p := problemOf(c.err, request{route: route{endpoint: endpointBlob}})
			if p.status != c.status || codeOf(p.body) != "UNAVAILABLE" {
				t.Fatalf("%d %s, want %d", p.status, p.body, c.status)
			}
		})
	}
}

// TestPassOn checks that the origin's refusals reach the client as themselves.
func TestPassOn(t *testing.T) {
	challenge := http.Header{"Www-Authenticate": {`Bearer realm="https://a.example/t"`, `Basic realm="x"`}}
	for _, c := range []struct {
		name   string
		err    fakeError
		e      endpoint
		status int
		code   string
		header string // that has to pass
	}{
		{"401 with challenge", fakeError{status: 401, header: challenge}, endpointManifest, 401, "UNAUTHORIZED", ""},
		{"401 with body", fakeError{status: 401, header: challenge, body: string(errorBody("UNAUTHORIZED", "token expired"))}, endpointBlob, 401, "UNAUTHORIZED", ""},
		{"403", fakeError{status: 403}, endpointBlob, 403, "DENIED", ""},
		{"404 manifest", fakeError{status: 404}, endpointManifest, 404, "MANIFEST_UNKNOWN", ""},
		{"404 blob", fakeError{status: 404, body: "<html>"}, endpointBlob, 404, "BLOB_UNKNOWN", ""},
		{"404 tags", fakeError{status: 404, body: `{"errors":[]}`}, endpointTags, 404, "NAME_UNKNOWN", ""},
		{"404 referrers", fakeError{status: 404, body: "404 page not found"}, endpointReferrers, 404, "MANIFEST_UNKNOWN", ""},
		{"404 keeps the origin's code", fakeError{status: 404, body: string(errorBody("NAME_UNKNOWN", "x"))}, endpointManifest, 404, "NAME_UNKNOWN", ""},
		{"400", fakeError{status: 400}, endpointManifest, 400, "UNSUPPORTED", ""},
		{"429", fakeError{status: 429, header: http.Header{"Retry-After": {"17"}}}, endpointManifest, 429, "TOOMANYREQUESTS", "Retry-After"},
		{"500", fakeError{status: 500}, endpointBlob, 502, "UNAVAILABLE", ""},
		{"502", fakeError{status: 502}, endpointBlob, 502, "UNAVAILABLE", ""},
		{"503", fakeError{status: 503, header: http.Header{"Retry-After": {"3"}}}, endpointBlob, 503, "UNAVAILABLE", "Retry-After"},
		{"504", fakeError{status: 504}, endpointBlob, 504, "UNAVAILABLE", ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := newWorld(t, Config{})
			p := problemOf(fmt.Errorf("head blob: %w", &c.err), request{route: route{endpoint: c.e}})
			if p.status != c.status || codeOf(p.body) != c.code {
				t.Fatalf("%d %s, want %d %s", p.status, p.body, c.status, c.code)
			}
			if c.header != "" && fmt.Sprint(p.header[c.header]) != fmt.Sprint(c.err.header[c.header]) {
				t.Fatalf("%s: %v, want %v", c.header, p.header[c.header], c.err.header[c.header])
			}
			// The same through the handler.
			w.origin.down = &c.err
			target := map[endpoint]string{
				endpointManifest: "manifests/latest", endpointBlob: "blobs/" + someSHA256,
				endpointTags: "tags/list", endpointReferrers: "referrers/" + someSHA256,
			}[c.e]
			rec := w.do("GET", "/v2/h.example/a/"+target)
			wantStatus(t, rec, c.status)
			if codeOf(rec.Body.Bytes()) != c.code || rec.Header().Get("Content-Type") != "application/json" {
				t.Fatalf("%v %s", rec.Header(), rec.Body)
			}
			if rec = w.do("HEAD", "/v2/h.example/a/"+target); rec.Code != c.status || rec.Body.Len() != 0 {
				t.Fatalf("HEAD: %d with %d bytes", rec.Code, rec.Body.Len())
			}
		})
	}
}

// TestErrorsSayWhatToDo: who reads an error learns which registry was asked for what, and what helps.
func TestErrorsSayWhatToDo(t *testing.T) {
	for _, c := range []struct {
		err    fakeError
		target string
		want   []string
	}{
		{fakeError{status: 401}, "manifests/latest", []string{"h.example, manifest latest of team/app: ", "log in for the mirror's name"}},
		{fakeError{status: 403}, "tags/list", []string{"h.example, tags of team/app: ", "ask whoever runs it"}},
		{fakeError{status: 429}, "manifests/latest", []string{"h.example, manifest latest of team/app: ", "Retry-After"}},
		{fakeError{}, "blobs/" + someSHA256, []string{"h.example, blob " + someSHA256 + " of team/app: ", "meshd doctor"}},
		{fakeError{status: 504}, "referrers/" + someSHA256, []string{"h.example, referrers " + someSHA256 + " of team/app: ", "meshd doctor"}},
	} {
		w := newWorld(t, Config{})
		w.origin.down = &c.err
		body := w.do("GET", path+c.target).Body.String()
		for _, want := range c.want {
			if !strings.Contains(body, want) {
				t.Errorf("%d: %s lacks %q", c.err.status, body, want)
			}
		}
	}
}

// TestBadRequests sends what no client should: the answer is a 4xx with an OCI
// body, never a 500.
func TestBadRequests(t *testing.T) {
	w := newWorld(t, Config{})
	for _, c := range []struct {
		name, method, target string
		status               int
		code                 string
	}{
		{"root", "GET", "/", 404, "UNSUPPORTED"},
		{"catalog", "GET", "/v2/_catalog", 404, "UNSUPPORTED"},
		{"bad name", "GET", "/v2/UPPER/manifests/latest", 400, "NAME_INVALID"},
		{"traversal", "GET", "/v2/../../etc/manifests/latest", 400, "NAME_INVALID"},
		{"escaped traversal", "GET", "/v2/%2e%2e/%2e%2e/etc/manifests/latest", 400, "NAME_INVALID"},
		{"escaped slash", "GET", "/v2/a%2Fb/manifests/latest", 400, "NAME_INVALID"},
		{"bad tag", "GET", "/v2/a/manifests/.x", 404, "MANIFEST_UNKNOWN"},
		{"short digest", "GET", "/v2/a/blobs/sha256:1234", 400, "DIGEST_INVALID"},
		{"upper case digest", "HEAD", "/v2/a/blobs/sha256:6C3C624B58DBBCD3C0DD82B4C53F04194D1247C6EEBDAAB7C610CF7D66709B3B", 400, ""},
		{"bad ns", "GET", "/v2/a/manifests/latest?ns=http://evil", 400, "NAME_INVALID"},
		{"two ns", "GET", "/v2/a/manifests/latest?ns=a.b&ns=c.d", 400, "NAME_INVALID"},
		{"bad query", "GET", "/v2/a/manifests/latest?ns=a.b;x", 400, "NAME_INVALID"},
		{"absolute", "GET", "http://evil.example/v2/a/manifests/latest", 404, "UNSUPPORTED"},
		{"push of a blob by digest", "PUT", "/v2/a/blobs/" + someSHA256, 405, "UNSUPPORTED"},
		{"push of a tag list", "POST", "/v2/a/tags/list", 405, "UNSUPPORTED"},
		{"beginning of an upload by GET", "GET", "/v2/a/blobs/uploads/", 405, "UNSUPPORTED"},
		{"upload with an odd name", "PATCH", "/v2/a/blobs/uploads/..", 404, "BLOB_UPLOAD_UNKNOWN"},
		{"upload that was not begun here", "PATCH", "/v2/a/blobs/uploads/meshd-upload.AAAA", 404, "BLOB_UPLOAD_UNKNOWN"},
		{"options", "OPTIONS", "/v2/", 405, "UNSUPPORTED"},
		{"unknown verb", "BREW", "/v2/", 405, "UNSUPPORTED"},
	} {
		t.Run(c.name, func(t *testing.T) {
			rec := w.do(c.method, c.target)
			wantStatus(t, rec, c.status)
			if codeOf(rec.Body.Bytes()) != c.code {
				t.Fatalf("body %s", rec.Body)
			}
			if allow := rec.Header().Get("Allow"); rec.Code == 405 && (allow == "" || strings.Contains(allow, c.method)) {
				t.Fatalf("Allow %q", allow)
			}
		})
	}
	if do, heads := w.origin.asked(); do+heads+len(w.origin.pushes) != 0 {
		t.Fatalf("the origin was asked %d times", do+heads)
	}
}
