package mirror

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"

	"github.com/opencontainers/go-digest"
	v1 "github.com/opencontainers/image-spec/specs-go/v1"
)

// Media types outside the OCI image specification.
const (
	typeDockerManifest = "application/vnd.docker.distribution.manifest.v2+json"
	typeDockerList     = "application/vnd.docker.distribution.manifest.list.v2+json"
	typeDockerForeign  = "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip"
	typeArtifact       = "application/vnd.oci.artifact.manifest.v1+json"
	typeSchema1        = "application/vnd.docker.distribution.manifest.v1+json"
	typeSchema1Signed  = "application/vnd.docker.distribution.manifest.v1+prettyjws"
	typeUnknown        = "application/octet-stream"
)

// acceptAll is sent for clients that send no Accept: without one, registries fall
// back to schema 1 or say 404.
var acceptAll = strings.Join([]string{
	v1.MediaTypeImageIndex, v1.MediaTypeImageManifest, typeDockerList, typeDockerManifest, typeArtifact, "*/*",
}, ", ")

const (
	maxParts     = 4096 // descriptors of one manifest that get a grant with it
	maxMediaType = 255  // bytes
)

// document is a manifest, or what a HEAD told about one.
type document struct {
	digest    digest.Digest
	mediaType string
	size      int64  // bytes
	data      []byte // nil after a HEAD; shared between callers, never written to

	// stale: the origin cannot answer, and age ago it named this one.
	stale bool
	age   time.Duration
}

// part is a blob or manifest that a manifest vouches for.
type part struct {
	digest digest.Digest
	size   int64 // bytes as claimed, -1 unknown
}

// partsOf reads the descriptors of a manifest or index that the registry has had
// to check when it took the manifest. Left out is what it accepts unseen: the
// subject, which may not exist, and layers that live elsewhere. Content that is
// no manifest has no parts.
func partsOf(data []byte) []part {
	var m struct {
		Config    *v1.Descriptor  `json:"config"`
		Layers    []v1.Descriptor `json:"layers"`
		Manifests []v1.Descriptor `json:"manifests"`
		Blobs     []v1.Descriptor `json:"blobs"` // artifact manifests of OCI 1.1 drafts
	}
	if json.Unmarshal(data, &m) != nil {
		return nil
	}
	if m.Config != nil {
		m.Layers = append(m.Layers, *m.Config)
	}
	var parts []part
	for _, list := range [][]v1.Descriptor{m.Layers, m.Manifests, m.Blobs} {
		for _, desc := range list {
			if p, ok := vouchedPart(desc); ok && len(parts) < maxParts {
				parts = append(parts, p)
			}
		}
	}
	return parts
}

func vouchedPart(desc v1.Descriptor) (part, bool) {
	if len(desc.URLs) > 0 || desc.MediaType == typeDockerForeign || strings.Contains(desc.MediaType, ".nondistributable.") {
		return part{}, false
	}
	d, err := parseDigest(desc.Digest.String())
	if err != nil {
		return part{}, false
	}
	if desc.Size < 0 || desc.Size == 0 && d != digest.SHA256.FromBytes(nil) {
		desc.Size = -1
	}
	return part{digest: d, size: desc.Size}, true
}

// readDocument reads and verifies a manifest. want is the digest it has to match,
// "" if it was asked for by tag. It closes the body.
func readDocument(resp *http.Response, want digest.Digest, limit int64) (document, error) {
	defer resp.Body.Close()
	data, err := readAll(resp.Body, limit)
	if err != nil {
		return document{}, err
	}
	doc := document{mediaType: mediaTypeOf(resp.Header, data), size: int64(len(data)), data: data}
	claimed, err := parseDigest(resp.Header.Get("Docker-Content-Digest"))
	hasClaim := err == nil
	switch {
	case want != "":
		doc.digest = want
	case hasClaim && isSchema1(doc.mediaType):
		// The digest of a signed schema 1 manifest is not that of its bytes.
		// Nothing vouches for them but the connection; they are not kept.
		doc.digest = claimed
		return doc, nil
	case hasClaim:
		doc.digest = claimed
	default:
		doc.digest = digest.SHA256.FromBytes(data)
	}
	if !matches(doc.digest, data) {
		return document{}, fmt.Errorf("read manifest %s: %w", doc.digest, ErrCorrupt)
	}
	return doc, nil
}

// headDocument reads what a HEAD tells. ok is false if it is not enough to answer
// a client's HEAD.
func headDocument(resp *http.Response, want digest.Digest) (doc document, ok bool, err error) {
	resp.Body.Close()
	claimed, err := parseDigest(resp.Header.Get("Docker-Content-Digest"))
	switch {
	case err != nil && want == "", resp.ContentLength < 0, resp.Header.Get("Content-Type") == "":
		return document{}, false, nil
	case err != nil:
		claimed = want
	case want != "" && claimed.Algorithm() == want.Algorithm() && claimed != want:
		return document{}, false, fmt.Errorf("head manifest %s: answered for %s: %w", want, claimed, ErrCorrupt)
	case want != "":
		claimed = want
	}
	return document{digest: claimed, mediaType: mediaTypeOf(resp.Header, nil), size: resp.ContentLength}, true, nil
}

// readAll reads at most limit bytes; more is an answer we do not trust.
func readAll(r io.Reader, limit int64) ([]byte, error) {
	data, err := io.ReadAll(io.LimitReader(r, limit+1))
	if err != nil {
		return nil, fmt.Errorf("read the origin's answer: %w", err)
	}
	if int64(len(data)) > limit {
		return nil, fmt.Errorf("read the origin's answer: more than %d bytes: %w", limit, ErrCorrupt)
	}
	return data, nil
}

func matches(d digest.Digest, data []byte) bool {
	return d.Algorithm().FromBytes(data) == d
}

// mediaTypeOf is the Content-Type of a manifest, or the type that it gives itself
// when the origin did not bother.
func mediaTypeOf(h http.Header, data []byte) string {
	switch t := h.Get("Content-Type"); {
	case len(t) > maxMediaType:
		return typeUnknown
	case t != "" && !strings.HasPrefix(t, "text/plain") && !strings.HasPrefix(t, typeUnknown):
		return t
	}
	var m struct {
		MediaType string `json:"mediaType"`
	}
	if json.Unmarshal(data, &m) != nil || m.MediaType == "" || len(m.MediaType) > maxMediaType || !printable(m.MediaType) {
		return typeUnknown
	}
	return m.MediaType
}

// printable reports whether s may stand in a header.
func printable(s string) bool {
	return !strings.ContainsFunc(s, func(r rune) bool { return r < ' ' || r > '~' })
}

func isSchema1(mediaType string) bool {
	return strings.HasPrefix(mediaType, typeSchema1) || strings.HasPrefix(mediaType, typeSchema1Signed)
}
