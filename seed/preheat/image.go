package preheat

import (
	"fmt"
	"runtime"
	"slices"
	"strings"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/opencontainers/go-digest"

	"github.com/meshd-project/meshd/exchange/swarm"
	"github.com/meshd-project/meshd/exchange/wire"
)

// Repository names a repository in a registry.
type Repository struct {
	Registry string `json:"registry"` // HOST[:PORT]; docker.io is Docker Hub
	Name     string `json:"repository"`
}

// String returns the repository as it is written for people.
func (r Repository) String() string { return r.Registry + "/" + r.Name }

// valid checks the grammar, and that the registry has its one spelling, by which it is looked up in the configuration.
func (r Repository) valid() error {
	ok := wire.ValidOrigin(swarm.OriginRef{Registry: r.Registry, Repository: r.Name})
	if !ok || r.Registry != strings.ToLower(r.Registry) || r.Registry == name.DefaultRegistry {
		return fmt.Errorf("%w: repository %.300q", ErrInvalid, r.String())
	}
	return nil
}

// Image names an image: by tag, or by digest, or by the digest that a tag had.
type Image struct {
	Repository
	Tag    string
	Digest digest.Digest
}

// maxImage bounds the text of an image, in bytes.
const maxImage = 1024

// dockerHub is the registry of images that name none.
const dockerHub = "docker.io"

// ParseImage reads an image as docker does: [HOST[:PORT]/]NAME[:TAG][@DIGEST]. Without a tag and a digest the tag is latest.
// An image without a host is defaultRegistry's. Errors wrap ErrInvalid.
func ParseImage(s, defaultRegistry string) (Image, error) {
	if len(s) > maxImage {
		return Image{}, fmt.Errorf("%w: image of %d bytes", ErrInvalid, len(s))
	}
	tagged, sum, hasDigest := strings.Cut(s, "@")
	opts := []name.Option{name.WithDefaultRegistry(defaultRegistry), name.WithDefaultTag("")}
	repository, tag := tagged, ""
	if i := strings.LastIndexByte(tagged, ':'); i > strings.LastIndexByte(tagged, '/') {
		repository, tag = tagged[:i], tagged[i+1:]
		if _, err := name.NewTag(tagged, opts...); err != nil || tag == "" {
			return Image{}, fmt.Errorf("%w: image %q: want [HOST/]NAME[:TAG][@DIGEST]", ErrInvalid, s)
		}
	}
	repo, err := name.NewRepository(repository, opts...)
	if err != nil {
		return Image{}, fmt.Errorf("%w: image %q: want [HOST/]NAME[:TAG][@DIGEST]", ErrInvalid, s)
	}
	i := Image{Repository: Repository{Registry: strings.ToLower(repo.RegistryStr()), Name: repo.RepositoryStr()}, Tag: tag}
	if i.Registry == name.DefaultRegistry || i.Registry == dockerHub {
		i.Registry = dockerHub
		if !strings.Contains(i.Name, "/") {
			i.Name = "library/" + i.Name
		}
	}
	if err := i.Repository.valid(); err != nil {
		return Image{}, err
	}
	if hasDigest {
		if i.Digest, err = digest.Parse(sum); err != nil {
			return Image{}, fmt.Errorf("%w: image %q: its digest: %w", ErrInvalid, s, err)
		}
	} else if tag == "" {
		i.Tag = "latest"
	}
	return i, nil
}

// String is the text that ParseImage reads, with its registry.
func (i Image) String() string {
	s := i.Repository.String()
	if i.Tag != "" {
		s += ":" + i.Tag
	}
	if i.Digest != "" {
		s += "@" + i.Digest.String()
	}
	return s
}

// reference is what the registry is asked for.
func (i Image) reference() string {
	if i.Digest != "" {
		return i.Digest.String()
	}
	return i.Tag
}

// AllPlatforms stands for every platform that an index lists.
const AllPlatforms = "all"

// HostPlatform is the platform of this node.
func HostPlatform() string { return "linux/" + runtime.GOARCH }

// maxPlatforms bounds the platforms of one job.
const maxPlatforms = 32

// parsePlatforms checks platforms, OS/ARCH[/VARIANT][:OSVERSION] each, or "all" alone.
func parsePlatforms(list []string) ([]v1.Platform, error) {
	if len(list) > maxPlatforms {
		return nil, fmt.Errorf("%w: %d platforms, at most %d", ErrInvalid, len(list), maxPlatforms)
	}
	if slices.Contains(list, AllPlatforms) {
		if len(list) > 1 {
			return nil, fmt.Errorf("%w: platform all stands alone", ErrInvalid)
		}
		return nil, nil
	}
	var out []v1.Platform
	for _, s := range list {
		p, err := v1.ParsePlatform(s)
		if err != nil || p.OS == "" || p.Architecture == "" || len(s) > 128 {
			return nil, fmt.Errorf("%w: platform %q: want OS/ARCH[/VARIANT] such as linux/amd64, or all", ErrInvalid, s)
		}
		out = append(out, *p)
	}
	return out, nil
}

// CheckPlatforms reports platforms that a Request would refuse.
func CheckPlatforms(list []string) error {
	_, err := parsePlatforms(list)
	return err
}
