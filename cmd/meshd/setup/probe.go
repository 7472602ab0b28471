package setup

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"syscall"
	"time"

	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/v1/remote"
)

// Bounds of the questions to the mirror.
const (
	answerTimeout = 5 * time.Second
	pullTimeout   = 2 * time.Minute
)

// answers asks the mirror whether it is one.
func (h host) answers(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, answerTimeout)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, h.url()+"/v2/", nil)
	if err != nil {
		return &UsageError{errors.New("--mirror-addr is not HOST:PORT")}
	}
	resp, err := http.DefaultClient.Do(req)
	switch {
	case errors.Is(err, syscall.ECONNREFUSED):
		return fmt.Errorf("nothing listens on %s: start meshd run, or name its --mirror-addr (until then clients go past it)", h.addr)
	case err != nil:
		return fmt.Errorf("the mirror on %s: %w", h.addr, err)
	}
	defer resp.Body.Close()
	if resp.Header.Get("Docker-Distribution-Api-Version") == "" || resp.StatusCode != http.StatusOK && resp.StatusCode != http.StatusUnauthorized {
		return fmt.Errorf("what listens on %s is no mirror: it answers /v2/ with %s", h.addr, resp.Status)
	}
	return nil
}

// pulls has a manifest and the config that it names come through the mirror, without credentials.
func (h host) pulls(ctx context.Context, image string) error {
	ctx, cancel := context.WithTimeout(ctx, pullTimeout)
	defer cancel()
	ref, err := name.ParseReference(image)
	if err != nil {
		return &UsageError{fmt.Errorf("--check: %w", err)}
	}
	registry := ref.Context().RegistryStr()
	if registry == name.DefaultRegistry {
		registry = "docker.io"
	}
	sep := ":"
	if _, ok := ref.(name.Digest); ok {
		sep = "@"
	}
	through, err := name.ParseReference(h.addr+"/"+registry+"/"+ref.Context().RepositoryStr()+sep+ref.Identifier(), name.Insecure)
	if err != nil {
		return &UsageError{fmt.Errorf("--check: %w", err)}
	}
	img, err := remote.Image(through, remote.WithContext(ctx))
	if err == nil {
		_, err = img.RawConfigFile()
	}
	if err != nil {
		return fmt.Errorf("a pull of %s through %s: %w", image, h.addr, err)
	}
	return nil
}
