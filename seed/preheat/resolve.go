package preheat

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/types"
	"github.com/opencontainers/go-digest"
)

// Bounds of what an image may be made of. Registries and clients stop earlier.
const (
	maxLayers    = 4096    // blobs of one job
	maxManifests = 256     // of one job: indexes and the images in them
	maxDocuments = 4 << 20 // bytes of all manifests of one job
	maxDepth     = 4       // indexes within indexes
)

// Layer is a blob of an image: a layer or a configuration.
type Layer struct {
	Digest digest.Digest `json:"digest"`
	Size   int64         `json:"size"` // bytes as the manifest says; -1 unknown
}

// Contents is what an image is made of, for the platforms asked for.
type Contents struct {
	Digest    digest.Digest // of what the reference names
	Documents []Document    // that, and the manifests below it
	Layers    []Layer       // in the order of the manifests, each once
	Private   bool          // the registry gives them for credentials only
}

// manifest is what is read of manifests and indexes.
type manifest struct {
	Manifests []v1.Descriptor `json:"manifests"`
	Config    *v1.Descriptor  `json:"config"`
	Layers    []v1.Descriptor `json:"layers"`
	Blobs     []v1.Descriptor `json:"blobs"` // of artifact manifests
}

// walk collects the contents of one image.
type walk struct {
	origin        Origin
	repository    Repository
	authorization string
	platforms     []v1.Platform // none: all
	bytes         int
	Contents
}

// resolve asks the registry what an image is made of.
func resolve(ctx context.Context, o Origin, i Image, platforms []v1.Platform, authorization string) (Contents, error) {
	w := walk{origin: o, repository: i.Repository, authorization: authorization, platforms: platforms}
	top, err := w.fetch(ctx, i.reference())
	if err != nil {
		return Contents{}, err
	}
	w.Digest = top.Digest
	if err := w.enter(ctx, top, 0); err != nil {
		return Contents{}, err
	}
	if authorization != "" && len(w.Layers) > 0 {
		w.Private = !o.Public(ctx, i.Repository, w.Layers[0].Digest)
	}
	return w.Contents, nil
}

// fetch gets a document and counts it.
func (w *walk) fetch(ctx context.Context, reference string) (Document, error) {
	d, err := w.origin.Manifest(ctx, w.repository, reference, w.authorization)
	if err != nil {
		return d, err
	}
	if w.bytes += len(d.Data); w.bytes > maxDocuments || len(w.Documents) == maxManifests {
		return d, fmt.Errorf("%w: %s: more than %d manifests or %d bytes of them", ErrInvalid, w.repository, maxManifests, maxDocuments)
	}
	w.Documents = append(w.Documents, d)
	return d, nil
}

// enter reads a document and what it refers to.
func (w *walk) enter(ctx context.Context, d Document, depth int) error {
	var m manifest
	if strings.HasPrefix(d.MediaType, string(types.DockerManifestSchema1)) || strings.HasPrefix(d.MediaType, string(types.DockerManifestSchema1Signed)) {
		return fmt.Errorf("%w: %s has only a schema 1 manifest, which names no sizes and is long out of use: push it again", ErrInvalid, w.repository)
	}
	if err := json.Unmarshal(d.Data, &m); err != nil {
		return fmt.Errorf("%w: manifest %s of %s is no JSON", ErrInvalid, d.Digest, w.repository)
	}
	if len(m.Manifests) > 0 {
		return w.enterIndex(ctx, m.Manifests, depth)
	}
	if m.Config != nil {
		m.Layers = append(m.Layers, *m.Config)
	}
	for _, desc := range append(m.Layers, m.Blobs...) {
		if err := w.add(desc); err != nil {
			return err
		}
	}
	return nil
}

// add takes a blob in, unless it is there, empty, or kept elsewhere than in the registry.
func (w *walk) add(desc v1.Descriptor) error {
	if len(desc.URLs) > 0 || !desc.MediaType.IsDistributable() {
		return nil
	}
	d := digest.Digest(desc.Digest.String())
	if err := d.Validate(); err != nil {
		return fmt.Errorf("%w: a manifest of %s names the digest %.100q", ErrInvalid, w.repository, d)
	}
	if d == d.Algorithm().FromBytes(nil) || slices.ContainsFunc(w.Layers, func(l Layer) bool { return l.Digest == d }) {
		return nil
	}
	if len(w.Layers) == maxLayers {
		return fmt.Errorf("%w: %s has more than %d blobs", ErrInvalid, w.repository, maxLayers)
	}
	if desc.Size <= 0 {
		desc.Size = -1
	}
	w.Layers = append(w.Layers, Layer{d, desc.Size})
	return nil
}

// enterIndex goes on with the images of an index that are for the platforms asked for.
func (w *walk) enterIndex(ctx context.Context, list []v1.Descriptor, depth int) error {
	if depth == maxDepth {
		return fmt.Errorf("%w: %s: indexes within indexes", ErrInvalid, w.repository)
	}
	chosen, err := pick(list, w.platforms)
	if err != nil {
		return fmt.Errorf("%s: %w", w.repository, err)
	}
	for _, desc := range chosen {
		d, err := w.fetch(ctx, desc.Digest.String())
		if errors.Is(err, ErrUnknown) && len(w.platforms) == 0 {
			continue // a registry may lack what its index names; who asked for all takes what there is
		}
		if err != nil {
			return err
		}
		if err := w.enter(ctx, d, depth+1); err != nil {
			return err
		}
	}
	return nil
}

// pick returns the entries of an index for some platforms, each of which must have one; no platform stands for all of
// them. What names no platform, such as an index within an index, is taken for any; an attestation goes with all only.
func pick(list []v1.Descriptor, platforms []v1.Platform) ([]v1.Descriptor, error) {
	if len(platforms) == 0 {
		return list, nil
	}
	found := make([]bool, len(platforms))
	var out []v1.Descriptor
	for _, desc := range list {
		take := desc.Platform == nil
		for i, want := range platforms {
			if desc.Platform == nil || plain(*desc.Platform).Satisfies(plain(want)) {
				found[i], take = true, true
			}
		}
		if take {
			out = append(out, desc)
		}
	}
	for i, ok := range found {
		if !ok {
			return nil, fmt.Errorf("%w: %s is not in the index, which has %s", ErrPlatform, platforms[i], listed(list))
		}
	}
	return out, nil
}

// plain gives one spelling to platforms that are the same: arm64 is arm64/v8.
func plain(p v1.Platform) v1.Platform {
	if p.Architecture == "arm64" && p.Variant == "v8" {
		p.Variant = ""
	}
	return p
}

// listed names the platforms of an index, for people.
func listed(list []v1.Descriptor) string {
	var names []string
	for _, desc := range list {
		if p := desc.Platform; p != nil && p.OS != "unknown" && len(names) < maxPlatforms && len(p.String()) <= 128 {
			names = append(names, p.String())
		}
	}
	if len(names) == 0 {
		return "none that is named"
	}
	slices.Sort(names)
	return strings.Join(slices.Compact(names), ", ")
}
