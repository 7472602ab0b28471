package origin

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
)

const basicAuth = "Basic dXNlcjpnZWhlaW0=" // user:geheim

func redirectTo(location string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Location", location)
		w.WriteHeader(http.StatusTemporaryRedirect)
		_, _ = io.WriteString(w, "elsewhere")
	}
}

// visits notes which hosts are asked, and with which credentials.
type visits struct {
	f    *fabric
	seen []string // "HOST AUTHORIZATION"
}

func (v *visits) note(h http.HandlerFunc) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		v.f.mu.Lock()
		v.seen = append(v.seen, strings.TrimSpace(r.Host+" "+r.Header.Get("Authorization")))
		v.f.mu.Unlock()
		h(w, r)
	}
}

func TestRedirects(t *testing.T) {
	const signed = "/blob?X-Signature=geheim"
	named := func(url string) map[string]Registry { return map[string]Registry{"reg.test": {URL: url}} }
	insecure := map[string]Registry{"reg.test": {URL: "https://reg.test", Insecure: true}}
	for _, tt := range []struct {
		name     string
		configs  map[string]Registry // nil: not configured, https
		home     string              // the registry's address; empty is a public one
		location string
		want     error
		visits   string
	}{
		{name: "same host", location: "/other" + signed, visits: "reg.test Basic|reg.test Basic"},
		{name: "same host, port spelt out", location: "https://reg.test:443" + signed, visits: "reg.test Basic|reg.test:443 Basic"},
		{name: "storage loses credentials", location: "https://storage.test" + signed, visits: "reg.test Basic|storage.test"},
		{name: "other port loses credentials", location: "https://reg.test:8443" + signed, visits: "reg.test Basic|reg.test:8443"},
		{name: "upper case is the same host", location: "https://REG.test" + signed, visits: "reg.test Basic|REG.test Basic"},
		{name: "no scheme", location: "//storage.test" + signed, visits: "reg.test Basic|storage.test"},
		{name: "fragment is dropped", location: "https://storage.test" + signed + "#x", visits: "reg.test Basic|storage.test"},
		{name: "there and back: lost for good", location: "https://back.test/", visits: "reg.test Basic|back.test|reg.test"},

		{name: "https to http", location: "http://plain.test" + signed, want: ErrRefused, visits: "reg.test Basic"},
		{name: "https to http at the same host", location: "http://reg.test" + signed, want: ErrRefused, visits: "reg.test Basic"},
		{name: "http registry to http", configs: named("http://reg.test"), location: "http://plain.test" + signed, visits: "reg.test Basic|plain.test"},
		{name: "http registry to https loses credentials", configs: named("http://reg.test"), location: "https://reg.test" + signed, visits: "reg.test Basic|reg.test"},
		{name: "insecure registry to http", configs: insecure, location: "http://plain.test" + signed, visits: "reg.test Basic|plain.test"},
		{name: "other scheme", location: "file:///etc/passwd", want: ErrRefused, visits: "reg.test Basic"},
		{name: "gopher", location: "gopher://storage.test/", want: ErrRefused, visits: "reg.test Basic"},
		{name: "user information", location: "https://u:geheim@storage.test" + signed, want: ErrRefused, visits: "reg.test Basic"},
		{name: "no host", location: "https:///blob", want: ErrRefused, visits: "reg.test Basic"},
		{name: "no Location", location: "", want: ErrInvalid, visits: "reg.test Basic"},
		{name: "no URL", location: "https://%zz?geheim", want: ErrInvalid, visits: "reg.test Basic"},
		{name: "loop", location: "/again", want: ErrInvalid, visits: strings.TrimSuffix(strings.Repeat("reg.test Basic|", 6), "|")},

		{name: "public to loopback", location: "https://loop.test" + signed, want: ErrRefused, visits: "reg.test Basic"},
		{name: "public to loopback by number", location: "https://127.0.0.1/", want: ErrRefused, visits: "reg.test Basic"},
		{name: "public to loopback in disguise", location: "https://[::ffff:127.0.0.1]/", want: ErrRefused, visits: "reg.test Basic"},
		{name: "public to private", location: "https://private.test" + signed, want: ErrRefused, visits: "reg.test Basic"},
		{name: "public to metadata", location: "https://169.254.169.254/latest/", want: ErrRefused, visits: "reg.test Basic"},
		{name: "public to metadata by name", location: "https://metadata.test/", want: ErrRefused, visits: "reg.test Basic"},
		{name: "private to private", home: "10.0.0.1", location: "https://private.test" + signed, visits: "reg.test Basic|private.test"},
		{name: "private to loopback", home: "10.0.0.1", location: "https://loop.test" + signed, want: ErrRefused, visits: "reg.test Basic"},
		{name: "private to metadata", home: "10.0.0.1", location: "https://metadata.test/", want: ErrRefused, visits: "reg.test Basic"},
		{name: "configured to private", configs: named("https://reg.test"), location: "https://private.test" + signed, visits: "reg.test Basic|private.test"},
		{name: "configured to loopback", configs: named("https://reg.test"), location: "https://loop.test" + signed, want: ErrRefused, visits: "reg.test Basic"},
		{name: "configured, insecure, to metadata", configs: insecure, location: "http://169.254.169.254/latest/", want: ErrRefused, visits: "reg.test Basic"},
		{name: "configured on loopback to loopback", configs: named("https://reg.test"), home: "127.0.0.2", location: "https://loop.test" + signed, visits: "reg.test Basic|loop.test"},
		{name: "configured on loopback to metadata", configs: named("https://reg.test"), home: "127.0.0.2", location: "https://metadata.test/", want: ErrRefused, visits: "reg.test Basic"},
		{name: "not configured, on loopback", home: "127.0.0.2", location: "/", want: ErrRefused},
		{name: "not configured, on metadata", home: "169.254.169.254", location: "/", want: ErrRefused},
		{name: "configured by name, on metadata", configs: named("https://reg.test"), home: "169.254.169.254", location: "/", want: ErrRefused},
	} {
		t.Run(tt.name, func(t *testing.T) {
			f := newFabric(t)
			v := &visits{f: f}
			home := tt.home
			if home == "" {
				home = "93.184.216.1"
			}
			registry := v.note(func(w http.ResponseWriter, r *http.Request) {
				if r.URL.Path == blobPath || r.URL.Path == "/again" {
					redirectTo(tt.location)(w, r)
					return
				}
				_, _ = w.Write(content)
			})
			blob := v.note(func(w http.ResponseWriter, r *http.Request) {
				if q := r.URL.RawQuery; q != "X-Signature=geheim" {
					t.Errorf("query %q", q)
				}
				_, _ = w.Write(content)
			})
			f.serve("https://reg.test", home, registry)
			f.serve("http://reg.test", home, registry)
			f.serve("https://reg.test:8443", home, blob)
			f.names["REG.test"] = f.names["reg.test"]
			f.serve("https://storage.test", "93.184.216.2", blob)
			f.serve("http://plain.test", "93.184.216.3", blob)
			f.serve("https://private.test", "10.0.0.3", blob)
			f.serve("https://loop.test", "127.0.0.3", blob)
			f.serve("https://metadata.test", "169.254.169.254", blob)
			f.serve("https://back.test", "93.184.216.4", v.note(redirectTo("https://reg.test/end")))
			c := f.client(Config{Registries: tt.configs, Attempts: 1})

			r := wholeBlob()
			r.Authorization = basicAuth
			b, err := c.Blob(context.Background(), r)
			if !errors.Is(err, tt.want) {
				t.Errorf("got %v, want %v", err, tt.want)
			}
			if err != nil && (strings.Contains(err.Error(), "geheim") || strings.Contains(err.Error(), "Signature")) {
				t.Errorf("error holds a secret: %v", err)
			}
			if err == nil {
				if got, err := io.ReadAll(b); err != nil || string(got) != string(content) {
					t.Errorf("read %d bytes, %v", len(got), err)
				}
				b.Close()
			}
			if got := strings.ReplaceAll(strings.Join(v.seen, "|"), basicAuth, "Basic"); got != tt.visits {
				t.Errorf("visits\n%s, want\n%s", got, tt.visits)
			}
		})
	}
}

// A connection that one rule allowed is not found by a request under a stricter one.
func TestConnectionsAreNotSharedAcrossRules(t *testing.T) {
	f := newFabric(t)
	f.serve("https://intern.test", "10.0.0.1", func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write(content) })
	f.serve("https://evil.test", "93.184.216.1", redirectTo("https://intern.test/secret"))
	c := f.client(Config{Attempts: 1})
	r := wholeBlob()
	r.Registry = "intern.test" // reached directly: allowed, and the connection stays open
	b, err := c.Blob(context.Background(), r)
	if err != nil {
		t.Fatal(err)
	}
	_, _ = io.Copy(io.Discard, b)
	b.Close()
	r.Registry = "evil.test"
	if _, err := c.Blob(context.Background(), r); !errors.Is(err, ErrRefused) {
		t.Errorf("got %v, want ErrRefused", err)
	}
}

// A refusal by the host that a registry redirects to is about a signature: it is neither the registry's, nor
// is anything of it shown.
func TestStorageErrors(t *testing.T) {
	for _, tt := range []struct {
		status     int
		is, isNot  error
		toClient   int
		temporary  bool
		challenged bool
	}{
		{status: 403, is: ErrUnreachable, isNot: ErrDenied, toClient: 502, temporary: true},
		{status: 401, is: ErrUnreachable, isNot: ErrUnauthorized, toClient: 502, temporary: true},
		{status: 404, is: ErrNotFound, isNot: ErrUnreachable, toClient: 404},
		{status: 503, is: ErrUnreachable, isNot: ErrNotFound, toClient: 502, temporary: true},
		{status: 429, is: ErrThrottled, isNot: ErrUnreachable, toClient: 429, temporary: true},
	} {
		t.Run(fmt.Sprint(tt.status), func(t *testing.T) {
			f := newFabric(t)
			f.serve("http://reg.test", "10.0.0.1", redirectTo("http://storage.test/x?geheim"))
			f.serve("http://storage.test", "10.0.0.2", func(w http.ResponseWriter, r *http.Request) {
				w.Header().Set("WWW-Authenticate", `Basic realm="give me your password"`)
				w.WriteHeader(tt.status)
				_, _ = io.WriteString(w, "<StringToSign>geheim</StringToSign>")
			})
			cfg := plain()
			cfg.Attempts = 1
			_, err := f.client(cfg).Blob(context.Background(), wholeBlob())
			var e *Error
			if !errors.As(err, &e) || !errors.Is(err, tt.is) || errors.Is(err, tt.isNot) || e.Temporary != tt.temporary {
				t.Fatalf("got %#v", err)
			}
			status, header, body := e.HTTP()
			if status != tt.toClient || header.Get("WWW-Authenticate") != "" || len(body) > 0 || len(e.Body) > 0 || len(e.Challenge) > 0 {
				t.Errorf("client gets %d %v %q", status, header, body)
			}
			if strings.Contains(err.Error(), "geheim") {
				t.Error(err)
			}
		})
	}
}
