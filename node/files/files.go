package files

import (
	"context"
	"crypto/sha256"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net/http"
	"sync"
	"syscall"
	"time"

	lru "github.com/hashicorp/golang-lru/v2"
	logging "github.com/ipfs/go-log/v2"
	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/opencontainers/go-digest"

	"github.com/meshd-project/meshd/exchange"
	"github.com/meshd-project/meshd/exchange/pace"
	"github.com/meshd-project/meshd/exchange/store"
	"github.com/meshd-project/meshd/exchange/swarm"
	"github.com/meshd-project/meshd/mirror/gateway"
	"github.com/meshd-project/meshd/seed/file"
)

var log = logging.Logger("meshd/files")

// Config says what the files are made of.
type Config struct {
	// Allow lists the hosts whose files this node reads for peers and tells seeds of. Its addresses may be this machine's.
	Allow file.Hosts
	// Gateway lists the hosts for requests that ask for listed ones only.
	Gateway file.Hosts
	// RootCAs are trusted for https; nil: the system's.
	RootCAs *x509.CertPool
	// Control sees addresses before they are connected to, but for those that Allow or Gateway list by themselves.
	Control func(network, address string, c syscall.RawConn) error
	// Own refuses addresses that are this node's, listed or not.
	Own func(network, address string, c syscall.RawConn) error
	// MeshKey returns the key that the mesh shares: of it the hash of private headers is made. While it is rotated, nodes
	// that have different ones share no private files.
	MeshKey func() []byte
	// Limits are the node's rates, for what is passed on.
	Limits *pace.Limits
	// Members names the members that are connected.
	Members func() []peer.ID
	// Address is where a member is, for people; "" if that is not known.
	Address func(peer.ID) string
	// Settled is closed once the mesh has been found, or not in time; nil: at once.
	Settled <-chan struct{}
}

// Files implements gateway.Files.
type Files struct {
	cfg    Config
	host   host.Host
	open   func(ctx context.Context, w exchange.Want) (*exchange.Handle, error)
	pull   func(name digest.Digest) (exchange.Pull, bool)
	client *file.Client // for everybody but the gateway
	listed *file.Client // for the gateway: a connection that another rule allowed is not its

	streams sync.WaitGroup
	slots   chan struct{} // a stream each

	known *lru.Cache[digest.Digest, known]     // what names mean
	seals *lru.Cache[digest.Digest, seal]      // the roots that this node was told first
	split *lru.Cache[digest.Digest, time.Time] // files of which there were two contents, until when they are refused

	mu   sync.Mutex
	uses map[digest.Digest]int // open contents
}

// known is what a name means.
type known struct {
	client  *file.Client // by whose rules it is read
	request file.Request
	version file.Version
}

// Bounds of what is remembered. An entry is a URL and some headers.
const (
	maxKnown   = 2048
	maxSeals   = 8192
	sealTTL    = time.Hour
	splitTTL   = time.Minute
	maxStreams = 64 // of peers, answered at once
)

// New returns files that are reached through an exchange, and answers peers from now on.
func New(cfg Config, h host.Host) (*Files, error) {
	f := &Files{cfg: cfg, host: h, uses: make(map[digest.Digest]int), slots: make(chan struct{}, maxStreams)}
	if cfg.Settled == nil {
		done := make(chan struct{})
		close(done)
		f.cfg.Settled = done
	}
	f.client = file.New(file.Config{Control: f.control(cfg.Allow), RootCAs: cfg.RootCAs})
	f.listed = file.New(file.Config{Control: f.control(cfg.Gateway), RootCAs: cfg.RootCAs})
	var err error
	if f.known, err = lru.New[digest.Digest, known](maxKnown); err != nil {
		return nil, err
	}
	if f.seals, err = lru.New[digest.Digest, seal](maxSeals); err != nil {
		return nil, err
	}
	if f.split, err = lru.New[digest.Digest, time.Time](maxKnown); err != nil {
		return nil, err
	}
	h.SetStreamHandler(Protocol, f.answer)
	return f, nil
}

// key is what the hash of private headers is made with.
func (f *Files) key() []byte {
	sum := sha256.Sum256(append([]byte("meshd private file\x00"), f.cfg.MeshKey()...))
	return sum[:]
}

// Use sets the exchange; it is made after the files that it reads.
func (f *Files) Use(x *exchange.Exchange) { f.open, f.pull = x.Open, x.Pull }

// Close ends the answering of peers.
func (f *Files) Close() error {
	f.host.RemoveStreamHandler(Protocol)
	f.streams.Wait()
	return errors.Join(f.client.Close(), f.listed.Close())
}

// Stat implements gateway.Files.
func (f *Files) Stat(ctx context.Context, a gateway.Ask) (gateway.File, error) {
	r, err := file.Parse(a.URL, a.Header, a.Filter)
	if err != nil {
		return nil, problem(err)
	}
	client := f.client
	if a.Listed {
		r.Hosts, client = f.cfg.Gateway, f.listed
	}
	info, err := client.Probe(ctx, r)
	if err != nil {
		return nil, problem(err)
	}
	v := &version{files: f, known: known{client: client, request: r, version: info.Version}, info: info}
	if err := v.setName(a.Digest); err != nil {
		return nil, err
	}
	if until, ok := f.split.Get(v.name); ok && time.Now().Before(until) {
		return nil, problem(exchange.ErrSealed)
	}
	return v, nil
}

// version is one version of a file: gateway.File.
type version struct {
	files  *Files
	known  known
	info   file.Info
	digest digest.Digest   // as given by the caller; "" if not
	name   digest.Digest   // "" if it is not shared
	origin swarm.OriginRef // of the name
}

// setName finds the name and the origin by which the version goes through the mesh.
func (v *version) setName(given string) error {
	r, version, f := v.known.request, v.known.version, v.files
	v.origin = f.place()
	if d := digest.Digest(given); given != "" {
		if d.Validate() != nil || d.Algorithm() != digest.SHA256 {
			return &gateway.Error{Code: gateway.BadRequest, Status: http.StatusBadRequest, Err: fmt.Errorf("%.80q is not sha256:HEX", given)}
		}
		v.digest, v.name = d, d
		if !r.Private() {
			return nil
		}
		var err error
		v.origin.Registry = fmt.Sprintf("%x.%s", sha256.Sum256(r.Identity(file.Version{}, f.key())), Registry)
		v.name, err = store.Scoped(v.origin.Registry, d)
		return err
	}
	if version.Strong() && version.Size != 0 {
		v.name = store.File(r.Identity(version, f.key()))
	}
	return nil
}

// Info implements gateway.File.
func (v *version) Info() gateway.Info {
	return gateway.Info{Tag: v.tag(), Size: v.info.Size, ContentType: v.info.ContentType, Modified: v.info.Modified}
}

// tag is the version's ETag: the same on every node, and not the name, by which peers give the file out. One that is known
// by its digest alone has none of its own: that is proven at the end only.
func (v *version) tag() string {
	if !v.known.version.Strong() {
		return ""
	}
	return v.known.request.Tag(v.known.version, v.files.key())
}

// Open implements gateway.File.
func (v *version) Open(ctx context.Context, off, n int64) (gateway.Content, error) {
	if v.name == "" || v.info.Size == 0 || v.info.Size > swarm.MaxBlobSize {
		return v.pass(ctx)
	}
	f := v.files
	select {
	case <-f.cfg.Settled:
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
	f.keep(v.name, v.known)
	h, err := f.open(ctx, v.want(off, n))
	switch {
	case errors.Is(err, store.ErrNoSpace):
		f.release(v.name)
		log.Warnw("no room for a file, it is passed on and not kept", "origin", v.known.request.URL.Host, "err", err)
		return v.pass(ctx)
	case err != nil:
		f.release(v.name)
		return nil, f.failed(v.name, err)
	}
	return &shared{Handle: h, version: v}, nil
}

// Waiting implements gateway.File. Of one that is passed on nothing is known.
func (v *version) Waiting() gateway.Waiting {
	var w gateway.Waiting
	p, ok := v.files.pull(v.name)
	if !ok {
		return w
	}
	switch {
	case p.Size >= 0:
		w.Read = p.BytesIn.Zone + p.BytesIn.OtherZone + p.BytesIn.Origin
	case p.Reader != "":
		w.Reader = p.Reader.String()
		if v.files.cfg.Address != nil {
			w.Address = v.files.cfg.Address(p.Reader)
		}
	case p.Spooled > 0:
		w.Read, w.Reader = p.Spooled, gateway.Here
	}
	return w
}

// want is the version as the exchange knows it.
func (v *version) want(off, n int64) exchange.Want {
	w := exchange.Want{
		Digest: v.name, File: true, Size: v.info.Size, Class: swarm.Foreground, Origin: v.origin,
		Private: !v.files.tells(v.known.request),
	}
	if n >= 0 && w.Size >= 0 {
		w.Off, w.End, w.Sparse = off, off+n, true
	}
	return w
}

// shared is an open file of the mesh: gateway.Content.
type shared struct {
	*exchange.Handle
	version *version
	once    sync.Once
}

// Reader implements gateway.Content.
func (s *shared) Reader(off, n int64) (gateway.Reader, error) {
	r, err := s.Handle.Reader(off, n)
	if err != nil {
		return nil, problem(err)
	}
	return &reader{Reader: r, version: s.version}, nil
}

// Close implements gateway.Content.
func (s *shared) Close() error {
	err := s.Handle.Close()
	s.once.Do(func() { s.version.files.release(s.version.name) })
	return err
}

// reader is an exchange.Reader whose errors a client understands: gateway.Reader.
type reader struct {
	*exchange.Reader
	version *version
}

// WriteTo implements io.WriterTo.
func (r *reader) WriteTo(w io.Writer) (int64, error) {
	n, err := r.Reader.WriteTo(w)
	if err != nil {
		err = r.version.files.failed(r.version.name, err)
	}
	return n, err
}
