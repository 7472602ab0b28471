package origin

import (
	"bufio"
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"
)

// startDockerRegistry runs Debian's docker-registry on a free port of loopback, with the given auth section of its
// configuration, and returns its host:port. Storage is kept in dir.
func startDockerRegistry(t *testing.T, dir, auth string) string {
	t.Helper()
	bin, err := exec.LookPath("docker-registry")
	if err != nil {
		if os.Getenv("MESHD_REQUIRE_ALL") == "1" {
			t.Fatal("docker-registry is not installed: apt-get install docker-registry")
		}
		t.Skip("SKIPPED: docker-registry is not installed (apt-get install docker-registry)")
	}
	cfg := filepath.Join(t.TempDir(), "config.yml")
	text := fmt.Sprintf("version: 0.1\nlog: {level: info}\nstorage: {filesystem: {rootdirectory: %q}}\nhttp: {addr: '127.0.0.1:0'}\n%s", dir, auth)
	if err := os.WriteFile(cfg, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(bin, "serve", cfg)
	stderr, err := cmd.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	addr := make(chan string, 1)
	drained := make(chan struct{})
	go func() {
		defer close(drained)
		listening := regexp.MustCompile(`listening on (127\.0\.0\.1:\d+)`)
		for lines := bufio.NewScanner(stderr); lines.Scan(); {
			if m := listening.FindStringSubmatch(lines.Text()); m != nil {
				addr <- m[1]
			}
		}
		close(addr)
	}()
	t.Cleanup(func() {
		_ = cmd.Process.Signal(syscall.SIGKILL)
		<-drained
		_ = cmd.Wait()
	})
	select {
	case a, ok := <-addr:
		if !ok {
			t.Fatal("docker-registry did not start")
		}
		return a
	case <-time.After(time.Minute):
		t.Fatal("docker-registry did not start in time")
	}
	return ""
}

// push stores a blob in a registry without authentication.
func push(t *testing.T, host, repository string, data []byte) digest.Digest {
	t.Helper()
	d := digest.FromBytes(data)
	resp, err := http.Post("http://"+host+"/v2/"+repository+"/blobs/uploads/", "", nil)
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	put(t, resp.Header.Get("Location")+"&digest="+d.String(), "application/octet-stream", data)
	return d
}

func put(t *testing.T, url, mediaType string, data []byte) {
	t.Helper()
	req, err := http.NewRequest(http.MethodPut, url, bytes.NewReader(data))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Content-Type", mediaType)
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusCreated {
		b, _ := io.ReadAll(resp.Body)
		t.Fatalf("PUT %s: %s %s", url, resp.Status, b)
	}
}

const manifestType = "application/vnd.oci.image.manifest.v1+json"

// pushImage stores a 3 MiB layer, an empty blob and a manifest of them, tagged v1.
func pushImage(t *testing.T, host, repository string) (layer []byte, manifest []byte) {
	t.Helper()
	layer = make([]byte, 3<<20+7)
	_, _ = rand.Read(layer)
	config := []byte("{}")
	push(t, host, repository, layer)
	push(t, host, repository, config)
	manifest, err := json.Marshal(map[string]any{
		"schemaVersion": 2,
		"mediaType":     manifestType,
		"config":        map[string]any{"mediaType": "application/vnd.oci.image.config.v1+json", "digest": digest.FromBytes(config), "size": len(config)},
		"layers":        []any{map[string]any{"mediaType": "application/vnd.oci.image.layer.v1.tar", "digest": digest.FromBytes(layer), "size": len(layer)}},
	})
	if err != nil {
		t.Fatal(err)
	}
	put(t, "http://"+host+"/v2/"+repository+"/manifests/v1", manifestType, manifest)
	http.DefaultClient.CloseIdleConnections()
	return layer, manifest
}

func configured(t *testing.T, host string) *Client {
	t.Helper()
	c, err := New(Config{Registries: map[string]Registry{"reg.test": {URL: "http://" + host}}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	return c
}

func TestDockerRegistry(t *testing.T) {
	host := startDockerRegistry(t, t.TempDir(), "")
	layer, manifest := pushImage(t, host, "team/app")
	c := configured(t, host)
	ctx := context.Background()
	blob := BlobRequest{Ref: testRef, Digest: digest.FromBytes(layer), Length: -1}
	missing := blob
	missing.Digest = digest.FromString("missing")
	size := int64(len(layer))

	t.Run("head", func(t *testing.T) {
		if n, err := c.HeadBlob(ctx, blob); err != nil || n != size {
			t.Errorf("got %d, %v", n, err)
		}
		if _, err := c.HeadBlob(ctx, missing); !errors.Is(err, ErrNotFound) {
			t.Errorf("missing: %v", err)
		}
	})
	t.Run("ranges", func(t *testing.T) {
		for _, r := range [][2]int64{{0, -1}, {0, 10}, {1, 1}, {size / 2, 1 << 20}, {size - 1, -1}, {size - 1, 100}} {
			blob := blob
			blob.Offset, blob.Length = r[0], r[1]
			b, err := c.Blob(ctx, blob)
			if err != nil {
				t.Fatalf("%v: %v", r, err)
			}
			got, err := io.ReadAll(b)
			b.Close()
			end := size
			if r[1] > 0 {
				end = min(size, r[0]+r[1])
			}
			if err != nil || !bytes.Equal(got, layer[r[0]:end]) || b.Size != size || b.Offset != r[0] || b.Ranged != (r != [2]int64{0, -1}) {
				t.Errorf("%v: %d bytes, %v, size %d offset %d ranged %v", r, len(got), err, b.Size, b.Offset, b.Ranged)
			}
		}
	})
	t.Run("range behind the end", func(t *testing.T) {
		start := time.Now()
		blob := blob
		blob.Offset = size
		_, err := c.Blob(ctx, blob)
		if !errors.Is(err, ErrRange) {
			t.Errorf("got %v", err)
		}
		if took := time.Since(start); took > errorBodyWait {
			t.Errorf("took %s", took)
		}
	})
	t.Run("missing", func(t *testing.T) {
		_, err := c.Blob(ctx, missing)
		var e *Error
		if !errors.As(err, &e) || !errors.Is(err, ErrNotFound) || len(e.Codes) != 1 || e.Codes[0].Code != "BLOB_UNKNOWN" {
			t.Errorf("got %v", err)
		}
	})
	t.Run("manifest", func(t *testing.T) {
		for _, name := range []string{"v1", digest.FromBytes(manifest).String()} {
			resp, err := c.Do(ctx, Request{Ref: testRef, Path: "manifests/" + name, Header: http.Header{"Accept": {manifestType}}})
			if err != nil {
				t.Fatal(err)
			}
			got, err := io.ReadAll(resp.Body)
			resp.Body.Close()
			if err != nil || !bytes.Equal(got, manifest) || resp.Header.Get("Content-Type") != manifestType {
				t.Errorf("%s: %d bytes, %v, %v", name, len(got), err, resp.Header)
			}
			resp, err = c.Do(ctx, Request{Ref: testRef, Method: http.MethodHead, Path: "manifests/" + name, Header: http.Header{"Accept": {manifestType}}})
			if err != nil {
				t.Fatal(err)
			}
			resp.Body.Close()
			if resp.Header.Get("Docker-Content-Digest") != digest.FromBytes(manifest).String() || resp.ContentLength != int64(len(manifest)) {
				t.Errorf("HEAD %s: %v", name, resp.Header)
			}
		}
		etag := http.Header{"Accept": {manifestType}, "If-None-Match": {`"` + digest.FromBytes(manifest).String() + `"`}}
		resp, err := c.Do(ctx, Request{Ref: testRef, Path: "manifests/v1", Header: etag})
		if err != nil || resp.StatusCode != http.StatusNotModified {
			t.Fatalf("If-None-Match: %v, %v", resp, err)
		}
		resp.Body.Close()
	})
	t.Run("tags", func(t *testing.T) {
		resp, err := c.Do(ctx, Request{Ref: testRef, Path: "tags/list", RawQuery: "n=5"})
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		if got, _ := io.ReadAll(resp.Body); !strings.Contains(string(got), `"v1"`) {
			t.Errorf("got %s", got)
		}
	})
	t.Run("referrers", func(t *testing.T) {
		_, err := c.Do(ctx, Request{Ref: testRef, Path: "referrers/" + digest.FromBytes(manifest).String()})
		if !errors.Is(err, ErrNotFound) {
			t.Errorf("got %v", err)
		}
	})
}

func TestDockerRegistryBasicAuth(t *testing.T) {
	dir := t.TempDir()
	layer, _ := pushImage(t, startDockerRegistry(t, dir, ""), "team/app")
	htpasswd := filepath.Join(t.TempDir(), "htpasswd")
	if err := os.WriteFile(htpasswd, []byte("user:$2a$04$4kb6OEyyNNydeJycgj7lRurnovU2jNizd1OVH3hVz6jH3PA6FhCeS\n" /* geheim */), 0o600); err != nil {
		t.Fatal(err)
	}
	c := configured(t, startDockerRegistry(t, dir, fmt.Sprintf("auth: {htpasswd: {realm: our registry, path: %q}}\n", htpasswd)))
	for _, tt := range []struct {
		authorization string
		want          error
	}{
		{"", ErrUnauthorized},
		{basicAuth, nil},
		{"Basic " + base64.StdEncoding.EncodeToString([]byte("user:wrong")), ErrUnauthorized},
		{"Bearer nothing", ErrUnauthorized},
	} {
		_, err := c.HeadBlob(context.Background(), BlobRequest{Ref: testRef, Digest: digest.FromBytes(layer), Authorization: tt.authorization})
		if !errors.Is(err, tt.want) {
			t.Errorf("%.7q: got %v, want %v", tt.authorization, err, tt.want)
		}
		var e *Error
		if errors.As(err, &e) && (len(e.Challenge) != 1 || e.Challenge[0] != `Basic realm="our registry"`) {
			t.Errorf("challenge %q", e.Challenge)
		}
	}
}

// signToken makes a token that docker-registry accepts.
func signToken(t *testing.T, repository string) string {
	t.Helper()
	now := time.Now().Unix()
	part := func(v any) string {
		b, err := json.Marshal(v)
		if err != nil {
			t.Fatal(err)
		}
		return base64.RawURLEncoding.EncodeToString(b)
	}
	leaf := testCA().leaf
	signed := part(map[string]any{"typ": "JWT", "alg": "ES256", "x5c": []string{base64.StdEncoding.EncodeToString(leaf.Certificate[0])}}) + "." +
		part(map[string]any{
			"iss": "meshd test", "sub": "", "aud": "reg.test", "exp": now + 300, "nbf": now - 10, "iat": now, "jti": "1",
			"access": []any{map[string]any{"type": "repository", "name": repository, "actions": []string{"pull"}}},
		})
	sum := sha256.Sum256([]byte(signed))
	r, s, err := ecdsa.Sign(rand.Reader, leaf.PrivateKey.(*ecdsa.PrivateKey), sum[:])
	if err != nil {
		t.Fatal(err)
	}
	sig := make([]byte, 64)
	r.FillBytes(sig[:32])
	s.FillBytes(sig[32:])
	return signed + "." + base64.RawURLEncoding.EncodeToString(sig)
}

func TestDockerRegistryTokenAuth(t *testing.T) {
	dir := t.TempDir()
	layer, _ := pushImage(t, startDockerRegistry(t, dir, ""), "team/app")
	var tokens atomic.Int32
	auth := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		tokens.Add(1)
		if _, password, ok := r.BasicAuth(); ok && password != "geheim" {
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		if r.URL.Query().Get("scope") != "repository:team/app:pull" || r.URL.Query().Get("service") != "reg.test" {
			w.WriteHeader(http.StatusBadRequest)
			return
		}
		_ = json.NewEncoder(w).Encode(map[string]any{"token": signToken(t, "team/app"), "expires_in": 300})
	}))
	defer auth.Close()
	bundle := caFile(t)
	c := configured(t, startDockerRegistry(t, dir, fmt.Sprintf(
		"auth: {token: {realm: %q, service: reg.test, issuer: meshd test, rootcertbundle: %q}}\n", auth.URL+"/token", bundle)))
	for _, tt := range []struct {
		authorization string
		want          error
		tokens        int32 // fetched in all by then
	}{
		{"", nil, 1},
		{"", nil, 1},
		{basicAuth, nil, 2},
		{basicAuth, nil, 2},
		{"Basic " + base64.StdEncoding.EncodeToString([]byte("user:wrong")), ErrUnauthorized, 3},
		{"Bearer " + signToken(t, "team/app"), nil, 3},
		{"Bearer " + signToken(t, "team/other"), ErrUnauthorized, 3},
	} {
		b, err := c.Blob(context.Background(), BlobRequest{Ref: testRef, Digest: digest.FromBytes(layer), Length: -1, Authorization: tt.authorization})
		if !errors.Is(err, tt.want) {
			t.Errorf("%.7q: got %v, want %v", tt.authorization, err, tt.want)
		}
		if n := tokens.Load(); n != tt.tokens {
			t.Errorf("%.7q: %d tokens, want %d", tt.authorization, n, tt.tokens)
		}
		if err != nil {
			var e *Error
			if !errors.As(err, &e) || len(e.Challenge) != 1 || !strings.HasPrefix(e.Challenge[0], "Bearer realm=") {
				t.Errorf("%#v", err)
			}
			continue
		}
		got, err := io.ReadAll(b)
		b.Close()
		if err != nil || !bytes.Equal(got, layer) {
			t.Errorf("%.7q: %d bytes, %v", tt.authorization, len(got), err)
		}
	}
}
