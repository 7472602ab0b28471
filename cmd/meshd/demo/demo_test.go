package demo

import (
	"bytes"
	"errors"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/registry"
	"github.com/google/go-containerregistry/pkg/v1/remote"
)

// A pull by an independent client counts exactly the bytes of the image's blobs, and an error body counts nothing.
func TestRegistryCountsBlobs(t *testing.T) {
	srv := httptest.NewServer(newCountingRegistry(registry.New(registry.Logger(log.New(io.Discard, "", 0)))))
	defer srv.Close()
	addr := strings.TrimPrefix(srv.URL, "http://")
	img, err := pushImage(t.Context(), addr, 2<<20, 3, 1)
	if err != nil {
		t.Fatal(err)
	}
	r := &registryProcess{address: addr}
	counted := func() int64 {
		c, err := r.counts(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		return c.BlobBytes
	}
	if n := counted(); n != 0 {
		t.Errorf("after the push: %d bytes sent", n)
	}
	ref, _ := name.ParseReference(addr+"/"+imageRepository+":"+imageTag, name.Insecure)
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
	if n := counted(); n != size || size != img.size {
		t.Errorf("counted %d bytes, pulled %d, image %d", n, size, img.size)
	}
	resp, err := http.Get(srv.URL + "/v2/" + imageRepository + "/blobs/sha256:" + strings.Repeat("0", 64))
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
		img, err := randomImage(1<<20, 3, seed)
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

func TestLayerSizes(t *testing.T) {
	for _, n := range []int{1, 2, 5, maxLayers} {
		var sum int64
		for _, s := range layerSizes(64<<20, n) {
			if s < 1 {
				t.Errorf("%d layers: one has %d bytes", n, s)
			}
			sum += s
		}
		if sum > 64<<20+maxLayers || sum < 64<<20-maxLayers {
			t.Errorf("%d layers: %d bytes in all", n, sum)
		}
	}
}

func TestVerdict(t *testing.T) {
	east, west := &meshNode{process: &process{name: "a"}, zone: "east"}, &meshNode{process: &process{name: "b"}, zone: "west"}
	good := []result{
		{node: east, took: time.Second, in: source{Origin: 100}},
		{node: west, took: time.Second, in: source{OtherZone: 100}},
	}
	failed := []result{good[0], {node: west, in: source{OtherZone: 100}, err: errors.New("wrong digest")}}
	twice := []result{good[0], {node: west, in: source{OtherZone: 100, Origin: 11}}}
	for _, row := range []struct {
		name    string
		results []result
		origin  int64
		want    string // in the error; "" for none
	}{
		{"all held", good, 100, ""},
		{"a wrong digest", failed, 100, "b: wrong digest"},
		{"the registry sent more", good, 102, "1.020 copies"},
		{"a zone took in more", twice, 100, "west took in 1.11 copies"},
	} {
		t.Run(row.name, func(t *testing.T) {
			r := newReport(&image{size: 100}, row.results, row.origin)
			switch err := r.verdict(); {
			case row.want == "" && err != nil:
				t.Errorf("got %v", err)
			case row.want != "" && (err == nil || !strings.Contains(err.Error(), row.want)):
				t.Errorf("got %v, want it to contain %q", err, row.want)
			}
			var out bytes.Buffer
			r.write(&out)
			if (row.want == "b: wrong digest") != strings.Contains(out.String(), "NO") {
				t.Errorf("the table:\n%s", &out)
			}
		})
	}
}

// Places to listen are all different.
func TestChoosePorts(t *testing.T) {
	places, err := choosePorts(8)
	if err != nil {
		t.Fatal(err)
	}
	seen := map[string]bool{}
	for _, p := range places {
		for _, port := range []int{p.mirror, p.admin, p.p2p, p.tcp} {
			if seen[p.addr(port)] {
				t.Errorf("%s is there twice", p.addr(port))
			}
			seen[p.addr(port)] = true
		}
	}
}

// The table fits into a terminal of 80 columns, with two-digit nodes and a minute's pull.
func TestReportFits(t *testing.T) {
	img := &image{size: 999 << 20}
	n := &meshNode{process: &process{name: "node-10"}, zone: "zone-1", seed: true}
	x := result{node: n, took: 99 * time.Second, firstByte: 2 * time.Second}
	x.in = source{Zone: 800 << 20, OtherZone: 100 << 20, Origin: 99 << 20}
	var out bytes.Buffer
	newReport(img, []result{x}, img.size).write(&out)
	lines := strings.Split(strings.TrimSpace(out.String()), "\n")
	for _, line := range lines[:len(lines)-1] { // the last one may wrap
		if len(line) > 80 {
			t.Errorf("%d columns: %s", len(line), line)
		}
	}
}
