package e2e

import (
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"golang.org/x/crypto/bcrypt"
	"oras.land/oras-go/v2"
	"oras.land/oras-go/v2/content/memory"
	orasremote "oras.land/oras-go/v2/registry/remote"
	orasauth "oras.land/oras-go/v2/registry/remote/auth"
)

// The registries of the matrix, as clients name them.
const (
	openHost  = "open.test"
	basicHost = "basic.test"
	tokenHost = "guarded.test" // by tokens and TLS
)

// matrixMesh is one node before three registries that hold the same: open to all, with htpasswd, with tokens and TLS.
func matrixMesh(t *testing.T) (*mesh, []shape) {
	t.Helper()
	n := newNetwork(t)
	auth := startAuthServer(t, n, map[string]string{user: password}, map[string][]string{user: {"team/app"}})
	r := startRegistry(t, n)
	hash, err := bcrypt.GenerateFromPassword([]byte(password), bcrypt.MinCost)
	must(t, err)
	files := t.TempDir()
	htpasswd, cert, key := filepath.Join(files, "htpasswd"), filepath.Join(files, "cert.pem"), filepath.Join(files, "key.pem")
	must(t, os.WriteFile(htpasswd, fmt.Appendf(nil, "%s:%s\n", user, hash), 0o600))
	basic, token := n.host(205)+":5000", n.host(206)+":5000"
	selfSigned(t, n.host(206), cert, key)
	serveRegistry(t, "basic", basic, r.dir, fmt.Sprintf("auth:\n  htpasswd:\n    realm: e2e\n    path: %s\n", htpasswd))
	serveRegistry(t, "token", token, r.dir, fmt.Sprintf("  tls:\n    certificate: %s\n    key: %s\n", cert, key)+auth.config(t))
	m := &mesh{net: n, registry: r, origin: r.url(), dir: t.TempDir(), extra: []string{
		"--registry", openHost + "=" + r.url(), "--registry", basicHost + "=http://" + basic,
		"--registry", tokenHost + "=https://" + token + ",ca=" + cert,
	}}
	// The token server of this test speaks plain HTTP, to which a registry reached by https may not refer.
	m.extra[len(m.extra)-1] += ",insecure"
	m.start(t, nodeSpec{"east", true})
	return m, r.pushShapes(t, "team/app")
}

// matrixClient is one client. It pulls a shape by path prefix (containerd: by its registry's name) with a login unless
// user is "", and checks what it got.
type matrixClient struct {
	name   string
	unpack bool     // it unpacks layers: no bytes that are no filesystem, and a hundred layers once only, for they take it long
	not    []string // shapes and registries that it does not know what to do with, mirror or not
	pull   func(t *testing.T, s shape, user, password string) error
}

// Every client pulls every shape that it understands from every kind of registry; without the login it gets nothing of
// those that want one.
func TestClientMatrix(t *testing.T) {
	long(t)
	need(t, "skopeo", "podman", "buildah", "ctr", "containerd", "curl")
	m, shapes := matrixMesh(t)
	mirror := m.nodes[0].mirror()
	var docker sync.Mutex // one dockerd, whose images have one name
	d := startDocker(t, mirror)
	clients := matrixClients(t, mirror, &docker, d, startContainerd(t))
	t.Run("clients", func(t *testing.T) {
		for _, c := range clients {
			for _, host := range []string{openHost, basicHost, tokenHost} {
				if slices.Contains(c.not, host) {
					continue
				}
				t.Run(c.name+"/"+host, func(t *testing.T) {
					t.Parallel()
					who, secret := user, password
					if host == openHost {
						who, secret = "", ""
					} else if err := c.pull(t, shapes[0].at(host), "", ""); err == nil {
						t.Error("pulled without a login")
					}
					for _, s := range shapes {
						if slices.Contains(c.not, s.name) || c.unpack && (!s.runnable || s.name == "many" && host != openHost) {
							continue
						}
						if err := c.pull(t, s.at(host), who, secret); err != nil {
							t.Errorf("%s: %v", s.name, err)
						}
					}
				})
			}
		}
	})
}

// at is the shape as a client names it by path prefix.
func (s shape) at(host string) shape {
	img := *s.img
	img.repo = host + "/" + img.repo
	s.img = &img
	return s
}

func matrixClients(t *testing.T, mirror string, dockers *sync.Mutex, d *docker, c *containerd) []matrixClient {
	creds := func(flag, user, password string) []string {
		if user == "" {
			return nil
		}
		return []string{flag, user + ":" + password}
	}
	var runtimes runtimes
	return []matrixClient{
		{"dockerd", true, []string{"zstd"} /* since 23 */, func(t *testing.T, s shape, user, password string) error {
			dockers.Lock()
			defer dockers.Unlock()
			d.config = t.TempDir()
			if user != "" {
				d.config = auths(t, mirror, user, password)
			}
			img := *s.img
			img.repo, img.digest = mirror+"/"+img.repo, s.top
			defer d.remove(&img)
			return d.pull(&img)
		}},
		{"containerd", false, []string{"nothing"}, func(t *testing.T, s shape, user, password string) error {
			return c.pull(t, s.img, mirror, "", append(creds("--user", user, password), "--platform", "linux/amd64")...)
		}},
		{"CRI", true, nil, func(t *testing.T, s shape, user, password string) error {
			var login []string
			if user != "" {
				login = []string{user, password}
			}
			return runtimes.of(t, mirror).criPull(t, s.img, login...)
		}},
		{"podman", true, nil, func(t *testing.T, s shape, user, password string) error {
			return podmanPull(t, mirror, s.img, user, password)
		}},
		{"buildah", true, []string{"many"} /* it is podman's own library */, func(t *testing.T, s shape, user, password string) error {
			return buildahPull(t, mirror, s.img, user, password)
		}},
		{"skopeo", false, nil, func(t *testing.T, s shape, user, password string) error {
			return skopeoPull(t, mirror, s.img, creds("--src-creds", user, password)...)
		}},
		{"crane", false, nil, func(t *testing.T, s shape, user, password string) error {
			return craneExport(t, mirror, s, user, password)
		}},
		{"regctl", false, nil, func(t *testing.T, s shape, user, password string) error {
			return regctlPull(t, mirror, s.img, user, password)
		}},
		{"oras-go", false, nil, func(t *testing.T, s shape, user, password string) error {
			return orasPull(t, mirror, s, user, password)
		}},
		{"curl in ranges", false, nil, func(t *testing.T, s shape, user, password string) error {
			return curlPull(t, mirror, s, user, password)
		}},
	}
}

// runtimes are containerds for kubelets, one for each test: they keep layers, whatever registry they are from.
type runtimes struct {
	mu sync.Mutex
	by map[string]*containerd
}

func (r *runtimes) of(t *testing.T, mirror string) *containerd {
	t.Helper()
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.by == nil {
		r.by = map[string]*containerd{}
	}
	if r.by[t.Name()] == nil {
		r.by[t.Name()] = startCRI(t, mirror)
	}
	return r.by[t.Name()]
}

// buildahPull pulls into a storage of its own and checks the image's id.
func buildahPull(t *testing.T, mirror string, img *image, user, password string) error {
	t.Helper()
	dir, err := os.MkdirTemp("", "meshd-e2e-buildah-")
	must(t, err)
	defer os.RemoveAll(dir)
	args := []string{"--root", dir + "/root", "--runroot", dir + "/run", "--storage-driver", "vfs", "pull", "-q", "--tls-verify=false"}
	if user != "" {
		args = append(args, "--creds", user+":"+password)
	}
	out, err := command("buildah", append(args, mirror+"/"+img.repo+":"+img.tag)...)
	if err == nil && !strings.Contains(out, img.manifest.Config.Digest.Hex) {
		err = fmt.Errorf("buildah has %s, want %v", out, img.manifest.Config.Digest)
	}
	return err
}

// craneExport pulls with crane into a layout; its login is in a directory of its own.
func craneExport(t *testing.T, mirror string, s shape, user, password string) error {
	t.Helper()
	config, dir := t.TempDir(), filepath.Join(t.TempDir(), "crane")
	if user != "" {
		config = auths(t, mirror, user, password)
	}
	cmd := exec.Command(craneBinary(t), "pull", "--insecure", "--platform=linux/amd64", "--format=oci", mirror+"/"+s.img.repo+":"+s.img.tag, dir)
	cmd.Env = append(os.Environ(), "DOCKER_CONFIG="+config)
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("crane: %w\n%s", err, out)
	}
	for _, b := range append(s.img.blobs(), v1.Descriptor{Digest: s.img.digest}) {
		if err := checkFile(filepath.Join(dir, "blobs", "sha256", b.Digest.Hex), b.Digest); err != nil {
			return fmt.Errorf("crane from %s: %w", mirror, err)
		}
	}
	return nil
}

// orasPull copies with oras-go, which checks every digest.
func orasPull(t *testing.T, mirror string, s shape, user, password string) error {
	repo, err := orasremote.NewRepository(mirror + "/" + s.img.repo)
	if err != nil {
		return err
	}
	repo.PlainHTTP = true
	client := &orasauth.Client{Client: http.DefaultClient, Cache: orasauth.NewCache()}
	if user != "" {
		client.Credential = orasauth.StaticCredential(mirror, orasauth.Credential{Username: user, Password: password})
	}
	repo.Client = client
	desc, err := oras.Copy(t.Context(), repo, s.img.tag, memory.New(), "", oras.DefaultCopyOptions)
	if err == nil && desc.Digest.String() != s.top.String() {
		err = fmt.Errorf("oras has %s, want %v", desc.Digest, s.top)
	}
	return err
}

// curlPull gets each blob in two ranges, the second as a resumed download.
func curlPull(t *testing.T, mirror string, s shape, user, password string) error {
	args := []string{"-sSf", "--max-time", "60"}
	if user != "" {
		args = append(args, "-u", user+":"+password)
	}
	for _, b := range s.img.blobs() {
		file := filepath.Join(t.TempDir(), "blob")
		url := "http://" + mirror + "/v2/" + s.img.repo + "/blobs/" + b.Digest.String()
		if half := b.Size / 2; half > 0 {
			if _, err := command("curl", append(args, "-o", file, "-r", "0-"+strconv.FormatInt(half-1, 10), url)...); err != nil {
				return err
			}
			args := append(args, "-o", file, "-C", "-")
			if _, err := command("curl", append(args, url)...); err != nil {
				return err
			}
		} else if _, err := command("curl", append(args, "-o", file, url)...); err != nil {
			return err
		}
		if b.Size == 0 {
			continue // curl writes no file
		}
		if err := checkFile(file, b.Digest); err != nil {
			return err
		}
	}
	return nil
}
