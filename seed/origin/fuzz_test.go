package origin

import (
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"golang.org/x/net/http/httpguts"
)

func FuzzReadToken(f *testing.F) {
	for _, s := range []string{
		`{"token":"abc","expires_in":300}`, `{"access_token":"abc","expires_in":1e99}`, `{"token":"a b"}`, `{"token":"a\nb"}`, `{"token":""}`, `{"token":1}`, `{}`, `[`,
		`{"token":"abc","expires_in":-1}`, `{"token":"é"}`,
	} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		token, ttl, err := readToken(strings.NewReader(s))
		if err != nil {
			if len(s) > 40 && strings.Contains(err.Error(), s) {
				t.Fatalf("the error quotes the answer: %v", err)
			}
			return
		}
		if token == "" || !httpguts.ValidHeaderFieldValue("Bearer "+token) || strings.ContainsAny(token, " \t") || ttl < minTokenTTL || ttl > maxTokenTTL {
			t.Fatalf("%q gives %q for %v", s, token, ttl)
		}
	})
}

func FuzzParseCodes(f *testing.F) {
	for _, s := range []string{
		`{"errors":[{"code":"DENIED","message":"no"}]}`, `{"errors":[{},null,{"detail":[1]}]}`, `{"errors":{}}`, `{"errors":[` + strings.Repeat(`{},`, 40) + `{}]}`, `[]`,
	} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		if codes := parseCodes([]byte(s)); len(codes) > maxErrorCodes {
			t.Fatalf("%d codes", len(codes))
		}
	})
}

func FuzzRetryAfter(f *testing.F) {
	now := time.Unix(1_800_000_000, 0)
	for _, s := range []string{"", "1", " 7 ", "-1", "99999999999", now.Add(time.Hour).UTC().Format(http.TimeFormat), "Mon, 01 Jan 0001 00:00:00 GMT"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		if wait := parseRetryAfter(s, now); wait < 0 || wait > maxRetryAfter {
			t.Fatalf("%q: %v", s, wait)
		}
	})
}

// A host that is taken stays that host in a URL, and moves nothing into another part of it.
func FuzzCheckHost(f *testing.F) {
	for _, s := range []string{"docker.io", "H.example:5000", "[::1]:5000", "[::1", "a:", "a:0", "a:65536", "a@b", "a/b", "a?b", "a#b", "a%2fb", "a\\b", " a", "localhost", "192.0.2.1"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		host, err := checkHost(s)
		if err != nil {
			return
		}
		u, err := url.Parse("https://" + host + "/v2/")
		if err != nil || u.Host != host || u.User != nil || u.Path != "/v2/" || u.RawQuery != "" {
			t.Fatalf("%q is %q, in a URL %+v, %v", s, host, u, err)
		}
		if again, err := checkHost(host); err != nil || again != host {
			t.Fatalf("%q is %q, and that %q, %v", s, host, again, err)
		}
	})
}

// Wherever a registry redirects to: nothing but http and https, http only for a plain registry, never with credentials of
// its own choice, and the client's stay where they were given.
func FuzzRedirect(f *testing.F) {
	for _, s := range []string{
		"/v2/x", "https://cdn.example/x?sig=1", "http://cdn.example/", "//cdn.example/x", "file:///etc/passwd", "https://u:p@cdn.example/", "https://:1/", "", "%zz", "HTTPS://R.EXAMPLE/v2/",
		"https://r.example:443/", "https://r.example:444/", "?a", "#b", "../../x", "https:x", "javascript:1",
	} {
		f.Add(s, false)
		f.Add(s, true)
	}
	f.Fuzz(func(t *testing.T, location string, plain bool) {
		base := &url.URL{Scheme: "https", Host: "r.example"}
		q := &query{ep: &endpoint{base: base, plain: plain}, url: base}
		next, err := q.next(hop{url: base.JoinPath("v2/x"), cred: credential{header: "Bearer secret"}}, reach(0), location)
		if err != nil {
			return
		}
		u := next.url
		if u.Scheme != "https" && (u.Scheme != "http" || !plain) || u.User != nil || u.Hostname() == "" || u.Fragment != "" {
			t.Fatalf("%q leads to %v", location, u)
		}
		if at := strings.ToLower(u.Host); next.cred.header != "" && at != "r.example" && at != "r.example:443" {
			t.Fatalf("%q takes credentials to %v", location, u)
		}
	})
}
