// Containerdpull fetches an image with containerd 2's own resolver, several ranges of a layer at a time, as containerd
// does where concurrent_layer_fetch_buffer is set.
//
//	containerdpull HOSTS-DIR IMAGE PARALLEL BUFFER [USER PASSWORD]
//
// HOSTS-DIR has hosts.toml by registry, BUFFER is in bytes. Each digest is checked; nothing is kept.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"time"

	"github.com/containerd/containerd/v2/core/remotes"
	"github.com/containerd/containerd/v2/core/remotes/docker"
	"github.com/containerd/containerd/v2/core/remotes/docker/config"
	"github.com/containerd/containerd/v2/core/transfer"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"golang.org/x/sync/errgroup"
	"golang.org/x/sync/semaphore"
)

const (
	// patience bounds the whole run.
	patience    = 2 * time.Minute
	maxManifest = 4 << 20
)

func main() {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	if err := run(ctx, os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "containerdpull:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string) error {
	if len(args) != 4 && len(args) != 6 {
		return errors.New("usage: containerdpull HOSTS-DIR IMAGE PARALLEL BUFFER [USER PASSWORD]")
	}
	parallel, err := strconv.Atoi(args[2])
	if err != nil {
		return err
	}
	buffer, err := strconv.Atoi(args[3])
	if err != nil {
		return err
	}
	hosts := config.HostOptions{HostDir: config.HostDirFromRoot(args[0])}
	if len(args) == 6 {
		hosts.Credentials = func(string) (string, string, error) { return args[4], args[5], nil }
	}
	resolver := docker.NewResolver(docker.ResolverOptions{Hosts: config.ConfigureHosts(ctx, hosts)})
	resolver.(remotes.ResolverWithOptions).SetOptions(
		transfer.WithMaxConcurrentDownloads(parallel),
		transfer.WithConcurrentLayerFetchBuffer(buffer),
		transfer.WithDownloadLimiter(semaphore.NewWeighted(int64(parallel))),
	)
	name, desc, err := resolver.Resolve(ctx, args[1])
	if err != nil {
		return err
	}
	fetcher, err := resolver.Fetcher(ctx, name)
	if err != nil {
		return err
	}
	return fetchImage(ctx, fetcher, desc)
}

// fetchImage fetches a manifest, its config and its layers.
func fetchImage(ctx context.Context, fetcher remotes.Fetcher, desc ocispec.Descriptor) error {
	var text limited
	if err := fetch(ctx, fetcher, desc, &text); err != nil {
		return err
	}
	var manifest ocispec.Manifest
	if err := json.Unmarshal(text, &manifest); err != nil {
		return fmt.Errorf("manifest %s: %w", desc.Digest, err)
	}
	group, ctx := errgroup.WithContext(ctx)
	for _, blob := range append(manifest.Layers, manifest.Config) {
		group.Go(func() error { return fetch(ctx, fetcher, blob, io.Discard) })
	}
	return group.Wait()
}

// fetch reads one blob to its end and checks size and digest.
func fetch(ctx context.Context, fetcher remotes.Fetcher, desc ocispec.Descriptor, to io.Writer) error {
	body, err := fetcher.Fetch(ctx, desc)
	if err != nil {
		return fmt.Errorf("fetch %s: %w", desc.Digest, err)
	}
	defer body.Close()
	verifier := desc.Digest.Verifier()
	n, err := io.Copy(io.MultiWriter(verifier, to), body)
	if err == nil && (n != desc.Size || !verifier.Verified()) {
		err = fmt.Errorf("%d bytes that are not it, want %d", n, desc.Size)
	}
	if err != nil {
		return fmt.Errorf("read %s: %w", desc.Digest, err)
	}
	return nil
}

// limited is text of a manifest.
type limited []byte

func (l *limited) Write(p []byte) (int, error) {
	if len(*l)+len(p) > maxManifest {
		return 0, errors.New("the manifest is too large")
	}
	*l = append(*l, p...)
	return len(p), nil
}
