package mirror

import (
	"errors"
	"net/url"
	"regexp"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"
)

const (
	someSHA256 = "sha256:6c3c624b58dbbcd3c0dd82b4c53f04194d1247c6eebdaab7c610cf7d66709b3b"
	someSHA512 = "sha512:cf83e1357eefb8bdf1542850d66d8007d620e4050b5715dc83f4a921d36ce9ce47d0d13c5d85f2b0ff8318d2877eec2f63b931bd47417a81a538327af927da3e"
)

func TestParsePath(t *testing.T) {
	sha := digest.Digest(someSHA256)
	for _, c := range []struct {
		name, path string
		want       route
		err        error
	}{
		{"base", "/v2/", route{endpoint: endpointBase}, nil},
		{"base without slash", "/v2", route{endpoint: endpointBase}, nil},
		{"tag", "/v2/library/alpine/manifests/3.20", route{endpoint: endpointManifest, name: "library/alpine", tag: "3.20"}, nil},
		{"digest", "/v2/a/manifests/" + someSHA256, route{endpoint: endpointManifest, name: "a", digest: sha}, nil},
		{"escaped colon", "/v2/a/blobs/" + strings.Replace(someSHA256, ":", "%3A", 1), route{endpoint: endpointBlob, name: "a", digest: sha}, nil},
		{"sha512", "/v2/a/blobs/" + someSHA512, route{endpoint: endpointBlob, name: "a", digest: someSHA512}, nil},
		{"registry with port", "/v2/h.example:5000/a/b/blobs/" + someSHA256, route{endpoint: endpointBlob, name: "h.example:5000/a/b", digest: sha}, nil},
		{"repository called manifests", "/v2/manifests/manifests/manifests", route{endpoint: endpointManifest, name: "manifests", tag: "manifests"}, nil},
		{"repository called blobs", "/v2/a/blobs/blobs/" + someSHA256, route{endpoint: endpointBlob, name: "a/blobs", digest: sha}, nil},
		{"tags", "/v2/a/b/tags/list", route{endpoint: endpointTags, name: "a/b"}, nil},
		{"referrers", "/v2/a/b/referrers/" + someSHA256, route{endpoint: endpointReferrers, name: "a/b", digest: sha}, nil},
		{"upload start", "/v2/a/blobs/uploads/", route{endpoint: endpointUpload, name: "a"}, nil},
		{"upload start without slash", "/v2/a/blobs/uploads", route{endpoint: endpointUpload, name: "a"}, nil},
		{"upload session", "/v2/a/b/blobs/uploads/6c3c624b-58db_=", route{endpoint: endpointUpload, name: "a/b", upload: "6c3c624b-58db_="}, nil},

		{"root", "/", route{}, errRoute},
		{"empty", "", route{}, errRoute},
		{"v1", "/v1/search", route{}, errRoute},
		{"v2 prefix of a word", "/v2x/a/manifests/b", route{}, errRoute},
		{"catalog", "/v2/_catalog", route{}, errRoute},
		{"no name", "/v2/manifests/latest", route{}, errRoute},
		{"unknown verb", "/v2/a/layers/x", route{}, errRoute},
		{"tags without list", "/v2/a/tags/x", route{}, errRoute},
		{"trailing slash", "/v2/a/manifests/latest/", route{}, errRoute},
		{"upload with a slash", "/v2/a/blobs/uploads/b/c", route{}, errRoute},
		{"upload of dots", "/v2/a/blobs/uploads/..", route{}, errUpload},
		{"upload with a blank", "/v2/a/blobs/uploads/a%20b", route{}, errUpload},
		{"upload with a long name", "/v2/a/blobs/uploads/" + strings.Repeat("u", maxUpload+1), route{}, errUpload},
		{"escaped slash", "/v2/library%2Falpine/manifests/latest", route{}, errName},
		{"escaped slash in lower case", "/v2/..%2f..%2fetc/manifests/latest", route{}, errName},
		{"broken escape", "/v2/a%zz/manifests/latest", route{}, errName},
		{"10k path", "/v2/" + strings.Repeat("a", 10_000) + "/manifests/latest", route{}, errName},
		{"tag starts with a dot", "/v2/a/manifests/.latest", route{}, errTag},
		{"tag is empty", "/v2/a/manifests/", route{}, errTag},
		{"tag of 129 bytes", "/v2/a/manifests/" + strings.Repeat("t", 129), route{}, errTag},
		{"tag with a NUL", "/v2/a/manifests/a%00", route{}, errTag},
		{"tag is dots", "/v2/a/manifests/..", route{}, errTag},
		{"digest in upper case", "/v2/a/blobs/" + strings.ToUpper(someSHA256), route{}, errDigest},
		{"digest with upper case hex", "/v2/a/blobs/sha256:" + strings.ToUpper(someSHA256[7:]), route{}, errDigest},
		{"short digest", "/v2/a/blobs/sha256:abc", route{}, errDigest},
		{"long digest", "/v2/a/blobs/" + someSHA256 + "00", route{}, errDigest},
		{"unknown algorithm", "/v2/a/blobs/md5:d41d8cd98f00b204e9800998ecf8427e", route{}, errDigest},
		{"algorithm that is not stored", "/v2/a/blobs/sha384:" + strings.Repeat("0", 96), route{}, errDigest},
		{"blob by tag", "/v2/a/blobs/latest", route{}, errDigest},
		{"manifest by bad digest", "/v2/a/manifests/sha256:xyz", route{}, errDigest},
		{"referrers of a tag", "/v2/a/referrers/latest", route{}, errDigest},
	} {
		t.Run(c.name, func(t *testing.T) {
			got, err := parsePath(c.path)
			if !errors.Is(err, c.err) || got != c.want {
				t.Fatalf("parsePath(%.80q) = %+v, %v; want %+v, %v", c.path, got, err, c.want, c.err)
			}
		})
	}
}

var (
	repositoryRE = regexp.MustCompile(`^[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*(/[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*)*$`)
	tagRE        = regexp.MustCompile(`^[a-zA-Z0-9_][a-zA-Z0-9._-]{0,127}$`)
)

// FuzzPath checks that every path is a known refusal or a route that is wholly
// within the grammars and means the same when written again.
func FuzzPath(f *testing.F) {
	f.Add("/v2/library/alpine/manifests/latest", "")
	f.Add("/v2/h.example:5000/a/b/blobs/"+someSHA256, "h.example:5000")
	f.Add("/v2/../../etc/passwd/manifests/x", "docker.io")
	f.Add("/v2/a%2Fb/manifests/x", "[::1]:5000")
	f.Fuzz(func(t *testing.T, path, ns string) {
		rt, err := parsePath(path)
		if err != nil {
			wantKnownCause(t, err)
			return
		}
		if rt.endpoint == endpointBase || rt.endpoint == endpointToken {
			return
		}
		if rt.digest != "" && rt.digest.Validate() != nil {
			t.Fatalf("digest %q", rt.digest)
		}
		if strings.ContainsAny(rt.upload, "/?#%") || rt.upload == ".." {
			t.Fatalf("upload %q", rt.upload)
		}
		if rt.endpoint == endpointManifest && (rt.tag == "") == (rt.digest == "") || rt.tag != "" && !tagRE.MatchString(rt.tag) {
			t.Fatalf("route %+v", rt)
		}
		ref, err := resolve(rt.name, ns, dockerHub, func(string) bool { return false })
		if err != nil {
			wantKnownCause(t, err)
			return
		}
		if len(ref.Repository) > maxName || !repositoryRE.MatchString(ref.Repository) {
			t.Fatalf("repository %q", ref.Repository)
		}
		if u, err := url.Parse("https://" + ref.Registry + "/v2/"); err != nil || u.Host != ref.Registry || u.User != nil {
			t.Fatalf("registry %q: %v", ref.Registry, err)
		}
		again, err := resolve(ref.Repository, ref.Registry, dockerHub, func(string) bool { return false })
		if first, _, _ := strings.Cut(ref.Repository, "/"); first == ref.Registry {
			return // a repository that repeats its registry loses it once more
		}
		if err != nil || again != ref {
			t.Fatalf("%+v resolves to %+v, %v", ref, again, err)
		}
	})
}

// FuzzRepository compares the hand-written grammar with the regular expression.
func FuzzRepository(f *testing.F) {
	for _, s := range []string{"a", "a/b", "a__b", "a___b", "a--b", "a..b", "a._b", "-a", "a/", "/a", "a//b", "A"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		if len(s) <= maxName && validRepository(s) != (repositoryRE.MatchString(s) && !strings.HasSuffix(s, "\n")) {
			t.Fatalf("validRepository(%q) = %v", s, validRepository(s))
		}
		if len(s) <= 128 && validTag(s) != (tagRE.MatchString(s) && !strings.HasSuffix(s, "\n")) {
			t.Fatalf("validTag(%q) = %v", s, validTag(s))
		}
	})
}

func wantKnownCause(t *testing.T, err error) {
	t.Helper()
	for _, cause := range []error{errRoute, errUpload, errName, errTag, errDigest} {
		if errors.Is(err, cause) {
			return
		}
	}
	t.Fatalf("unknown cause %v", err)
}
