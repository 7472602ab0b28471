package mirror

import (
	"encoding/json"
	"fmt"
	"net/http"
	"testing"

	"github.com/opencontainers/go-digest"
	v1 "github.com/opencontainers/image-spec/specs-go/v1"
)

func TestPartsOf(t *testing.T) {
	d := func(s string) digest.Digest { return digest.FromString(s) }
	desc := func(s string, size int64) v1.Descriptor { return v1.Descriptor{Digest: d(s), Size: size} }
	foreign := desc("foreign", 5)
	foreign.URLs = []string{"https://elsewhere.example/x"}
	nondist := desc("nondist", 5)
	nondist.MediaType = "application/vnd.oci.image.layer.nondistributable.v1.tar+gzip"
	dockerForeign := desc("docker foreign", 5)
	dockerForeign.MediaType = typeDockerForeign
	subject := desc("subject", 5)

	for _, c := range []struct {
		name string
		doc  any
		want []part
	}{
		{"image", v1.Manifest{Config: desc("c", 2), Layers: []v1.Descriptor{desc("l1", 10), desc("l2", 20)}}, []part{{d("l1"), 10}, {d("l2"), 20}, {d("c"), 2}}},
		{"index", v1.Index{Manifests: []v1.Descriptor{desc("m", 7)}}, []part{{d("m"), 7}}},
		{"artifact", map[string]any{"blobs": []v1.Descriptor{desc("b", 3)}}, []part{{d("b"), 3}}},
		{"what a registry does not check", v1.Manifest{Config: desc("c", 2), Layers: []v1.Descriptor{foreign, nondist, dockerForeign}, Subject: &subject}, []part{{d("c"), 2}}},
		{"sizes that cannot be", v1.Manifest{Config: desc("c", -5), Layers: []v1.Descriptor{desc("l", 0), desc("", 0)}}, []part{{d("l"), -1}, {d(""), 0}, {d("c"), -1}}},
		{"bad digests", map[string]any{"layers": []any{map[string]any{"digest": "sha256:12"}, map[string]any{"digest": "md5:x"}}}, nil},
		{"no object", []int{1}, nil},
		{"wrong types", map[string]any{"layers": "x"}, nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			data, err := json.Marshal(c.doc)
			if err != nil {
				t.Fatal(err)
			}
			if got := partsOf(data); fmt.Sprint(got) != fmt.Sprint(c.want) {
				t.Fatalf("got %v, want %v", got, c.want)
			}
		})
	}
}

func TestPartsAreBounded(t *testing.T) {
	var index v1.Index
	for i := range maxParts + 1000 {
		index.Manifests = append(index.Manifests, v1.Descriptor{Digest: digest.FromString(fmt.Sprint(i)), Size: 1})
	}
	data, _ := json.Marshal(index)
	if n := len(partsOf(data)); n != maxParts {
		t.Fatalf("%d parts", n)
	}
}

func TestMediaTypeOf(t *testing.T) {
	for _, c := range []struct{ name, header, body, want string }{
		{"header", v1.MediaTypeImageIndex, `{"mediaType":"x/y"}`, v1.MediaTypeImageIndex},
		{"body when the header is generic", "text/plain; charset=utf-8", `{"mediaType":"x/y"}`, "x/y"},
		{"body when there is no header", "", `{"mediaType":"x/y"}`, "x/y"},
		{"neither", "", `{}`, typeUnknown},
		{"no JSON", "", `x`, typeUnknown},
		{"header splitting", "", `{"mediaType":"x/y\r\nX: y"}`, typeUnknown},
	} {
		t.Run(c.name, func(t *testing.T) {
			h := http.Header{}
			if c.header != "" {
				h.Set("Content-Type", c.header)
			}
			if got := mediaTypeOf(h, []byte(c.body)); got != c.want {
				t.Fatalf("got %q", got)
			}
		})
	}
}

// FuzzParts checks that a hostile manifest yields valid digests within bounds.
func FuzzParts(f *testing.F) {
	f.Add([]byte(`{"config":{"digest":"` + someSHA256 + `","size":1},"layers":[{"digest":"` + someSHA512 + `","urls":["x"]}]}`))
	f.Add([]byte(`{"manifests":[null,{}]}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		for _, p := range partsOf(data) {
			if p.digest.Validate() != nil || p.size < -1 {
				t.Fatalf("part %+v", p)
			}
		}
	})
}
