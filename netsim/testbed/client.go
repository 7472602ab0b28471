package testbed

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"sync"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"golang.org/x/sync/errgroup"
)

// maxAnswer is how many bytes are read of a JSON answer.
const maxAnswer = 8 << 20

// Client pulls one image from one mirror, once, as dockerd does: the manifest, then the blobs, every digest checked.
type Client struct {
	HTTP     *http.Client
	Mirror   string // HOST:PORT
	Parallel int    // blobs at a time
	Seen     func(n int)

	start time.Time
	once  sync.Once
	first time.Duration // set by once
}

// Took is how long the parts of a pull took from its beginning.
type Took struct {
	FirstByte time.Duration // of a layer; 0 if none came
	All       time.Duration
}

// Pull pulls. Its error names the request that failed; nil means that every digest is right.
func (c *Client) Pull(ctx context.Context, img *Image) (Took, error) {
	c.start = time.Now()
	err := c.image(ctx, img)
	return Took{FirstByte: c.first, All: time.Since(c.start)}, err
}

func (c *Client) image(ctx context.Context, img *Image) error {
	manifest := v1.Descriptor{Digest: img.Digest, Size: -1}
	if err := c.get(ctx, "/manifests/"+Tag, manifest, io.Discard); err != nil {
		return err
	}
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(c.Parallel)
	for _, b := range img.Blobs {
		g.Go(func() error { return c.get(ctx, "/blobs/"+b.Digest.String(), b, &reader{c, b.MediaType.IsLayer()}) })
	}
	return g.Wait()
}

// reader sees the bytes of a blob as they come.
type reader struct {
	c     *Client
	layer bool
}

func (r *reader) Write(b []byte) (int, error) {
	if r.layer {
		r.c.once.Do(func() { r.c.first = time.Since(r.c.start) })
	}
	if r.c.Seen != nil {
		r.c.Seen(len(b))
	}
	return len(b), nil
}

// get reads one answer and checks it against its descriptor. A size below 0 is not checked.
func (c *Client) get(ctx context.Context, path string, want v1.Descriptor, seen io.Writer) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+c.Mirror+"/v2/"+Repository+path, nil)
	if err != nil {
		return err
	}
	req.Header.Set("Accept", "application/vnd.oci.image.manifest.v1+json, */*")
	resp, err := c.HTTP.Do(req)
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
		return &WrongError{Path: path, Bytes: n, Got: got, Want: want}
	}
	return nil
}

// WrongError says that a client was told bytes are whole that are not what it asked for.
type WrongError struct {
	Path  string
	Bytes int64
	Got   string // SHA-256, hexadecimal
	Want  v1.Descriptor
}

func (e *WrongError) Error() string {
	return fmt.Sprintf("GET %s: got %d bytes of sha256:%s, want %d of %v", e.Path, e.Bytes, e.Got, e.Want.Size, e.Want.Digest)
}

// GetJSON asks for a URL and decodes the answer.
func GetJSON(ctx context.Context, client *http.Client, url string, into any) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return err
	}
	resp, err := client.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("GET %s: %s", url, resp.Status)
	}
	if into == nil {
		return nil
	}
	if err := json.NewDecoder(io.LimitReader(resp.Body, maxAnswer)).Decode(into); err != nil {
		return fmt.Errorf("GET %s: %w", url, err)
	}
	return nil
}
