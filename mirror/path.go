package mirror

import (
	"net/url"
	"strings"

	_ "crypto/sha256" // digest.Parse knows only linked algorithms
	_ "crypto/sha512"

	"github.com/opencontainers/go-digest"
)

// maxPath bounds a request path in bytes: a registry and a repository of 255
// each, a digest, and room for escapes.
const maxPath = 1024

// maxUpload bounds the name of an upload, in bytes.
const maxUpload = 400

// endpoint is what a path asks for.
type endpoint uint8

const (
	endpointBase endpoint = iota
	endpointManifest
	endpointBlob
	endpointTags
	endpointReferrers
	endpointToken
	endpointUpload
)

func (e endpoint) String() string {
	return [...]string{"base", "manifest", "blob", "tags", "referrers", "token", "upload"}[e]
}

// route is a parsed path.
type route struct {
	endpoint endpoint
	name     string        // registry and repository as the client wrote them, not yet checked
	tag      string        // of a manifest asked for by tag
	digest   digest.Digest // of a blob, of referrers, of a manifest asked for by digest
	upload   string        // of an upload under way; "" begins one
}

// parsePath reads an escaped request path. Everything that is not a route is
// errRoute, errUpload, errName, errTag or errDigest.
func parsePath(escaped string) (route, error) {
	if len(escaped) > maxPath {
		return route{}, errName
	}
	// An escaped slash would let two readers of one path see two different names.
	if strings.Contains(escaped, "%2F") || strings.Contains(escaped, "%2f") {
		return route{}, errName
	}
	path, err := url.PathUnescape(escaped)
	if err != nil {
		return route{}, errName
	}
	rest, ok := strings.CutPrefix(path, "/v2")
	switch {
	case !ok:
		return route{}, errRoute
	case rest == "" || rest == "/":
		return route{endpoint: endpointBase}, nil
	case path == tokenPath:
		return route{endpoint: endpointToken}, nil
	case rest[0] != '/':
		return route{}, errRoute
	}
	return parseEndpoint(rest[1:])
}

// parseEndpoint reads what follows /v2/. The last two elements decide, so that a
// repository may itself be called "manifests" or "blobs".
func parseEndpoint(path string) (route, error) {
	head, ref, ok := cutLast(path)
	if !ok {
		return route{}, errRoute
	}
	name, verb, ok := cutLast(head)
	if !ok {
		return route{}, errRoute
	}
	switch {
	case verb == "manifests":
		return manifestRoute(name, ref)
	case verb == "blobs" && ref == "uploads":
		return route{endpoint: endpointUpload, name: name}, nil
	case verb == "uploads" && strings.HasSuffix(name, "/blobs"):
		return uploadRoute(strings.TrimSuffix(name, "/blobs"), ref)
	case verb == "blobs":
		return digestRoute(endpointBlob, name, ref)
	case verb == "tags" && ref == "list":
		return route{endpoint: endpointTags, name: name}, nil
	case verb == "referrers":
		return digestRoute(endpointReferrers, name, ref)
	}
	return route{}, errRoute
}

func manifestRoute(name, ref string) (route, error) {
	if strings.Contains(ref, ":") {
		return digestRoute(endpointManifest, name, ref)
	}
	if !validTag(ref) {
		return route{}, errTag
	}
	return route{endpoint: endpointManifest, name: name, tag: ref}, nil
}

func uploadRoute(name, ref string) (route, error) {
	if !validUpload(ref) {
		return route{}, errUpload
	}
	return route{endpoint: endpointUpload, name: name, upload: ref}, nil
}

func digestRoute(e endpoint, name, ref string) (route, error) {
	d, err := parseDigest(ref)
	if err != nil {
		return route{}, err
	}
	return route{endpoint: e, name: name, digest: d}, nil
}

// parseDigest accepts sha256 and sha512 digests in lower case, which is what the
// store keeps.
func parseDigest(s string) (digest.Digest, error) {
	if len(s) > len("sha512:")+128 {
		return "", errDigest
	}
	d := digest.Digest(s)
	if d.Validate() != nil {
		return "", errDigest
	}
	if a := d.Algorithm(); a != digest.SHA256 && a != digest.SHA512 {
		return "", errDigest
	}
	return d, nil
}

// validTag reports whether s is within [a-zA-Z0-9_][a-zA-Z0-9._-]{0,127}.
func validTag(s string) bool {
	if s == "" || len(s) > 128 {
		return false
	}
	for i := range len(s) {
		c := s[i]
		switch {
		case 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', '0' <= c && c <= '9', c == '_':
		case (c == '.' || c == '-') && i > 0:
		default:
			return false
		}
	}
	return true
}

// validUpload reports whether s is what an upload may be called, or "".
func validUpload(s string) bool {
	return len(s) <= maxUpload && !strings.HasPrefix(s, ".") && !strings.ContainsFunc(s, func(c rune) bool {
		alnum := 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9'
		return !alnum && !strings.ContainsRune("._=-+", c)
	})
}

// cutLast splits s at its last slash.
func cutLast(s string) (before, after string, ok bool) {
	i := strings.LastIndexByte(s, '/')
	if i < 0 {
		return "", s, false
	}
	return s[:i], s[i+1:], true
}
