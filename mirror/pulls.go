package mirror

import "net/http"

// Pulls reports whether a request, sent to a registry itself, is a pull that the mirror answers: a GET or HEAD of a
// manifest, a blob or a list in the API's grammar, with no ns of its own. /v2/ is none, nor is what the mirror refuses.
func (m *Mirror) Pulls(r *http.Request) bool {
	if r.Method != http.MethodGet && r.Method != http.MethodHead {
		return false
	}
	rt, err := parsePath(r.URL.EscapedPath())
	if err != nil || rt.endpoint == endpointBase || rt.endpoint == endpointUpload {
		return false
	}
	q, err := parseQuery(r.URL.RawQuery)
	return err == nil && !q.Has("ns")
}
