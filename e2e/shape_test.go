package e2e

import (
	"archive/tar"
	"bytes"
	"fmt"
	"io"
	"testing"

	"github.com/google/go-containerregistry/pkg/compression"
	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/static"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
	"github.com/google/go-containerregistry/pkg/v1/types"
)

// shape is a kind of image that clients have to get through.
type shape struct {
	name     string  // and tag
	img      *image  // for linux/amd64
	top      v1.Hash // of what the tag names: img's, or the index
	runnable bool    // a filesystem that can be unpacked
}

// pushShapes pushes one image of each shape to repo of an open registry.
func (r *registry) pushShapes(t testing.TB, repo string) []shape {
	t.Helper()
	gzip := func(n int, data string) v1.Layer { return tarLayer(t, fmt.Sprint("file-", n), data, false) }
	var many []v1.Layer
	for i := range 110 {
		many = append(many, gzip(i, fmt.Sprint(repo, i)))
	}
	shapes := []shape{
		r.pushShape(t, repo, "gzip", "amd64", gzip(1, repo), gzip(2, string(make([]byte, 100_000)))),
		r.pushShape(t, repo, "zstd", "amd64", tarLayer(t, "file", repo, true)),
		r.pushShape(t, repo, "many", "amd64", many...),
		r.pushShape(t, repo, "empty", "amd64", gzip(1, repo), tarLayer(t, "", "", false)),
	}
	for i := range shapes {
		shapes[i].runnable = true
	}
	shapes = append(shapes,
		r.pushShape(t, repo, "byte", "amd64", static.NewLayer([]byte{7}, "text/plain")),
		r.pushShape(t, repo, "nothing", "amd64", static.NewLayer(nil, "text/plain")))
	return append(shapes, r.pushMulti(t, repo, gzip(3, repo), gzip(4, repo)))
}

// tarLayer is a layer with one file, or with none.
func tarLayer(t testing.TB, file, data string, zstd bool) v1.Layer {
	t.Helper()
	var buf bytes.Buffer
	w := tar.NewWriter(&buf)
	if file != "" {
		must(t, w.WriteHeader(&tar.Header{Name: file, Mode: 0o644, Size: int64(len(data))}))
		_, err := io.WriteString(w, data)
		must(t, err)
	}
	must(t, w.Close())
	options := []tarball.LayerOption{tarball.WithMediaType(types.OCILayer)}
	if zstd {
		options = []tarball.LayerOption{tarball.WithMediaType(types.OCILayerZStd), tarball.WithCompression(compression.ZStd)}
	}
	layer, err := tarball.LayerFromOpener(func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(buf.Bytes())), nil }, options...)
	must(t, err)
	return layer
}

// buildImage makes an image and what the tests know of it.
func buildImage(t testing.TB, repo, tag, arch string, layers ...v1.Layer) (v1.Image, *image) {
	t.Helper()
	img := mutate.ConfigMediaType(mutate.MediaType(empty.Image, types.OCIManifestSchema1), types.OCIConfigJSON)
	img, err := mutate.AppendLayers(img, layers...)
	must(t, err)
	config, err := img.ConfigFile()
	must(t, err)
	config = config.DeepCopy()
	config.OS, config.Architecture, config.Author = "linux", arch, repo
	img, err = mutate.ConfigFile(img, config)
	must(t, err)
	i := &image{repo: repo, tag: tag, diffIDs: config.RootFS.DiffIDs}
	i.digest, err = img.Digest()
	must(t, err)
	i.manifest, err = img.Manifest()
	must(t, err)
	for _, b := range i.blobs() {
		i.size += b.Size
	}
	return img, i
}

func (r *registry) pushShape(t testing.TB, repo, tag, arch string, layers ...v1.Layer) shape {
	t.Helper()
	img, i := buildImage(t, repo, tag, arch, layers...)
	ref, err := name.NewTag(r.addr+"/"+repo+":"+tag, name.Insecure)
	must(t, err)
	must(t, remote.Write(ref, img, remote.WithJobs(4)))
	return shape{name: tag, img: i, top: i.digest}
}

// pushMulti pushes an index of two architectures.
func (r *registry) pushMulti(t testing.TB, repo string, amd64, arm64 v1.Layer) shape {
	t.Helper()
	here, i := buildImage(t, repo, "multi", "amd64", amd64)
	there, _ := buildImage(t, repo, "multi", "arm64", arm64)
	index := mutate.AppendManifests(mutate.IndexMediaType(empty.Index, types.OCIImageIndex),
		mutate.IndexAddendum{Add: here, Descriptor: v1.Descriptor{Platform: &v1.Platform{OS: "linux", Architecture: "amd64"}}},
		mutate.IndexAddendum{Add: there, Descriptor: v1.Descriptor{Platform: &v1.Platform{OS: "linux", Architecture: "arm64"}}})
	ref, err := name.NewTag(r.addr+"/"+repo+":multi", name.Insecure)
	must(t, err)
	must(t, remote.WriteIndex(ref, index))
	top, err := index.Digest()
	must(t, err)
	return shape{name: "multi", img: i, top: top, runnable: true}
}
