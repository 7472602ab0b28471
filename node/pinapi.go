package node

import (
	"context"
	"errors"
	"net/http"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/meshd-project/meshd/exchange/store"
	"github.com/meshd-project/meshd/node/admin"
	"github.com/meshd-project/meshd/seed/preheat"
)

// pinTimeout bounds the questions to a registry on what an image is made of.
const pinTimeout = 20 * time.Second

// maxPinTime bounds how long a pin lasts that has an end.
const maxPinTime = 10 * 365 * 24 * time.Hour

// pinRoutes are those of pins.
func (n *node) pinRoutes() []admin.Route {
	return []admin.Route{
		{Method: http.MethodGet, Path: "/v1/pins", Handle: n.listPins},
		{Method: http.MethodPost, Path: "/v1/pins", Handle: n.pin},
		{Method: http.MethodPost, Path: "/v1/unpin", Handle: n.unpin},
	}
}

// Pin is an image that stays on this node's disk: one of /v1/pins.
type Pin struct {
	Image   string          `json:"image"`
	Until   time.Time       `json:"until,omitzero"` // zero: it does not end by itself
	Blobs   []digest.Digest `json:"blobs"`          // manifests, configurations and layers, by the names that the store has
	Bytes   int64           `json:"bytes"`          // of the blobs that are here
	Missing int             `json:"missing"`        // blobs that are not here whole
	Job     preheat.ID      `json:"job,omitempty"`  // that brings them in; in the answer to POST only
}

// pinBody is the body of POST /v1/pins.
type pinBody struct {
	Image     string   `json:"image"`
	Platforms []string `json:"platforms"`
	For       string   `json:"for"` // such as 720h; "": without an end
}

// pin holds an image on this node, and has what is missing brought in.
func (n *node) pin(w http.ResponseWriter, r *http.Request) error {
	var body pinBody
	if err := admin.Decode(r, &body); err != nil {
		return err
	}
	request, err := n.preheatRequest(preheatBody{Image: body.Image, Platforms: body.Platforms, Scope: string(preheat.ScopeHere)})
	if err != nil {
		return preheatRefusal(err)
	}
	p := store.Pin{Name: request.Image.String()}
	if body.For != "" {
		d, err := time.ParseDuration(body.For)
		if err != nil || d <= 0 || d > maxPinTime {
			return admin.Errorf(http.StatusBadRequest, "for %.40q: want a duration such as 720h, at most ten years", body.For)
		}
		p.Until = time.Now().Add(d).UTC().Truncate(time.Second)
	}
	ctx, cancel := context.WithTimeout(r.Context(), pinTimeout)
	defer cancel()
	c, err := n.preheat.Resolve(ctx, request)
	if err != nil {
		return preheatRefusal(err)
	}
	if p.Blobs, err = storeNames(request.Image.Registry, c); err != nil {
		return admin.Errorf(http.StatusBadRequest, "%v", err)
	}
	request.Image.Digest = c.Digest // what is brought in is what is pinned, wherever the tag moves
	if err := n.store.Pin(p); err != nil {
		return pinRefusal(err)
	}
	job, err := n.preheat.Create(request)
	if err != nil {
		return preheatRefusal(errors.Join(err, n.store.Unpin(p.Name)))
	}
	out := n.pinned(p)
	out.Job = job.ID
	return admin.WriteJSON(w, http.StatusCreated, out)
}

// storeNames are the names under which the store has an image's blobs, and the manifests of a public one.
func storeNames(registry string, c preheat.Contents) ([]digest.Digest, error) {
	var out []digest.Digest
	for _, d := range c.Documents {
		if !c.Private {
			out = append(out, d.Digest)
		}
	}
	for _, l := range c.Layers {
		name := l.Digest
		if c.Private {
			var err error
			if name, err = store.Scoped(registry, name); err != nil {
				return nil, err
			}
		}
		out = append(out, name)
	}
	return out, nil
}

func pinRefusal(err error) error {
	switch {
	case errors.Is(err, store.ErrInvalid):
		return admin.Errorf(http.StatusBadRequest, "%v", err)
	case errors.Is(err, store.ErrNotFound):
		return admin.Errorf(http.StatusNotFound, "%v", err)
	}
	return err
}

// pinned shows a pin.
func (n *node) pinned(p store.Pin) Pin {
	out := Pin{Image: p.Name, Until: p.Until, Blobs: p.Blobs}
	for _, d := range p.Blobs {
		if info, err := n.store.Stat(d); err == nil && info.Complete {
			out.Bytes += info.Size
		} else {
			out.Missing++
		}
	}
	return out
}

func (n *node) listPins(w http.ResponseWriter, _ *http.Request) error {
	out := []Pin{}
	for _, p := range n.store.Pins() {
		out = append(out, n.pinned(p))
	}
	return admin.WriteJSON(w, http.StatusOK, out)
}

// unpin lets an image go that was pinned by the same name.
func (n *node) unpin(w http.ResponseWriter, r *http.Request) error {
	image, err := n.imageNamed(r)
	if err != nil {
		return err
	}
	if err := n.store.Unpin(image.String()); err != nil {
		return pinRefusal(err)
	}
	w.WriteHeader(http.StatusNoContent)
	return nil
}
