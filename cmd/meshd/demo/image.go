package demo

import (
	"context"
	"time"

	"github.com/meshd-project/meshd/netsim/testbed"
)

// pushImage makes an image of about size bytes, which do not compress, in layers that get smaller, and pushes it.
func pushImage(ctx context.Context, registryAddr string, size int64, layers int, seed uint64) (*testbed.Image, error) {
	if seed == 0 {
		seed = uint64(time.Now().UnixNano())
	}
	return testbed.Push(ctx, registryAddr, nil, seed, layerSizes(size, layers)...)
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
