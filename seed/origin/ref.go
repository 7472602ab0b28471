package origin

import (
	"fmt"
	"net/url"
	"regexp"
	"strconv"
	"strings"

	"github.com/google/go-containerregistry/pkg/name"
)

// Bounds on what names a repository, in bytes.
const (
	maxRegistry   = 255
	maxRepository = 255
	maxPath       = 512
)

const (
	dockerHub    = "docker.io"
	dockerHubAPI = "registry-1.docker.io"
)

// Ref names a repository in a registry.
type Ref struct {
	Registry   string // as in an image reference: "docker.io", "harbor.example:8443"
	Repository string // as in the API's paths: "library/alpine"
}

// String returns the reference as it is written for people.
func (r Ref) String() string { return r.Registry + "/" + r.Repository }

// repositoryName is the grammar of distribution-spec 1.1.
var repositoryName = regexp.MustCompile(`^[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*(/[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*)*$`)

// requestPath covers what follows a repository: "manifests/TAG", "blobs/DIGEST", "tags/list", "blobs/uploads/".
var requestPath = regexp.MustCompile(`^[a-z]+(/[A-Za-z0-9_][A-Za-z0-9._:+=-]*)*/?$`)

// canonicalRegistry returns the one name of a registry: lower case, and docker.io for Docker Hub.
func canonicalRegistry(registry string) (string, error) {
	host, err := checkHost(registry)
	if err != nil {
		return "", err
	}
	if host == name.DefaultRegistry { // index.docker.io
		return dockerHub, nil
	}
	return host, nil
}

// checkHost checks HOST[:PORT] and returns it in lower case.
func checkHost(host string) (string, error) {
	if len(host) > maxRegistry {
		return "", fmt.Errorf("%w: registry name of %d bytes", ErrReference, len(host))
	}
	if _, err := name.NewRegistry(host, name.StrictValidation); err != nil {
		return "", fmt.Errorf("%w: registry %q", ErrReference, host)
	}
	u := url.URL{Host: host}
	if u.Hostname() == "" {
		return "", fmt.Errorf("%w: registry %q: no host", ErrReference, host)
	}
	if strings.HasSuffix(host, ":") {
		return "", fmt.Errorf("%w: registry %q: port", ErrReference, host)
	}
	if strings.Count(host, ":") > 1 && host[0] != '[' {
		return "", fmt.Errorf("%w: registry %q: an IPv6 address stands in brackets", ErrReference, host)
	}
	if port := u.Port(); port != "" {
		if n, err := strconv.ParseUint(port, 10, 16); err != nil || n == 0 {
			return "", fmt.Errorf("%w: registry %q: port", ErrReference, host)
		}
	}
	return strings.ToLower(host), nil
}

// defaultBase is where a registry is that nobody configured.
func defaultBase(registry string) *url.URL {
	if registry == dockerHub {
		registry = dockerHubAPI
	}
	return &url.URL{Scheme: "https", Host: registry}
}

func checkRepository(repository string) error {
	if len(repository) > maxRepository {
		return fmt.Errorf("%w: repository name of %d bytes", ErrReference, len(repository))
	}
	if !repositoryName.MatchString(repository) {
		return fmt.Errorf("%w: repository %q", ErrReference, repository)
	}
	return nil
}

func checkPath(path string) error {
	if len(path) > maxPath {
		return fmt.Errorf("%w: path of %d bytes", ErrReference, len(path))
	}
	if !requestPath.MatchString(path) {
		return fmt.Errorf("%w: path %q", ErrReference, path)
	}
	return nil
}

// redact returns u for people: no user information, no query, no fragment.
func redact(u *url.URL) string {
	return (&url.URL{Scheme: u.Scheme, Host: u.Host, Path: u.Path}).String()
}
