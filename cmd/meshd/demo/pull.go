package demo

import (
	"context"
	"net/http"
	"sync"
	"time"

	"github.com/meshd-project/meshd/netsim/testbed"
)

// parallelBlobs is how many blobs of an image a client pulls at once, as dockerd does.
const parallelBlobs = 3

// result is one node's pull.
type result struct {
	node      *meshNode
	took      time.Duration
	firstByte time.Duration  // until the first byte of a layer
	in        testbed.Source // bytes that the node took in for it
	err       error          // nil: every digest is right
}

// pullAll pulls the image through every node at the same time.
func (m *mesh) pullAll(ctx context.Context, img *testbed.Image, bar progress) []result {
	results := make([]result, len(m.nodes))
	var wg sync.WaitGroup
	for i, n := range m.nodes {
		wg.Go(func() { results[i] = n.pull(ctx, img, bar) })
	}
	wg.Wait()
	return results
}

// pull acts as a client of the node's mirror.
func (n *meshNode) pull(ctx context.Context, img *testbed.Image, bar progress) result {
	r := result{node: n}
	before, err := n.admin().Status(ctx)
	if err != nil {
		r.err = err
		return r
	}
	c := &testbed.Client{HTTP: http.DefaultClient, Mirror: n.addr(n.mirror), Parallel: parallelBlobs, Seen: bar.add}
	took, err := c.Pull(ctx, img)
	r.took, r.firstByte, r.err = took.All, took.FirstByte, err
	after, err := n.admin().Status(ctx)
	if r.err == nil {
		r.err = err
	}
	r.in = after.BytesIn.Minus(before.BytesIn)
	return r
}
