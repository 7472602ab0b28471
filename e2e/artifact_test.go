package e2e

import (
	"encoding/json"
	"io"
	"log"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	ggcr "github.com/google/go-containerregistry/pkg/registry"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"oras.land/oras-go/v2"
	"oras.land/oras-go/v2/content"
	orasremote "oras.land/oras-go/v2/registry/remote"
)

const (
	sbomType = "application/vnd.example.sbom"
	sbom     = `{"packages": 3}`
)

// Artifacts that refer to an image (signatures, SBOMs) are pushed, listed and pulled through the mirror by oras-go and
// regctl: at a registry that lists referrers, and at one (docker-registry) where clients keep the list under a tag.
func TestReferrers(t *testing.T) {
	m := newMesh(t, nodeSpec{"east", true})
	modern := httptest.NewServer(ggcr.New(ggcr.WithReferrersSupport(true), ggcr.Logger(log.New(io.Discard, "", 0))))
	t.Cleanup(modern.Close)
	n := m.nodes[0]
	n.kill()
	m.extra = []string{"--registry", openHost + "=" + modern.URL}
	n.start(t)
	for _, host := range []string{registryHost, openHost} {
		t.Run(host, func(t *testing.T) {
			direct := *m.registry
			if host == openHost {
				direct.addr = modern.Listener.Addr().String()
			}
			img := *direct.pushImage(t, "team/app", 1, 200_000)
			img.repo = host + "/" + img.repo
			attach := orasAttach(t, n.mirror(), &img)
			if got := orasReferrers(t, n.mirror(), &img); !slices.Equal(got, []string{attach}) {
				t.Errorf("oras-go lists %v, want %v", got, attach)
			}
			regctl := regctl(t, n.mirror(), "", "")
			ref := n.mirror() + "/" + img.repo + ":" + img.tag
			file := filepath.Join(t.TempDir(), "second")
			must(t, os.WriteFile(file, []byte("a second one"), 0o600))
			_, err := regctl("artifact", "put", "--subject", ref, "--artifact-type", sbomType, "-f", file)
			must(t, err)
			out, err := regctl("artifact", "list", ref)
			must(t, err)
			if !strings.Contains(out, attach) || len(orasReferrers(t, n.mirror(), &img)) != 2 {
				t.Errorf("after a second one regctl lists\n%s", out)
			}
			out, err = regctl("artifact", "get", n.mirror()+"/"+img.repo+"@"+attach)
			must(t, err)
			if out != sbom {
				t.Errorf("regctl gets %q", out)
			}
		})
	}
}

func orasRepo(t *testing.T, mirror string, img *image) *orasremote.Repository {
	t.Helper()
	repo, err := orasremote.NewRepository(mirror + "/" + img.repo)
	must(t, err)
	repo.PlainHTTP = true
	return repo
}

// orasAttach pushes an artifact that refers to the image and returns its digest.
func orasAttach(t *testing.T, mirror string, img *image) string {
	t.Helper()
	repo := orasRepo(t, mirror, img)
	subject, err := repo.Resolve(t.Context(), img.tag)
	must(t, err)
	layer, err := oras.PushBytes(t.Context(), repo, sbomType, []byte(sbom))
	must(t, err)
	desc, err := oras.PackManifest(t.Context(), repo, oras.PackManifestVersion1_1, sbomType,
		oras.PackManifestOptions{Subject: &subject, Layers: []ocispec.Descriptor{layer}})
	must(t, err)
	return desc.Digest.String()
}

// orasReferrers lists what refers to the image, each manifest read and checked.
func orasReferrers(t *testing.T, mirror string, img *image) []string {
	t.Helper()
	repo := orasRepo(t, mirror, img)
	subject, err := repo.Resolve(t.Context(), img.tag)
	must(t, err)
	var digests []string
	must(t, repo.Referrers(t.Context(), subject, "" /* go-containerregistry takes the config for the type */, func(list []ocispec.Descriptor) error {
		for _, desc := range list {
			text, err := content.FetchAll(t.Context(), repo, desc)
			if err != nil {
				return err
			}
			var manifest ocispec.Manifest
			if err := json.Unmarshal(text, &manifest); err != nil {
				return err
			}
			if manifest.Subject == nil || manifest.Subject.Digest != subject.Digest {
				t.Errorf("%s refers to %v", desc.Digest, manifest.Subject)
			}
			digests = append(digests, desc.Digest.String())
		}
		return nil
	}))
	return digests
}
