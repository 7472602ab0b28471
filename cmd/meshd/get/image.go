package get

import (
	"archive/tar"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"

	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/remote/transport"
)

// refName is the annotation by which readers of a layout find an image in it (OCI image specification, annotations).
const refName = "org.opencontainers.image.ref.name"

// Image is an image to get.
type Image struct {
	Ref      string // as docker has it, without docker://
	Platform string // OS/ARCH[/VARIANT]; "" for linux on this machine; "all" for the whole index
	Mirror   string // HOST:PORT of the node's mirror; "" to ask the registry itself
	Target   string // a directory, or a file if it ends in .tar
	See      Progress
	Say      func(s string)

	transport http.RoundTripper // nil: http.DefaultTransport
}

// Run pulls the image. What came of one that failed is gone on with by the next Run for the same target. It fails with an
// *Error.
func (m *Image) Run(ctx context.Context) (err error) {
	defer func() { m.See.Done(err) }()
	return final(ctx, m.run(ctx))
}

func (m *Image) run(ctx context.Context) error {
	ref, err := name.ParseReference(m.Ref)
	if err != nil {
		return &Error{Code: 2, Err: err}
	}
	if err := free(m.Target); err != nil {
		return err
	}
	through, err := m.through(ctx, ref)
	if err != nil {
		return err
	}
	auth, err := authn.DefaultKeychain.Resolve(ref.Context())
	if err != nil {
		return fmt.Errorf("credentials for %s: %w", ref.Context().RegistryStr(), err)
	}
	base := m.transport
	if base == nil {
		base = http.DefaultTransport
	}
	desc, err := remote.Get(through, remote.WithContext(ctx), remote.WithAuth(auth),
		remote.WithTransport(&counted{base: base, see: m.See}))
	if err != nil {
		return ofRegistry(m.Ref, err)
	}
	dir := m.Target + ".meshd-part"
	if err := m.write(ref, desc, dir); err != nil {
		return ofRegistry(m.Ref, err)
	}
	return m.place(dir)
}

// through is the reference as the node's mirror has it, if one answers there.
func (m *Image) through(ctx context.Context, ref name.Reference) (name.Reference, error) {
	if m.Mirror == "" {
		return ref, nil
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+m.Mirror+"/v2/", nil)
	if err != nil {
		return nil, &Error{Code: 2, Err: errors.New("--mirror-addr is not HOST:PORT")}
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		if m.Say != nil {
			m.Say(fmt.Sprintf("asking the registry: no node answers at %s", m.Mirror))
		}
		return ref, ctx.Err()
	}
	_ = resp.Body.Close()
	host := ref.Context().RegistryStr()
	if host == name.DefaultRegistry {
		host = "docker.io"
	}
	sep := ":"
	if _, ok := ref.(name.Digest); ok {
		sep = "@"
	}
	return name.ParseReference(m.Mirror+"/"+host+"/"+ref.Context().RepositoryStr()+sep+ref.Identifier(), name.Insecure)
}

// write puts what is asked for of an image into a layout.
func (m *Image) write(ref name.Reference, desc *remote.Descriptor, dir string) error {
	if err := os.RemoveAll(filepath.Join(dir, "index.json")); err != nil {
		return err
	}
	to, err := layout.Write(dir, empty.Index)
	if err != nil {
		return err
	}
	named := layout.WithAnnotations(map[string]string{refName: ref.Identifier()})
	if desc.MediaType.IsIndex() && m.Platform == "all" {
		index, err := desc.ImageIndex()
		if err != nil {
			return err
		}
		m.See.Start("the registry", 0, -1)
		return to.AppendIndex(index, named)
	}
	img, err := m.pick(desc)
	if err != nil {
		return err
	}
	manifest, err := img.Manifest()
	if err != nil {
		return err
	}
	size := manifest.Config.Size
	for _, l := range manifest.Layers {
		size += l.Size
	}
	m.See.Start("the registry", 0, size)
	return to.AppendImage(img, named)
}

// pick returns the image for the platform.
func (m *Image) pick(desc *remote.Descriptor) (v1.Image, error) {
	if !desc.MediaType.IsIndex() {
		return desc.Image()
	}
	text := m.Platform
	if text == "" {
		text = "linux/" + runtime.GOARCH
	}
	want, err := v1.ParsePlatform(text)
	if err != nil {
		return nil, &Error{Code: 2, Err: fmt.Errorf("--platform: %w", err)}
	}
	index, err := desc.ImageIndex()
	if err != nil {
		return nil, err
	}
	manifest, err := index.IndexManifest()
	if err != nil {
		return nil, err
	}
	var have []string
	for _, d := range manifest.Manifests {
		if d.Platform == nil {
			continue
		}
		if d.Platform.Satisfies(*want) && d.MediaType.IsImage() {
			return index.Image(d.Digest)
		}
		have = append(have, d.Platform.String())
	}
	return nil, &Error{Code: ExitNotFound, Err: fmt.Errorf("no image for %s: there are %s", want, strings.Join(have, ", "))}
}

// place makes the layout the target, or an archive of it.
func (m *Image) place(dir string) error {
	if !strings.HasSuffix(m.Target, ".tar") {
		_ = os.Remove(m.Target) // an empty directory
		return os.Rename(dir, m.Target)
	}
	temp := m.Target + ".meshd-tar"
	if err := archive(dir, temp); err != nil {
		_ = os.Remove(temp)
		return err
	}
	if err := os.Rename(temp, m.Target); err != nil {
		return err
	}
	return os.RemoveAll(dir)
}

// free reports whether a target may be written.
func free(target string) error {
	if strings.HasSuffix(target, ".tar") {
		return nil
	}
	list, err := os.ReadDir(target)
	switch {
	case errors.Is(err, fs.ErrNotExist), err == nil && len(list) == 0:
		return nil
	case err != nil:
		return &Error{Code: ExitDisk, Err: fmt.Errorf("%w (for an archive, end the name in .tar)", err)}
	}
	return &Error{Code: ExitDisk, Err: fmt.Errorf("%s is not empty", target)}
}

// archive writes a layout as a tar file (OCI archive), without times and owners: the same layout gives the same bytes.
func archive(dir, to string) (err error) {
	f, err := os.Create(to)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	w := tar.NewWriter(f)
	err = filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || path == dir {
			return err
		}
		rel, err := filepath.Rel(dir, path)
		if err != nil {
			return err
		}
		return addEntry(w, path, filepath.ToSlash(rel), d)
	})
	return errors.Join(err, w.Close(), f.Sync())
}

func addEntry(w *tar.Writer, path, rel string, d fs.DirEntry) error {
	if d.IsDir() {
		return w.WriteHeader(&tar.Header{Typeflag: tar.TypeDir, Name: rel + "/", Mode: 0o755})
	}
	info, err := d.Info()
	if err != nil {
		return err
	}
	if err := w.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: rel, Size: info.Size(), Mode: 0o644}); err != nil {
		return err
	}
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	_, err = io.Copy(w, f)
	return err
}

// ofRegistry makes an error of what a registry, or the mirror in front of it, says.
func ofRegistry(ref string, err error) error {
	var known *Error
	var said *transport.Error
	if errors.As(err, &known) || !errors.As(err, &said) {
		return err
	}
	e := &Error{Code: 1, Err: fmt.Errorf("%s: %w", ref, err)}
	switch said.StatusCode {
	case http.StatusNotFound:
		e.Code = ExitNotFound
	case http.StatusUnauthorized, http.StatusForbidden:
		e.Code = ExitDenied
	}
	return e
}

// counted sees the bytes of blobs come.
type counted struct {
	base http.RoundTripper
	see  Progress
	mu   sync.Mutex // layers come in parallel
}

// RoundTrip implements http.RoundTripper.
func (c *counted) RoundTrip(r *http.Request) (*http.Response, error) {
	resp, err := c.base.RoundTrip(r)
	if err == nil && strings.Contains(r.URL.Path, "/blobs/") && resp.StatusCode == http.StatusOK {
		resp.Body = &countedBody{resp.Body, c}
	}
	return resp, err
}

type countedBody struct {
	io.ReadCloser
	c *counted
}

func (b *countedBody) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	b.c.mu.Lock()
	defer b.c.mu.Unlock()
	b.c.see.Add(n)
	return n, err
}
