package node

import (
	"errors"
	"fmt"
	"net/http"
	"slices"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/meshd-project/meshd/exchange/store"
	"github.com/meshd-project/meshd/node/admin"
	"github.com/meshd-project/meshd/seed/preheat"
)

// cacheRoutes are those of what is on the disk.
func (n *node) cacheRoutes() []admin.Route {
	return []admin.Route{
		{Method: http.MethodGet, Path: "/v1/cache", Handle: n.listCache},
		{Method: http.MethodDelete, Path: "/v1/cache/{digest}", Handle: n.dropBlob},
	}
}

// Cache is what is on this node's disk: /v1/cache.
type Cache struct {
	Images []CachedImage `json:"images"`
	Blobs  []CachedBlob  `json:"blobs"`
}

// CachedImage is an image that this node knows by name, and how much of it is here.
type CachedImage struct {
	Image   string    `json:"image"`
	Digest  string    `json:"digest,omitempty"` // "" of a pin
	Source  string    `json:"source"`           // pin, preheat or pull
	Until   time.Time `json:"until,omitzero"`   // of a pin
	Blobs   int       `json:"blobs"`            // of its blobs that are known
	Missing int       `json:"missing"`          // of these, not here whole
	Bytes   int64     `json:"bytes"`            // of those that are here
}

// CachedBlob is one blob.
type CachedBlob struct {
	Digest    digest.Digest `json:"digest"` // of its bytes
	Name      digest.Digest `json:"name"`   // in the store: another than the digest if it is private, or a file
	Private   bool          `json:"private"`
	Size      int64         `json:"size"`
	Bytes     int64         `json:"bytes"` // here
	Complete  bool          `json:"complete"`
	MediaType string        `json:"media_type,omitempty"`
	Pinned    bool          `json:"pinned"`
}

func (n *node) listCache(w http.ResponseWriter, _ *http.Request) error {
	return admin.WriteJSON(w, http.StatusOK, Cache{Images: n.cachedImages(), Blobs: n.cachedBlobs()})
}

func (n *node) cachedBlobs() []CachedBlob {
	out := []CachedBlob{}
	for _, i := range n.store.List() {
		content, scoped := store.Content(i.Digest)
		out = append(out, CachedBlob{
			Digest: content, Name: i.Digest, Private: scoped, Size: i.Size, Bytes: i.Have, Complete: i.Complete,
			MediaType: i.MediaType, Pinned: i.Pinned,
		})
	}
	return out
}

// cachedImages are pins, preheats that this node owns and has a part in, and tags that clients pulled; each name once.
func (n *node) cachedImages() []CachedImage {
	out := []CachedImage{}
	add := func(i CachedImage, blobs []digest.Digest) {
		if slices.ContainsFunc(out, func(o CachedImage) bool { return o.Image == i.Image }) {
			return
		}
		p := n.pinned(store.Pin{Blobs: blobs})
		i.Blobs, i.Missing, i.Bytes = len(blobs), p.Missing, p.Bytes
		if i.Missing < i.Blobs {
			out = append(out, i)
		}
	}
	for _, p := range n.store.Pins() {
		add(CachedImage{Image: p.Name, Source: "pin", Until: p.Until}, p.Blobs)
	}
	for _, h := range n.preheat.Here() {
		names, err := storeNames(h.Registry, preheat.Contents{Layers: h.Layers, Private: h.Private})
		if err == nil {
			add(CachedImage{Image: h.Image, Digest: h.Digest.String(), Source: "preheat"}, names)
		}
	}
	for _, t := range n.mirror.Tags() {
		add(CachedImage{
			Image: fmt.Sprintf("%s:%s", t.Ref, t.Name), Digest: t.Digest.String(), Source: "pull",
		}, n.parts(t.Digest, 0))
	}
	return out
}

// parts are a public manifest that is here and what it names, of an index what is here of it.
func (n *node) parts(d digest.Digest, depth int) []digest.Digest {
	_, data, ok := documents{n.store}.Get(d)
	if !ok || depth > 3 {
		return nil
	}
	out := []digest.Digest{d}
	blobs, manifests := preheat.Parts(data)
	for _, m := range manifests {
		out = append(out, n.parts(m, depth+1)...)
	}
	return append(out, blobs...)
}

// dropBlob removes a blob, by the name that the store has.
func (n *node) dropBlob(w http.ResponseWriter, r *http.Request) error {
	d, err := digest.Parse(r.PathValue("digest"))
	if err != nil {
		return admin.Errorf(http.StatusBadRequest, "%.200q is no digest", r.PathValue("digest"))
	}
	switch err := n.store.Delete(d); {
	case errors.Is(err, store.ErrNotFound):
		return admin.Errorf(http.StatusNotFound, "%s is not here", d)
	case errors.Is(err, store.ErrInUse):
		return admin.Errorf(http.StatusConflict, "%s is in use or pinned (`meshd pin ls`)", d)
	case err != nil:
		return err
	}
	w.WriteHeader(http.StatusNoContent)
	return nil
}
