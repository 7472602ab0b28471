package origin

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"math/big"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func TestAuthorization(t *testing.T) {
	dir := t.TempDir()
	file := func(name, text string, mode os.FileMode) string {
		path := filepath.Join(dir, name)
		if err := errors.Join(os.WriteFile(path, []byte(text), mode), os.Chmod(path, mode)); err != nil { // whatever the umask
			t.Fatal(err)
		}
		return path
	}
	const hub = `{"auths":{"https://index.docker.io/v1/":{"auth":"YTpnZWhlaW0="},"harbor.test":{"username":"b","password":"geheim"}}}`
	file("config.json", hub, 0o600)
	t.Setenv("DOCKER_CONFIG", dir)
	helper := filepath.Join(dir, "docker-credential-geheim")
	if err := os.WriteFile(helper, []byte("#!/bin/sh\necho '{\"Username\":\"helped\",\"Secret\":\"x\"}'\n"), 0o700); err != nil {
		t.Fatal(err)
	}
	t.Setenv("PATH", dir+":"+os.Getenv("PATH"))
	for _, row := range []struct {
		name, registry, source string
		want, err              string
	}{
		{"none", "harbor.test", "", "", ""},
		{"user and password", "harbor.test", file("plain", "a:ge:heim\n", 0o600), "Basic YTpnZTpoZWlt", ""},
		{"docker's file", "harbor.test", file("docker.json", hub, 0o600), "Basic YjpnZWhlaW0=", ""},
		{"docker's file, Docker Hub", "docker.io", filepath.Join(dir, "docker.json"), "Basic YTpnZWhlaW0=", ""},
		{"docker's file, another registry", "quay.test", filepath.Join(dir, "docker.json"), "", "has no credentials for quay.test"},
		{"docker's helper", "harbor.test", file("helper.json", `{"credHelpers":{"harbor.test":"geheim"}}`, 0o600), "Basic aGVscGVkOng=", ""},
		{"docker's own configuration", "harbor.test", DockerCredentials, "Basic YjpnZWhlaW0=", ""},
		{"a helper that is not there", "harbor.test", file("nohelper.json", `{"credHelpers":{"harbor.test":"nosuch"}}`, 0o600), "", "credential helper fails"},
		{"an identity token", "harbor.test", file("identity.json", `{"auths":{"harbor.test":{"identitytoken":"geheim"}}}`, 0o600), "", "identity tokens are not supported"},
		{"a registry token", "harbor.test", file("bearer.json", `{"auths":{"harbor.test":{"registrytoken":"t"}}}`, 0o600), "Bearer t", ""},
		{"open to others", "harbor.test", file("open", "a:geheim", 0o644), "", "mode 0644): want 0600"},
		{"missing", "harbor.test", filepath.Join(dir, "nowhere"), "", "no such file"},
		{"no colon", "harbor.test", file("odd", "geheim", 0o600), "", "want one line USER:PASSWORD"},
		{"two lines", "harbor.test", file("two", "a:b\ngeheim:c", 0o600), "", "want one line USER:PASSWORD"},
		{"broken JSON", "harbor.test", file("broken", `{"auths": geheim}`, 0o600), "", "is no config.json of docker"},
	} {
		t.Run(row.name, func(t *testing.T) {
			c, err := New(Config{Registries: map[string]Registry{row.registry: {Credentials: row.source}}})
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close()
			got, err := c.Authorization(t.Context(), row.registry)
			if got != row.want || (err == nil) != (row.err == "") || err != nil && !strings.Contains(err.Error(), row.err) {
				t.Errorf("got %q, %v; want %q, %q", got, err, row.want, row.err)
			}
			if err != nil && strings.Contains(err.Error(), "geheim") {
				t.Errorf("the error holds the secret: %v", err)
			}
		})
	}
}

// What is accepted comes out as HTTP reads it.
func FuzzCredentialLine(f *testing.F) {
	for _, s := range []string{"", ":", "a:", "a:b:c", ":b", "a\n:b", "a:b\r", "ä:ö", "a:\x00"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, line string) {
		got, err := fromLine("f", line)
		if err != nil {
			return
		}
		r := http.Request{Header: http.Header{"Authorization": {got}}}
		if user, password, ok := r.BasicAuth(); !ok || user == "" || user+":"+password != line {
			t.Fatalf("%q became %q:%q", line, user, password)
		}
	})
}

// The registry sees the client certificate, a host that it redirects to does not.
func TestClientCertificate(t *testing.T) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.CreateCertificate(rand.Reader, &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour)},
		&x509.Certificate{}, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	secret, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	certFile, keyFile := filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")
	write := func(path, kind string, der []byte, mode os.FileMode) {
		if err := os.WriteFile(path, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), mode); err != nil {
			t.Fatal(err)
		}
	}
	write(certFile, "CERTIFICATE", der, 0o644)
	write(keyFile, "PRIVATE KEY", secret, 0o600)

	certificates := make(map[string]int)
	serve := func(h http.HandlerFunc) *httptest.Server {
		s := httptest.NewUnstartedServer(h)
		s.TLS = &tls.Config{ClientAuth: tls.RequestClientCert}
		s.StartTLS()
		t.Cleanup(s.Close)
		return s
	}
	storage := serve(func(w http.ResponseWriter, r *http.Request) { certificates["storage"] = len(r.TLS.PeerCertificates) })
	registry := serve(func(w http.ResponseWriter, r *http.Request) {
		certificates["registry"] = len(r.TLS.PeerCertificates)
		http.Redirect(w, r, storage.URL+"/x", http.StatusTemporaryRedirect)
	})
	r := Registry{URL: registry.URL, Insecure: true, Cert: certFile, Key: keyFile}
	c, err := New(Config{Registries: map[string]Registry{"harbor.test": r}})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	resp, err := c.Do(t.Context(), Request{Ref: Ref{Registry: "harbor.test", Repository: "a"}, Path: "manifests/v1"})
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	if certificates["registry"] != 1 || certificates["storage"] != 0 {
		t.Errorf("certificates shown: %v", certificates)
	}

	if err := os.Chmod(keyFile, 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := New(Config{Registries: map[string]Registry{"harbor.test": r}}); err == nil || !strings.Contains(err.Error(), "want 0600") {
		t.Errorf("a key open to others: %v", err)
	}
	if _, err := New(Config{Registries: map[string]Registry{"harbor.test": {Cert: certFile}}}); err == nil || !strings.Contains(err.Error(), "needs its key") {
		t.Errorf("a certificate without key: %v", err)
	}
}
