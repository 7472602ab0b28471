package e2e

import (
	"bytes"
	"crypto/sha256"
	"fmt"
	"math/rand"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/random"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/static"
	"github.com/google/go-containerregistry/pkg/v1/types"
)

// registry is Debian's docker-registry behind a counting proxy.
type registry struct {
	*process
	addr  string // of the registry itself: pushes, and direct pulls for comparison
	dir   string
	proxy *countingProxy
}

// url is what nodes are told.
func (r *registry) url() string { return "http://" + r.proxy.addr }

func startRegistry(t testing.TB, n network) *registry {
	t.Helper()
	need(t, "docker-registry")
	r := &registry{addr: n.host(200) + ":5000", dir: t.TempDir()}
	r.process = serveRegistry(t, "registry", r.addr, r.dir, "")
	r.proxy = startProxy(t, n.host(201)+":5000", "http://"+r.addr)
	return r
}

// guard starts a second docker-registry on what r holds, with an auth section in its configuration, behind a counting
// proxy of its own. What is pushed to r can be pulled from it by those whom it lets.
func (r *registry) guard(t testing.TB, n network, auth string) *registry {
	t.Helper()
	g := &registry{addr: n.host(203) + ":5000", dir: r.dir}
	g.process = serveRegistry(t, "guarded", g.addr, g.dir, auth)
	g.proxy = startProxy(t, n.host(204)+":5000", "http://"+g.addr)
	return g
}

// serveRegistry runs docker-registry at addr on the data in dir.
func serveRegistry(t testing.TB, name, addr, dir, auth string) *process {
	t.Helper()
	config := filepath.Join(dir, name+".yml")
	text := fmt.Sprintf("version: 0.1\nlog:\n  level: error\n  accesslog:\n    disabled: true\nstorage:\n  filesystem:\n    rootdirectory: %s\n  delete:\n    enabled: true\nhttp:\n  addr: %s\n%s",
		filepath.Join(dir, "data"), addr, auth)
	if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("docker-registry", "serve", config)
	cmd.Env = append(os.Environ(), "OTEL_TRACES_EXPORTER=none")
	p := startProcess(t, name, cmd)
	p.waitFor(t, "answer", time.Minute, func() error {
		resp, err := httpClient.Get("http://" + addr + "/v2/")
		if err != nil {
			return err
		}
		return resp.Body.Close()
	})
	return p
}

// image is a pushed image.
type image struct {
	repo, tag string
	digest    v1.Hash
	manifest  *v1.Manifest
	diffIDs   []v1.Hash
	size      int64 // of config and layers
}

func (i *image) blobs() []v1.Descriptor {
	return append([]v1.Descriptor{i.manifest.Config}, i.manifest.Layers...)
}

// pushImage pushes an image of random layers with the given sizes. Equal seeds give equal images.
func (r *registry) pushImage(t testing.TB, repo string, seed int64, layers ...int64) *image {
	t.Helper()
	img, i := newImage(t, repo, seed, layers...)
	ref, err := name.NewTag(r.addr+"/"+repo+":latest", name.Insecure)
	must(t, err)
	must(t, remote.Write(ref, img, remote.WithJobs(2)))
	return i
}

// newImage makes an image and what the tests have to know of it.
func newImage(t testing.TB, repo string, seed int64, layers ...int64) (v1.Image, *image) {
	t.Helper()
	source := rand.NewSource(seed)
	img := mutate.ConfigMediaType(mutate.MediaType(empty.Image, types.OCIManifestSchema1), types.OCIConfigJSON)
	for _, size := range layers {
		layer, err := random.Layer(size, types.OCIUncompressedLayer, random.WithSource(source))
		must(t, err)
		img, err = mutate.AppendLayers(img, layer)
		must(t, err)
	}
	config, err := img.ConfigFile()
	must(t, err)
	config = config.DeepCopy()
	config.OS, config.Architecture = "linux", "amd64"
	img, err = mutate.ConfigFile(img, config)
	must(t, err)
	i := &image{repo: repo, tag: "latest"}
	i.digest, err = img.Digest()
	must(t, err)
	i.manifest, err = img.Manifest()
	must(t, err)
	i.diffIDs = config.RootFS.DiffIDs
	for _, b := range i.blobs() {
		i.size += b.Size
	}
	return img, i
}

// blob is pushed content.
type blob struct {
	repo string
	hash v1.Hash
	data []byte
}

// pushBlob pushes random bytes as one layer of an untagged image: registries forget blobs that nothing names.
func (r *registry) pushBlob(t testing.TB, repo string, seed, size int64) blob {
	t.Helper()
	data := make([]byte, size)
	rand.New(rand.NewSource(seed)).Read(data)
	layer := static.NewLayer(data, types.OCILayer)
	ref, err := name.NewRepository(r.addr+"/"+repo, name.Insecure)
	must(t, err)
	must(t, remote.WriteLayer(ref, layer))
	hash, err := layer.Digest()
	must(t, err)
	if want := sha256.Sum256(data); !bytes.Equal(want[:], mustHex(t, hash.Hex)) {
		t.Fatal("ggcr and crypto/sha256 disagree")
	}
	return blob{repo: repo, hash: hash, data: data}
}

func mustHex(t testing.TB, s string) []byte {
	t.Helper()
	var b []byte
	_, err := fmt.Sscanf(s, "%x", &b)
	must(t, err)
	return b
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

var httpClient = &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 32, DisableCompression: true}}
