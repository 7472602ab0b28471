package catalog

import (
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"
	v1 "github.com/opencontainers/image-spec/specs-go/v1"
)

// What is left out of a manifest is what no store has.
func TestParseManifest(t *testing.T) {
	foreign := absent("foreign")
	foreign.MediaType = "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip"
	elsewhere := absent("elsewhere")
	elsewhere.URLs = []string{"https://else.example/"}
	m := parseManifest(marshal(t, imageOf(absent("c"), foreign, elsewhere, absent(""), v1.Descriptor{Digest: "sha256:1"}, absent("l"))))
	if m == nil || m.config != absent("c").Digest || len(m.layers) != 1 || m.layers[0] != absent("l").Digest {
		t.Errorf("%+v", m)
	}
	for _, text := range []string{"", "[]", "{}", `{"layers":[]}`, `{"manifests":{}}`, `{"layers":[{"digest":"sha256:1"}]}`} {
		if m := parseManifest([]byte(text)); m != nil {
			t.Errorf("%q: %+v", text, m)
		}
	}
}

func TestPlatform(t *testing.T) {
	for text, want := range map[string]string{
		`{"os":"linux","architecture":"amd64"}`:                               "linux/amd64",
		`{"os":"linux","architecture":"arm","variant":"v7"}`:                  "linux/arm/v7",
		`{"os":"linux","architecture":"arm64","variant":"v8"}`:                "linux/arm64",
		`{"os":"windows","architecture":"amd64","os.version":"10.0.17763.1"}`: "windows/amd64",
		`{"os":"unknown","architecture":"unknown"}`:                           "",
		`{"os":"linux"}`: "",
		`{"os":"\u001b[2J","architecture":"amd64"}`:                            "",
		`{"os":"linux","architecture":"` + strings.Repeat("a", maxText) + `"}`: "",
		`{"os":"linux","architecture":"arm","variant":"v\n7"}`:                 "linux/arm",
		`[]`: "",
	} {
		if got := parsePlatform([]byte(text)); got != want {
			t.Errorf("%s: %q, want %q", text, got, want)
		}
	}
}

// Whatever a registry calls a manifest: each digest is one, and a platform can be shown on a terminal.
func FuzzManifest(f *testing.F) {
	f.Add([]byte(`{"manifests":[{"digest":"` + digest.FromString("m").String() + `","platform":{"os":"linux","architecture":"amd64"}}]}`))
	f.Add([]byte(`{"config":{"digest":"` + digest.FromString("c").String() + `"},"layers":[{"digest":"sha256:x"}],"os":"linux"}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		check := func(platform string) {
			if len(platform) > maxText || strings.ContainsFunc(platform, func(r rune) bool { return r <= ' ' || r > '~' }) {
				t.Errorf("platform %q", platform)
			}
		}
		check(parsePlatform(data))
		m := parseManifest(data)
		if m == nil {
			return
		}
		all := append([]digest.Digest{}, m.layers...)
		if m.config != "" {
			all = append(all, m.config)
		}
		for _, c := range m.children {
			all = append(all, c.digest)
			check(c.platform)
		}
		if len(all) == 0 {
			t.Error("a manifest of nothing")
		}
		for _, d := range all {
			if d.Validate() != nil {
				t.Errorf("digest %q", d)
			}
		}
	})
}
