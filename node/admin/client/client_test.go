package client

import (
	"encoding/pem"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/meshd-project/meshd/node/admin"
)

const token = "0123456789abcdef"

var routes = []admin.Route{
	{Method: "GET", Path: "/v1/status", Handle: func(w http.ResponseWriter, _ *http.Request) error {
		return admin.WriteJSON(w, 200, "fine")
	}},
	{Method: "POST", Path: "/v1/job", Handle: func(w http.ResponseWriter, r *http.Request) error {
		var in map[string]int
		if err := admin.Decode(r, &in); err != nil {
			return err
		}
		return admin.WriteJSON(w, 202, in["n"]+1)
	}},
	{Method: "DELETE", Path: "/v1/job", Handle: func(http.ResponseWriter, *http.Request) error {
		return &admin.Error{Status: 429, Message: "later", RetryAfter: 3 * time.Second}
	}},
	{Method: "GET", Path: "/away", Handle: func(w http.ResponseWriter, r *http.Request) error {
		http.Redirect(w, r, "/v1/status", http.StatusFound)
		return nil
	}},
}

func file(t *testing.T, name, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func serve(t *testing.T, g admin.Guard) *httptest.Server {
	t.Helper()
	s := httptest.NewServer(admin.New(g, routes))
	t.Cleanup(s.Close)
	return s
}

func TestPlain(t *testing.T) {
	s := serve(t, admin.Guard{Token: token, OpenRead: true})
	addr := strings.TrimPrefix(s.URL, "http://")
	c, err := New(Config{Addr: addr, OwnToken: file(t, "own", token+"\n")})
	if err != nil {
		t.Fatal(err)
	}
	if got, err := c.Get(t.Context(), "/v1/status"); err != nil || strings.TrimSpace(string(got)) != `"fine"` {
		t.Errorf("%q, %v", got, err)
	}
	var n int
	if err := c.Do(t.Context(), "POST", "/v1/job", map[string]int{"n": 1}, &n); err != nil || n != 2 {
		t.Errorf("%d, %v", n, err)
	}
	var refused *admin.Error
	err = c.Do(t.Context(), "DELETE", "/v1/job", nil, nil)
	if !errors.As(err, &refused) || refused.Status != 429 || refused.Message != "later" || refused.RetryAfter != 3*time.Second {
		t.Errorf("%v", err)
	}
	if _, err := c.Get(t.Context(), "/away"); !errors.As(err, &refused) || refused.Status != 302 {
		t.Errorf("a redirect: %v", err)
	}

	stranger, err := New(Config{Addr: addr, OwnToken: filepath.Join(t.TempDir(), "none")})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := stranger.Get(t.Context(), "/v1/status"); err != nil {
		t.Errorf("reading without a token: %v", err)
	}
	if err := stranger.Do(t.Context(), "POST", "/v1/job", nil, nil); err == nil || !strings.Contains(err.Error(), "sudo") {
		t.Errorf("writing without a token: %v", err)
	}
}

func TestTLS(t *testing.T) {
	s := httptest.NewTLSServer(admin.New(admin.Guard{Token: token, AnyHost: true}, routes))
	defer s.Close()
	addr := strings.TrimPrefix(s.URL, "https://")
	ca := file(t, "ca.pem", string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: s.Certificate().Raw})))
	given := file(t, "token", token)
	for _, row := range []struct {
		name string
		c    Config
		err  string
	}{
		{"right", Config{Addr: addr, TokenFile: given, CA: ca}, ""},
		{"by URL", Config{Addr: s.URL, TokenFile: given, CA: ca}, ""},
		{"unknown authority", Config{Addr: s.URL, TokenFile: given}, "certificate"},
		{"wrong token", Config{Addr: addr, TokenFile: file(t, "other", "x"), CA: ca}, "it is not the one in"},
		{"no token", Config{Addr: addr, CA: ca}, "give --admin-token-file"},
	} {
		c, err := New(row.c)
		if err != nil {
			t.Fatalf("%s: %v", row.name, err)
		}
		_, err = c.Get(t.Context(), "/v1/status")
		if row.err == "" && err != nil || row.err != "" && (err == nil || !strings.Contains(err.Error(), row.err)) {
			t.Errorf("%s: %v", row.name, err)
		}
	}
}

func TestSocket(t *testing.T) {
	path := filepath.Join(t.TempDir(), "admin.sock")
	l, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	s := admin.NewServer(admin.New(admin.Guard{OpenRead: true, OpenWrite: true, AnyHost: true}, routes))
	go s.Serve(l)   //nolint:errcheck // ends by Close
	defer s.Close() //nolint:errcheck // of a test
	c, err := New(Config{Addr: "unix:" + path})
	if err != nil {
		t.Fatal(err)
	}
	var n int
	if err := c.Do(t.Context(), "POST", "/v1/job", map[string]int{"n": 1}, &n); err != nil || n != 2 {
		t.Errorf("%d, %v", n, err)
	}
	gone, err := New(Config{Addr: "unix:" + path + "x"})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := gone.Get(t.Context(), "/v1/status"); err == nil || !strings.Contains(err.Error(), "nothing listens there") {
		t.Errorf("%v", err)
	}
}

// Whoever may not open the socket learns who may.
func TestSocketOfAnother(t *testing.T) {
	refused := &net.OpError{Op: "dial", Net: "unix", Err: os.NewSyscallError("connect", syscall.EACCES)}
	if err := noAnswer(fmt.Errorf("get: %w", refused)); !strings.Contains(err.Error(), "sudo") {
		t.Errorf("%v", err)
	}
}

// A token goes over a network by TLS or not at all.
func TestAddr(t *testing.T) {
	for addr, base := range map[string]string{
		"127.0.0.1:1": "http://127.0.0.1:1", "localhost:1": "http://localhost:1", "[::1]:1": "http://[::1]:1",
		"10.0.0.1:1": "https://10.0.0.1:1", "host:1": "https://host:1", "https://127.0.0.1:1": "https://127.0.0.1:1",
		"": "", "host": "", "http://host:1": "", "host:1/x": "", "u@host:1": "", "https://host:1?x": "", "ho st:1": "",
	} {
		c, err := New(Config{Addr: addr})
		if (err != nil) != (base == "") || err == nil && c.base != base {
			t.Errorf("%q: %+v, %v", addr, c, err)
		}
	}
}
