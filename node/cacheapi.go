package node

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/meshd-project/meshd/exchange/store"
	"github.com/meshd-project/meshd/node/admin"
	"github.com/meshd-project/meshd/node/catalog"
	"github.com/meshd-project/meshd/seed/preheat"
)

// listTurn is how long a list of the cache waits for another: one reads for five seconds at most.
const listTurn = 10 * time.Second

// cacheRoutes are those of what is on the disk.
func (n *node) cacheRoutes() []admin.Route {
	return []admin.Route{
		{Method: http.MethodGet, Path: "/v1/cache", Handle: admin.OneAtATime(listTurn, n.listCache)},
		{Method: http.MethodDelete, Path: "/v1/cache/{digest}", Handle: n.dropBlob},
	}
}

// Cache is what is on this node's disk: /v1/cache.
type Cache = catalog.Catalog

// listCache shows the catalog, without its blobs if the query says blobs=false.
func (n *node) listCache(w http.ResponseWriter, r *http.Request) error {
	names := n.names(admin.Trusted(r))
	names.Blobs = r.URL.Query().Get("blobs") != "false"
	c, err := catalog.List(r.Context(), n.store, names)
	if err != nil {
		return fmt.Errorf("list the cache: %w", err)
	}
	return writeCatalog(w, c)
}

// names are pins, preheats that this node owns and has a part in, and what clients pulled. What the mirror gave out for
// credentials only, and the URLs of files, are for those who are trusted.
func (n *node) names(trusted bool) catalog.Names {
	names := catalog.Names{Repositories: make(map[digest.Digest]string)}
	private := make(map[digest.Digest][]byte)
	add := func(r catalog.Root) { names.Roots = append(names.Roots, r) }
	for _, p := range n.store.Pins() {
		add(catalog.Root{Name: p.Name, Source: "pin", Until: p.Until, Blobs: p.Blobs, Only: true})
	}
	for _, h := range n.preheat.Here() {
		blobs, err := storeNames(h.Registry, preheat.Contents{Layers: h.Layers, Private: h.Private})
		if err != nil {
			continue
		}
		root := catalog.Root{Name: h.Image, Source: "preheat", Blobs: blobs, Digest: h.Digest}
		if h.Private {
			root.Registry, root.Documents = h.Registry, private
		}
		add(root)
	}
	for _, k := range n.mirror.Known() {
		root := catalog.Root{Name: k.String() + ":" + k.Name, Source: "pull", Digest: k.Digest}
		if k.Private {
			if !trusted {
				continue
			}
			if k.Document != nil {
				private[k.Digest] = k.Document
			}
			root.Registry, root.Documents = k.Registry, private
		}
		switch {
		case k.Name != "":
			add(root)
		case k.Private:
			root.Name, root.Source = k.String()+"@"+k.Digest.String(), "digest"
			names.Spare = append(names.Spare, root)
		default:
			names.Repositories[k.Digest] = k.String()
		}
	}
	if trusted {
		names.Files = n.files.Names()
	}
	return names
}

// writeCatalog answers with a catalog, a line for each blob: as one text it would be large.
func writeCatalog(w http.ResponseWriter, c *catalog.Catalog) error {
	head := *c
	head.Blobs = nil
	text, err := json.MarshalIndent(head, "", "  ")
	if err != nil {
		return fmt.Errorf("show the cache: %w", err)
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(http.StatusOK)
	io.WriteString(w, strings.TrimSuffix(string(text), "null\n}")+"[") //nolint:errcheck // the client has gone
	for i := range c.Blobs {
		line, err := json.Marshal(&c.Blobs[i])
		if err != nil {
			panic(http.ErrAbortHandler) // numbers and strings always marshal
		}
		sep := ",\n    "
		if i == 0 {
			sep = "\n    "
		}
		if _, err := w.Write(append([]byte(sep), line...)); err != nil {
			return nil //nolint:nilerr // the client has gone
		}
	}
	io.WriteString(w, "]\n}\n") //nolint:errcheck // the client has gone
	return nil
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
