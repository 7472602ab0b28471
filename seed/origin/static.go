package origin

import (
	"bytes"
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"unicode"

	"github.com/docker/cli/cli/config"
	"github.com/docker/cli/cli/config/types"
	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"
)

// DockerCredentials in Registry.Credentials means docker's own configuration of the user that meshd runs as.
const DockerCredentials = "docker"

// maxCredentials bounds a file of credentials.
const maxCredentials = 1 << 20

// Authorization returns the header of the operator's own credentials for a registry, "" if none are configured. They are
// read anew each time, by docker's credential helper if its configuration names one; a helper that does not answer is
// waited for until ctx ends. Nothing in this package uses them: who asks for them decides that nobody gets by them what
// the registry would refuse him. Errors hold no secret.
func (c *Client) Authorization(ctx context.Context, registry string) (string, error) {
	ep, err := c.endpoint(registry)
	if err != nil {
		return "", err
	}
	if ep.credentials == "" {
		return "", nil
	}
	type result struct {
		header string
		err    error
	}
	done := make(chan result, 1)
	go func() { // helpers are programs that know no context
		header, err := readCredentials(ctx, ep.credentials, ep.name)
		done <- result{header, err}
	}()
	select {
	case r := <-done:
		if r.err != nil {
			return "", fmt.Errorf("credentials of %s: %w", ep.name, r.err)
		}
		return r.header, nil
	case <-ctx.Done():
		return "", fmt.Errorf("credentials of %s: %w", ep.name, ctx.Err())
	}
}

// readCredentials reads USER:PASSWORD or docker's config.json from a file, or asks docker's own configuration.
func readCredentials(ctx context.Context, source, registry string) (string, error) {
	target, err := name.NewRegistry(registry)
	if err != nil {
		return "", fmt.Errorf("%w: registry %q", ErrReference, registry)
	}
	if source == DockerCredentials {
		a, err := authn.Resolve(ctx, authn.DefaultKeychain, target)
		if err != nil {
			return "", errors.New("docker's configuration or its credential helper fails (try `docker login`)")
		}
		cfg, err := authn.Authorization(ctx, a)
		if err != nil {
			return "", errors.New("docker's credential helper fails")
		}
		return header(*cfg)
	}
	data, err := readPrivate(source)
	if err != nil {
		return "", err
	}
	if data = bytes.TrimSpace(data); !bytes.HasPrefix(data, []byte("{")) {
		return fromLine(source, string(data))
	}
	return fromDockerConfig(source, data, target)
}

func fromLine(source, line string) (string, error) {
	user, password, ok := strings.Cut(line, ":")
	if !ok || user == "" || strings.ContainsFunc(line, unicode.IsControl) {
		return "", fmt.Errorf("%s: want one line USER:PASSWORD, or docker's config.json", source)
	}
	return header(authn.AuthConfig{Username: user, Password: password})
}

func fromDockerConfig(source string, data []byte, target name.Registry) (string, error) {
	file, err := config.LoadFromReader(bytes.NewReader(data))
	if err != nil {
		return "", fmt.Errorf("%s is no config.json of docker", source) // the cause may quote it
	}
	key := target.RegistryStr()
	if key == name.DefaultRegistry {
		key = authn.DefaultAuthKey
	}
	got, err := file.GetAuthConfig(key)
	if err != nil {
		return "", fmt.Errorf("%s: its credential helper fails for %s", source, key)
	}
	if got == (types.AuthConfig{ServerAddress: got.ServerAddress}) {
		return "", fmt.Errorf("%s has no credentials for %s", source, key)
	}
	return header(authn.AuthConfig{
		Username: got.Username, Password: got.Password, Auth: got.Auth,
		IdentityToken: got.IdentityToken, RegistryToken: got.RegistryToken,
	})
}

// header makes an Authorization header; "" is anonymous.
func header(a authn.AuthConfig) (string, error) {
	switch {
	case a.RegistryToken != "":
		return "Bearer " + a.RegistryToken, nil
	case a.IdentityToken != "":
		return "", errors.New("identity tokens are not supported: log in with a name and a password or an access token")
	case a.Username != "" || a.Password != "":
		return "Basic " + base64.StdEncoding.EncodeToString([]byte(a.Username+":"+a.Password)), nil
	}
	return "", nil
}

// readPrivate reads a file that others must not be able to read.
func readPrivate(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	info, err := f.Stat()
	switch {
	case err != nil:
		return nil, err
	case info.Mode().Perm()&0o077 != 0:
		return nil, fmt.Errorf("%s is open to others (mode %#o): want 0600", path, info.Mode().Perm())
	case info.Size() > maxCredentials:
		return nil, fmt.Errorf("%s: more than %d bytes", path, maxCredentials)
	}
	return io.ReadAll(io.LimitReader(f, maxCredentials))
}
