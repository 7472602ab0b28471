package e2e

import (
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	v1 "github.com/google/go-containerregistry/pkg/v1"
)

// regctl returns what runs regctl for one host, with a login unless user is "".
func regctl(t *testing.T, host, user, password string) func(args ...string) (string, error) {
	t.Helper()
	config := t.TempDir()
	if user != "" {
		config = auths(t, host, user, password)
	}
	env := []string{"DOCKER_CONFIG=" + config, "REGCTL_CONFIG=" + filepath.Join(config, "regctl.json")}
	bin := client(t, "github.com/regclient/regclient/cmd/regctl")
	return func(args ...string) (string, error) {
		return commandEnv(env, bin, append([]string{"--verbosity", "error", "--host", "reg=" + host + ",tls=disabled"}, args...)...)
	}
}

// regctlPull copies with regctl into an OCI layout and checks every blob.
func regctlPull(t *testing.T, host string, img *image, user, password string) error {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "regctl")
	if _, err := regctl(t, host, user, password)("image", "copy", host+"/"+img.repo+":"+img.tag, "ocidir://"+dir+":"+img.tag); err != nil {
		return err
	}
	for _, b := range append(img.blobs(), v1.Descriptor{Digest: img.digest}) {
		if err := checkFile(filepath.Join(dir, "blobs", "sha256", b.Digest.Hex), b.Digest); err != nil {
			return fmt.Errorf("regctl from %s: %w", host, err)
		}
	}
	return nil
}

// regctl goes on where a broken connection left it: the second request is for the rest, and the registry has sent each
// byte once when all is there.
func TestRegctlResumes(t *testing.T) {
	m := newMesh(t, nodeSpec{"east", true})
	img := m.registry.pushImage(t, "library/resume", 1, 24*mib)
	layer := img.manifest.Layers[0]
	cut := startCutter(t, m.nodes[0].mirror(), layer.Digest.String(), 9*mib)
	must(t, regctlPull(t, cut.addr, img, "", ""))
	ranges := cut.ranges()
	if len(ranges) != 2 || ranges[0] != "" || !strings.HasPrefix(ranges[1], "bytes=") || strings.HasPrefix(ranges[1], "bytes=0-") {
		t.Errorf("the layer was asked for in %q, want all of it, then a rest", ranges)
	}
	m.checkCopies(t, img.size, 1)
}

// cutter stands before a mirror and cuts the first answer with one blob after some bytes.
type cutter struct {
	addr  string
	after int64

	mu    sync.Mutex
	asked []string // Range headers, in order
}

func startCutter(t *testing.T, mirror, digest string, after int64) *cutter {
	t.Helper()
	c := &cutter{after: after}
	next := httputil.NewSingleHostReverseProxy(&url.URL{Scheme: "http", Host: mirror})
	next.FlushInterval = -1
	next.ModifyResponse = func(resp *http.Response) error {
		if resp.Request.Method == http.MethodGet && strings.HasSuffix(resp.Request.URL.Path, digest) && c.note(resp.Request) == 1 {
			resp.Body = &cutBody{ReadCloser: resp.Body, left: c.after}
		}
		return nil
	}
	next.ErrorLog = log.New(io.Discard, "", 0)
	srv := httptest.NewServer(next)
	t.Cleanup(srv.Close)
	c.addr = srv.Listener.Addr().String()
	return c
}

// note returns which request for the blob this is.
func (c *cutter) note(r *http.Request) int {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.asked = append(c.asked, r.Header.Get("Range"))
	return len(c.asked)
}

func (c *cutter) ranges() []string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.asked
}

// cutBody fails after some bytes.
type cutBody struct {
	io.ReadCloser
	left int64
}

func (b *cutBody) Read(p []byte) (int, error) {
	if b.left == 0 {
		return 0, io.ErrUnexpectedEOF
	}
	n, err := b.ReadCloser.Read(p[:min(int64(len(p)), b.left)])
	b.left -= int64(n)
	return n, err
}
