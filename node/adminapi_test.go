package node

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"io/fs"
	"math/big"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/meshd-project/meshd/node/admin"
	"github.com/meshd-project/meshd/node/admin/client"
)

// selfSigned writes a certificate for 127.0.0.1 and its key.
func selfSigned(t *testing.T) (cert, key string) {
	t.Helper()
	priv, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour), IsCA: true, BasicConstraintsValid: true,
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, DNSNames: []string{"localhost"},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &priv.PublicKey, priv)
	if err != nil {
		t.Fatal(err)
	}
	raw, err := x509.MarshalPKCS8PrivateKey(priv)
	if err != nil {
		t.Fatal(err)
	}
	cert, key = filepath.Join(t.TempDir(), "cert.pem"), filepath.Join(t.TempDir(), "key.pem")
	for path, block := range map[string]*pem.Block{cert: {Type: "CERTIFICATE", Bytes: der}, key: {Type: "PRIVATE KEY", Bytes: raw}} {
		if err := os.WriteFile(path, pem.EncodeToMemory(block), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return cert, key
}

// concrete is the path of a route with something in the place of its variables.
func concrete(path string) string {
	parts := strings.Split(path, "/")
	for i, p := range parts {
		if strings.HasPrefix(p, "{") {
			parts[i] = "x"
		}
	}
	return strings.Join(parts, "/")
}

// The admin API as another host sees it: TLS, and nothing of the table, nor anything else, without the token.
func TestAdminElsewhereDeniesEveryRoute(t *testing.T) {
	cert, key := selfSigned(t)
	tokenFile := filepath.Join(t.TempDir(), "token")
	if err := os.WriteFile(tokenFile, []byte("a-token-of-the-operator\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	c := testConfig(t, "")
	c.Admin = AdminConfig{Addr: "0.0.0.0:0", TokenFile: tokenFile, Cert: cert, Key: key}
	n := launch(t, c, nil)
	_, port, err := net.SplitHostPort(n.adminListener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	addr := net.JoinHostPort("127.0.0.1", port)

	pool := x509.NewCertPool()
	raw, err := os.ReadFile(cert)
	if err != nil || !pool.AppendCertsFromPEM(raw) {
		t.Fatal(err)
	}
	stranger := &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: pool}, DisableKeepAlives: true}}
	for _, r := range append(n.adminRoutes(), admin.Route{Method: http.MethodGet, Path: "/v1/unlisted"}) {
		for _, auth := range []string{"", "Bearer ", "Bearer wrong", "Basic YTpi"} {
			req, err := http.NewRequestWithContext(t.Context(), r.Method, "https://"+addr+concrete(r.Path), nil)
			if err != nil {
				t.Fatal(err)
			}
			req.Header.Set("Authorization", auth)
			resp, err := stranger.Do(req)
			if err != nil {
				t.Fatal(err)
			}
			resp.Body.Close()
			if resp.StatusCode != http.StatusUnauthorized {
				t.Errorf("%s %s with %q: %s", r.Method, r.Path, auth, resp.Status)
			}
		}
	}
	if resp, err := http.Get("http://" + addr + "/healthz"); err == nil {
		resp.Body.Close()
		if resp.StatusCode == http.StatusOK {
			t.Error("it answers in the clear")
		}
	}
	operator, err := client.New(client.Config{Addr: addr, TokenFile: tokenFile, CA: cert})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := operator.Get(t.Context(), "/readyz"); err != nil {
		t.Errorf("with the token: %v", err)
	}
}

// On loopback every route that changes something wants the token.
func TestAdminLoopbackDeniesWriting(t *testing.T) {
	n := launch(t, testConfig(t, ""), nil)
	for _, r := range n.adminRoutes() {
		req, err := http.NewRequestWithContext(t.Context(), r.Method, n.adminURL(concrete(r.Path)), nil)
		if err != nil {
			t.Fatal(err)
		}
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		if denied := resp.StatusCode == http.StatusUnauthorized; denied != (r.Method != http.MethodGet) {
			t.Errorf("%s %s without the token: %s", r.Method, r.Path, resp.Status)
		}
	}
	info, err := os.Stat(n.path(AdminTokenFile))
	if err != nil || info.Mode() != 0o600 {
		t.Errorf("token: %v, %v", info, err)
	}
}

func TestAdminSocket(t *testing.T) {
	path := filepath.Join(t.TempDir(), "admin.sock")
	left, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	left.(*net.UnixListener).SetUnlinkOnClose(false)
	left.Close() // as after a crash: the file stays
	cfg := testConfig(t, "")
	cfg.Admin.Addr = "unix:" + path
	launch(t, cfg, nil)
	if info, err := os.Stat(path); err != nil || info.Mode() != fs.ModeSocket|0o600 {
		t.Errorf("%v, %v", info, err)
	}
	c, err := client.New(client.Config{Addr: "unix:" + path})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.Get(t.Context(), "/v1/status"); err != nil {
		t.Error(err)
	}
	if _, err := listen("admin-addr", "unix:"+path); err == nil || !strings.Contains(err.Error(), "taken by another") {
		t.Errorf("a second node: %v", err)
	}
}

func TestAdminToken(t *testing.T) {
	dir := openDir(t)
	file := func(name, text string, mode fs.FileMode) string {
		path := filepath.Join(dir, name)
		if err := errors.Join(os.WriteFile(path, []byte(text), mode), os.Chmod(path, mode)); err != nil {
			t.Fatal(err)
		}
		return path
	}
	own := filepath.Join(dir, AdminTokenFile)
	made, err := loadAdminToken("", own)
	if again, _ := loadAdminToken("", own); err != nil || len(made) < minToken || again != made {
		t.Errorf("own: %q, then %q, %v", made, again, err)
	}
	for _, row := range []struct{ name, path, err string }{
		{"given", file("given", "abcdefghijklmnop\n", 0o600), ""},
		{"for a group", file("group", "abcdefghijklmnop\n", 0o440), ""},
		{"missing", filepath.Join(dir, "none"), "no such file"},
		{"open to all", file("open", "abcdefghijklmnop\n", 0o644), "open to others"},
		{"writable for a group", file("groupwrite", "abcdefghijklmnop\n", 0o660), "open to others"},
		{"short", file("short", "abc\n", 0o600), "16 or more"},
		{"empty", file("empty", "", 0o600), "16 or more"},
		{"two lines", file("two", "abcdefghijklmnop\nabcdefghijklmnop\n", 0o600), "one line"},
		{"a directory", dir, "not a file"},
	} {
		_, err := loadAdminToken(row.path, own)
		if row.err == "" && err != nil || row.err != "" && (err == nil || !strings.Contains(err.Error(), row.err) || strings.Contains(err.Error(), "abc")) {
			t.Errorf("%s: %v", row.name, err)
		}
	}
}
