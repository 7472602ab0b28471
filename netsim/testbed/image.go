package testbed

import (
	"context"
	"fmt"
	"math/rand"
	"net/http"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/random"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/types"
)

// The image's name in the registry.
const (
	Repository = "demo/image"
	Tag        = "latest"
)

// Image is what was pushed: enough to pull it and to check the result.
type Image struct {
	Digest v1.Hash // of the manifest
	Blobs  []v1.Descriptor
	Size   int64 // bytes of all blobs together: config and layers
}

// Push makes an image whose layers have the given sizes and do not compress, and pushes it to the registry at
// HOST:PORT. Equal seeds give equal images. A nil transport is ggcr's own.
func Push(ctx context.Context, registry string, transport http.RoundTripper, seed uint64, layers ...int64) (*Image, error) {
	img, err := randomImage(seed, layers)
	if err != nil {
		return nil, err
	}
	ref, err := name.ParseReference(fmt.Sprintf("%s/%s:%s", registry, Repository, Tag), name.Insecure)
	if err != nil {
		return nil, err
	}
	opts := []remote.Option{remote.WithContext(ctx), remote.WithJobs(2)}
	if transport != nil {
		opts = append(opts, remote.WithTransport(transport))
	}
	if err := remote.Write(ref, img, opts...); err != nil {
		return nil, err
	}
	return describe(img)
}

// randomImage makes layers of random bytes, each a tar file of one entry: some kilobytes larger than asked for.
func randomImage(seed uint64, layers []int64) (v1.Image, error) {
	source := rand.NewSource(int64(seed))
	img := mutate.MediaType(empty.Image, types.OCIManifestSchema1)
	img = mutate.ConfigMediaType(img, types.OCIConfigJSON)
	for _, n := range layers {
		layer, err := random.Layer(n, types.OCIUncompressedLayer, random.WithSource(source))
		if err != nil {
			return nil, err
		}
		if img, err = mutate.AppendLayers(img, layer); err != nil {
			return nil, err
		}
	}
	config, err := img.ConfigFile()
	if err != nil {
		return nil, err
	}
	config = config.DeepCopy()
	config.OS, config.Architecture = "linux", "amd64"
	return mutate.ConfigFile(img, config)
}

func describe(img v1.Image) (*Image, error) {
	digest, err := img.Digest()
	if err != nil {
		return nil, err
	}
	manifest, err := img.Manifest()
	if err != nil {
		return nil, err
	}
	d := &Image{Digest: digest, Blobs: append([]v1.Descriptor{manifest.Config}, manifest.Layers...)}
	for _, b := range d.Blobs {
		d.Size += b.Size
	}
	return d, nil
}
