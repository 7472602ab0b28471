package testbed

import (
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/v1/remote"
)

// A pull by an independent client counts exactly the bytes of the image's blobs, and an error body counts nothing.
func TestRegistryCountsBlobs(t *testing.T) {
	srv := httptest.NewServer(NewRegistry())
	defer srv.Close()
	addr := strings.TrimPrefix(srv.URL, "http://")
	img, err := Push(t.Context(), addr, nil, 1, 1<<20, 1<<19, 1<<19)
	if err != nil {
		t.Fatal(err)
	}
	counted := func() int64 {
		var c Counts
		if err := GetJSON(t.Context(), srv.Client(), srv.URL+CountsPath, &c); err != nil {
			t.Fatal(err)
		}
		return c.BlobBytes
	}
	if n := counted(); n != 0 {
		t.Errorf("after the push: %d bytes sent", n)
	}
	ref, _ := name.ParseReference(addr+"/"+Repository+":"+Tag, name.Insecure)
	pulled, err := remote.Image(ref)
	if err != nil {
		t.Fatal(err)
	}
	layers, err := pulled.Layers()
	if err != nil {
		t.Fatal(err)
	}
	var size int64
	for _, l := range layers {
		body, err := l.Compressed()
		if err != nil {
			t.Fatal(err)
		}
		n, err := io.Copy(io.Discard, body)
		if err != nil {
			t.Fatal(err)
		}
		size += n
	}
	config, err := pulled.RawConfigFile()
	if err != nil {
		t.Fatal(err)
	}
	size += int64(len(config))
	if n := counted(); n != size || size != img.Size {
		t.Errorf("counted %d bytes, pulled %d, image %d", n, size, img.Size)
	}
	resp, err := http.Get(srv.URL + "/v2/" + Repository + "/blobs/sha256:" + strings.Repeat("0", 64))
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	if n := counted(); n != size {
		t.Errorf("a 404 counted %d bytes", n-size)
	}
}

// One seed gives one image, layer by layer; another seed another.
func TestImageSeed(t *testing.T) {
	digest := func(seed uint64) string {
		img, err := randomImage(seed, []int64{1 << 20, 1 << 10})
		if err != nil {
			t.Fatal(err)
		}
		d, err := img.Digest()
		if err != nil {
			t.Fatal(err)
		}
		return d.String()
	}
	first, again, other := digest(7), digest(7), digest(8)
	if first != again || first == other {
		t.Errorf("seed 7: %s, %s; seed 8: %s", first, again, other)
	}
}
