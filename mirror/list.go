package mirror

import (
	"context"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"strings"
)

// listMax bounds a tag list or an index of referrers in bytes.
const listMax = 16 << 20

// listing is the origin's answer that is passed on whole. It is shared between
// callers and never written to.
type listing struct {
	data   []byte
	header http.Header // Content-Type, Link, OCI-Filters-Applied
}

// listHeaders are passed on from the origin; Link is rewritten.
var listHeaders = []string{"Content-Type", "Link", "OCI-Filters-Applied"}

// serveList answers tags/list and referrers. The origin is always asked: only it
// knows, and its answer is its leave.
func (m *Mirror) serveList(w http.ResponseWriter, r *http.Request, rq request) error {
	path := "tags/list"
	if rq.endpoint == endpointReferrers {
		path = "referrers/" + rq.digest.String()
	}
	query := listQuery(rq.query)
	accept := acceptOf(r.Header)
	ctx, cancel := context.WithTimeout(r.Context(), m.cfg.ManifestTimeout)
	defer cancel()
	key := m.hasher.sum("list", rq.auth, rq.ref.Registry, rq.ref.Repository, path, query, accept)
	// Some registries refuse lists to those who may pull: the no is to this list.
	l, err := inquire(ctx, m.gate, m.lists, rq.caller, key, key, func(ctx context.Context) (listing, error) {
		return m.fetchList(ctx, OriginRequest{
			Ref: rq.ref, Method: http.MethodGet, Path: path, RawQuery: query,
			Header: http.Header{"Accept": {accept}}, Authorization: rq.auth,
		})
	})
	if err != nil {
		return err
	}
	h := w.Header()
	for name, values := range l.header {
		h[name] = values
	}
	if link := l.header.Get("Link"); link != "" {
		h.Del("Link")
		if next, ok := rewriteLink(link, r.URL.EscapedPath(), rq.query.Get("ns")); ok {
			h.Set("Link", next)
		}
	}
	h.Set("Content-Length", strconv.Itoa(len(l.data)))
	w.WriteHeader(http.StatusOK)
	if r.Method == http.MethodGet {
		return m.writeAll(w, r, l.data)
	}
	return nil
}

func (m *Mirror) fetchList(ctx context.Context, req OriginRequest) (listing, error) {
	m.stats.originAsks.Add(1)
	resp, err := m.origin.Do(ctx, req)
	if err != nil {
		return listing{}, fmt.Errorf("get %s of %s: %w", req.Path, req.Ref, err)
	}
	defer resp.Body.Close()
	data, err := readAll(resp.Body, listMax)
	if err != nil {
		return listing{}, err
	}
	l := listing{data: data, header: http.Header{"Content-Type": {"application/json"}}}
	for _, name := range listHeaders {
		if v := resp.Header.Get(name); v != "" {
			l.header.Set(name, v)
		}
	}
	return l, nil
}

// listQuery is the client's query without what was meant for the mirror.
func listQuery(q url.Values) string {
	rest := make(url.Values, len(q))
	for name, values := range q {
		if name != "ns" {
			rest[name] = values
		}
	}
	return rest.Encode()
}

// rewriteLink turns the origin's link to the next page into one to this mirror:
// the path that the client used, the origin's query, and the client's ns.
func rewriteLink(link, path, ns string) (string, bool) {
	target, params, ok := strings.Cut(link, ">")
	target, bracket := strings.CutPrefix(strings.TrimSpace(target), "<")
	if !ok || !bracket || !strings.Contains(params, "next") {
		return "", false
	}
	u, err := url.Parse(target)
	if err != nil {
		return "", false
	}
	q, err := url.ParseQuery(u.RawQuery)
	if err != nil {
		return "", false
	}
	q.Del("ns")
	if ns != "" {
		q.Set("ns", ns)
	}
	return "<" + path + "?" + q.Encode() + `>; rel="next"`, true
}
