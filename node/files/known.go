package files

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"syscall"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/opencontainers/go-digest"

	"github.com/meshd-project/meshd/exchange"
	"github.com/meshd-project/meshd/exchange/store"
	"github.com/meshd-project/meshd/exchange/swarm"
	"github.com/meshd-project/meshd/seed/file"
)

// Registry stands for the origins of files in what peers are told: a name that no host ever has (RFC 6761). Private files
// with a digest are of one below it, as private blobs are of their registry.
const Registry = "file.invalid"

// Mine reports whether a registry stands for files.
func Mine(registry string) bool {
	return registry == Registry || strings.HasSuffix(registry, "."+Registry)
}

// place is the origin of a file in what peers are told: the node that knows where it is.
func (f *Files) place() swarm.OriginRef {
	return swarm.OriginRef{Registry: Registry, Repository: hex.EncodeToString([]byte(f.host.ID()))}
}

// knower is the inverse of place.
func knower(o swarm.OriginRef) (peer.ID, error) {
	raw, err := hex.DecodeString(o.Repository)
	if err != nil {
		return "", fmt.Errorf("%w: %q names no node", errUnknown, o.Repository)
	}
	id, err := peer.IDFromBytes(raw)
	if err != nil {
		return "", fmt.Errorf("%w: %w", errUnknown, err)
	}
	return id, nil
}

// errUnknown: nobody says where the file is.
var errUnknown = errors.New("no node says where this file is")

// tells reports whether seeds are told where a file is.
func (f *Files) tells(r file.Request) bool { return !r.Private() && f.cfg.Allow.Allow(r.URL) }

// keep remembers what a name means while a content of it is open, and longer if peers may be told.
func (f *Files) keep(name digest.Digest, k known) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.uses[name]++
	f.known.Add(name, k)
}

// Names says what the files are of which members may be told too, by their names in the store: URLs without query. At most maxKnown.
func (f *Files) Names() map[digest.Digest]string {
	out := make(map[digest.Digest]string)
	for _, name := range f.known.Keys() {
		if k, ok := f.known.Peek(name); ok && f.tells(k.request) {
			out[name] = k.request.String()
		}
	}
	return out
}

// release ends keep. Headers are forgotten with the last use.
func (f *Files) release(name digest.Digest) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.uses[name]--; f.uses[name] > 0 {
		return
	}
	delete(f.uses, name)
	if k, ok := f.known.Peek(name); ok && !f.tells(k.request) {
		f.known.Remove(name)
	}
}

// Listed reports whether this node reads files for peers.
func (f *Files) Listed() bool { return len(f.cfg.Allow) > 0 }

// Blob reads the origin of a file for the exchange: exchange.Origin's Blob where Mine is true of the registry. content is
// the file's name, or its digest.
func (f *Files) Blob(ctx context.Context, o swarm.OriginRef, content digest.Digest, off, n int64) (exchange.OriginBody, error) {
	name := content
	if o.Registry != Registry {
		scoped, err := store.Scoped(o.Registry, content)
		if err != nil {
			return exchange.OriginBody{}, fmt.Errorf("%w: %w", errUnknown, err)
		}
		name = scoped
	}
	k, err := f.find(ctx, o, name)
	if err != nil {
		return exchange.OriginBody{}, err
	}
	body, err := k.client.Read(ctx, k.request, k.version, off, n)
	if err != nil {
		return exchange.OriginBody{}, err
	}
	return exchange.OriginBody{ReadCloser: body, Size: body.Size, Offset: body.Offset, Ranged: body.Ranged}, nil
}

// find returns what a name means, from a peer if need be.
func (f *Files) find(ctx context.Context, o swarm.OriginRef, name digest.Digest) (known, error) {
	if k, ok := f.known.Get(name); ok {
		return k, nil
	}
	if _, private := store.Content(name); private || !f.Listed() {
		return known{}, errUnknown
	}
	id, err := knower(o)
	if err != nil || id == f.host.ID() {
		return known{}, errors.Join(errUnknown, err)
	}
	told, err := f.where(ctx, id, name)
	if err != nil {
		return known{}, err
	}
	k, err := f.believe(name, told)
	if err != nil {
		return known{}, fmt.Errorf("%s says: %w", id, err)
	}
	f.known.Add(name, k)
	return k, nil
}

// believe checks what a peer says a name means: it has to be a file of a listed host, and the very one.
func (f *Files) believe(name digest.Digest, told place) (known, error) {
	r, err := file.Parse(told.URL, nil, told.Filter)
	if err != nil {
		return known{}, err
	}
	v := file.Version{ETag: told.ETag, Modified: told.Modified, Size: told.Size}
	r.Hosts = f.cfg.Allow
	switch {
	case r.Private():
		return known{}, fmt.Errorf("%w: it is private", errUnknown)
	case !f.cfg.Allow.Allow(r.URL):
		return known{}, fmt.Errorf("%s: %w", r, file.ErrRefused)
	case v.Check() != nil:
		return known{}, fmt.Errorf("%w: %w", errUnknown, v.Check())
	case store.IsFile(name) && (!v.Strong() || store.File(r.Identity(v, f.key())) != name):
		return known{}, fmt.Errorf("%s: %w: that is another file", r, errUnknown)
	}
	return known{client: f.client, request: r, version: v}, nil
}

// Kinds says what the errors of Blob mean to the policy core.
func Kinds(err error) (swarm.OriginErrorKind, time.Duration, bool) {
	var retry time.Duration
	var e *file.Error
	if errors.As(err, &e) {
		retry = e.RetryAfter
	}
	for _, row := range kinds {
		if errors.Is(err, row.err) {
			return row.kind, retry, true
		}
	}
	return 0, 0, false
}

// kinds: the first that matches counts. A file that has changed is refused, not missing: who asked for it is not to blame.
var kinds = []struct {
	err  error
	kind swarm.OriginErrorKind
}{
	{file.ErrNoRange, swarm.OriginNoRange},
	{file.ErrChanged, swarm.OriginRefused},
	{file.ErrRefused, swarm.OriginRefused},
	{errUnknown, swarm.OriginRefused},
	{file.ErrURL, swarm.OriginRefused},
	{file.ErrUnauthorized, swarm.OriginUnauthorized},
	{file.ErrNotFound, swarm.OriginNotFound},
	{file.ErrThrottled, swarm.OriginThrottled},
	{file.ErrInvalid, swarm.OriginInvalid},
	{file.ErrTimeout, swarm.OriginUnreachable},
	{file.ErrUnreachable, swarm.OriginUnreachable},
}

// control lets through what listed names by itself, and what Config.Control does; never what is this node's own.
func (f *Files) control(listed file.Hosts) func(string, string, syscall.RawConn) error {
	return func(network, address string, c syscall.RawConn) error {
		if f.cfg.Own != nil {
			if err := f.cfg.Own(network, address, c); err != nil {
				return fmt.Errorf("%w: %w", file.ErrRefused, err)
			}
		}
		to, err := netip.ParseAddrPort(address)
		if err != nil {
			return &net.AddrError{Err: "not an address", Addr: address}
		}
		if listed.Address(to) || f.cfg.Control == nil {
			return nil
		}
		return f.cfg.Control(network, address, c)
	}
}
