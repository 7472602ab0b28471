package demo

import (
	"context"
	"fmt"
	"math/rand"
	"time"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/random"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/types"
)

// The image's name in the demo's registry.
const (
	imageRepository = "demo/image"
	imageTag        = "latest"
)

// image is what was pushed: enough to pull it and to check the result.
type image struct {
	digest v1.Hash // of the manifest
	blobs  []v1.Descriptor
	size   int64 // bytes of all blobs together: config and layers
}

// pushImage makes an image of about size bytes, which do not compress, in layers that get smaller, and pushes it.
func pushImage(ctx context.Context, registryAddr string, size int64, layers int, seed uint64) (*image, error) {
	img, err := randomImage(size, layers, seed)
	if err != nil {
		return nil, err
	}
	ref, err := name.ParseReference(fmt.Sprintf("%s/%s:%s", registryAddr, imageRepository, imageTag), name.Insecure)
	if err != nil {
		return nil, err
	}
	if err := remote.Write(ref, img, remote.WithContext(ctx), remote.WithJobs(2)); err != nil {
		return nil, err
	}
	return describe(img)
}

func randomImage(size int64, layers int, seed uint64) (v1.Image, error) {
	if seed == 0 {
		seed = uint64(time.Now().UnixNano())
	}
	source := rand.NewSource(int64(seed))
	img := mutate.MediaType(empty.Image, types.OCIManifestSchema1)
	img = mutate.ConfigMediaType(img, types.OCIConfigJSON)
	for _, n := range layerSizes(size, layers) {
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

// layerSizes cuts size into n layers, each about 0.6 of the one before, as images tend to be.
func layerSizes(size int64, n int) []int64 {
	sizes := make([]int64, n)
	weight, sum := 1.0, 0.0
	for range n {
		sum += weight
		weight *= 0.6
	}
	weight = 1.0
	for i := range sizes {
		sizes[i] = max(1, int64(float64(size)*weight/sum))
		weight *= 0.6
	}
	return sizes
}

func describe(img v1.Image) (*image, error) {
	digest, err := img.Digest()
	if err != nil {
		return nil, err
	}
	manifest, err := img.Manifest()
	if err != nil {
		return nil, err
	}
	d := &image{digest: digest, blobs: append([]v1.Descriptor{manifest.Config}, manifest.Layers...)}
	for _, b := range d.blobs {
		d.size += b.Size
	}
	return d, nil
}
