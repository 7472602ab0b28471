package demo

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"net/http"
	"sync"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"golang.org/x/sync/errgroup"
)

// parallelBlobs is how many blobs of an image a client pulls at once, as dockerd does.
const parallelBlobs = 3

// result is one node's pull.
type result struct {
	node      *meshNode
	took      time.Duration
	firstByte time.Duration // until the first byte of a blob
	in        source        // bytes that the node took in for it
	err       error         // nil: every digest is right
}

// pullAll pulls the image through every node at the same time.
func (m *mesh) pullAll(ctx context.Context, img *image, bar progress) []result {
	results := make([]result, len(m.nodes))
	var wg sync.WaitGroup
	for i, n := range m.nodes {
		wg.Go(func() { results[i] = n.pull(ctx, img, bar) })
	}
	wg.Wait()
	return results
}

// pull acts as a client of the node's mirror: manifest, then the blobs, every digest checked.
func (n *meshNode) pull(ctx context.Context, img *image, bar progress) result {
	r := result{node: n}
	before, err := n.status(ctx)
	if err != nil {
		r.err = err
		return r
	}
	p := &puller{base: "http://" + n.addr(n.mirror) + "/v2/" + imageRepository, bar: bar, start: time.Now()}
	r.err = p.image(ctx, img)
	r.took, r.firstByte = time.Since(p.start), p.firstByte
	after, err := n.status(ctx)
	if r.err == nil {
		r.err = err
	}
	r.in = after.BytesIn.minus(before.BytesIn)
	return r
}

// puller is one client.
type puller struct {
	base  string
	bar   progress
	start time.Time

	once      sync.Once
	firstByte time.Duration // set by once
}

func (p *puller) image(ctx context.Context, img *image) error {
	manifest := v1.Descriptor{Digest: img.digest, Size: -1}
	if err := p.get(ctx, "/manifests/"+imageTag, manifest, io.Discard); err != nil {
		return err
	}
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(parallelBlobs)
	for _, b := range img.blobs {
		g.Go(func() error { return p.get(ctx, "/blobs/"+b.Digest.String(), b, p) })
	}
	return g.Wait()
}

// Write sees the bytes of blobs as they come.
func (p *puller) Write(b []byte) (int, error) {
	p.once.Do(func() { p.firstByte = time.Since(p.start) })
	p.bar.add(len(b))
	return len(b), nil
}

// get reads one answer and checks it against its descriptor. A size below 0 is not checked.
func (p *puller) get(ctx context.Context, path string, want v1.Descriptor, seen io.Writer) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, p.base+path, nil)
	if err != nil {
		return err
	}
	req.Header.Set("Accept", "application/vnd.oci.image.manifest.v1+json, */*")
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		body, _ := io.ReadAll(io.LimitReader(resp.Body, 500))
		return fmt.Errorf("GET %s: %s: %s", path, resp.Status, body)
	}
	hash := sha256.New()
	n, err := io.Copy(io.MultiWriter(hash, seen), resp.Body)
	if err != nil {
		return fmt.Errorf("GET %s: after %d bytes: %w", path, n, err)
	}
	if got := hex.EncodeToString(hash.Sum(nil)); got != want.Digest.Hex || want.Size >= 0 && n != want.Size {
		return fmt.Errorf("GET %s: got %d bytes of sha256:%s, want %d of %v", path, n, got, want.Size, want.Digest)
	}
	return nil
}
