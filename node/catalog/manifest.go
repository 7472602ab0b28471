package catalog

import (
	"encoding/json"
	"strings"

	"github.com/opencontainers/go-digest"
	v1 "github.com/opencontainers/image-spec/specs-go/v1"
)

// maxText bounds a platform, in bytes.
const maxText = 64

// manifest is what is remembered of a manifest or an index.
type manifest struct {
	children []child // of an index
	config   digest.Digest
	layers   []digest.Digest
}

// child is an entry of an index.
type child struct {
	digest   digest.Digest
	platform string // "" if the index does not say, or it is for none
}

// parts is how many digests it holds.
func (m *manifest) parts() int { return len(m.children) + len(m.layers) + 1 }

// parseManifest reads a manifest or an index; nil for what is neither. Left out is what no registry has: empty blobs, and layers
// that live elsewhere.
func parseManifest(data []byte) *manifest {
	var doc struct {
		Manifests []v1.Descriptor `json:"manifests"`
		Config    *v1.Descriptor  `json:"config"`
		Layers    []v1.Descriptor `json:"layers"`
		Blobs     []v1.Descriptor `json:"blobs"` // artifact manifests of OCI 1.1 drafts
	}
	if json.Unmarshal(data, &doc) != nil {
		return nil
	}
	m := &manifest{}
	for _, desc := range doc.Manifests {
		if here(desc) {
			m.children = append(m.children, child{desc.Digest, platformOf(desc.Platform)})
		}
	}
	if doc.Config != nil && here(*doc.Config) {
		m.config = doc.Config.Digest
	}
	for _, desc := range append(doc.Layers, doc.Blobs...) {
		if here(desc) {
			m.layers = append(m.layers, desc.Digest)
		}
	}
	if m.parts() == 1 && m.config == "" {
		return nil
	}
	return m
}

// here reports whether the blob of a descriptor can be in a store.
func here(desc v1.Descriptor) bool {
	elsewhere := len(desc.URLs) > 0 || strings.Contains(desc.MediaType, ".foreign.") || strings.Contains(desc.MediaType, ".nondistributable.")
	return !elsewhere && desc.Digest.Validate() == nil && desc.Digest != desc.Digest.Algorithm().FromBytes(nil)
}

// platformOf is OS/ARCH[/VARIANT], as people write it; "" for what runs nowhere, such as an attestation.
func platformOf(p *v1.Platform) string {
	if p == nil || !word(p.OS) || !word(p.Architecture) || p.OS == "unknown" {
		return ""
	}
	s := p.OS + "/" + p.Architecture
	if word(p.Variant) && !(p.Architecture == "arm64" && p.Variant == "v8") {
		s += "/" + p.Variant
	}
	if len(s) > maxText {
		return ""
	}
	return s
}

// word reports whether s may be part of a platform that a terminal shows.
func word(s string) bool {
	return s != "" && !strings.ContainsFunc(s, func(r rune) bool {
		return (r < 'a' || r > 'z') && (r < 'A' || r > 'Z') && (r < '0' || r > '9') && r != '.' && r != '_' && r != '-'
	})
}

// parsePlatform reads the platform of an image in its configuration.
func parsePlatform(config []byte) string {
	var p v1.Platform
	if json.Unmarshal(config, &p) != nil {
		return ""
	}
	return platformOf(&p)
}
