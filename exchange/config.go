package exchange

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"time"

	"github.com/libp2p/go-libp2p/core/crypto"
	"github.com/libp2p/go-libp2p/core/crypto/pb"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/meshd-project/meshd/exchange/pace"
	"github.com/meshd-project/meshd/exchange/store"
	"github.com/meshd-project/meshd/exchange/swarm"
	"github.com/opencontainers/go-digest"
)

// Config says who the node is and bounds what it takes. Zero values of the limits mean the defaults.
type Config struct {
	// Key is the host's libp2p identity; it must be ed25519, because attestations are verified from the peer
	// id alone.
	Key   crypto.PrivKey
	Zone  string
	Seed  bool
	Relay bool

	// Transport carries pieces between nodes. It belongs to the Exchange from New on.
	Transport Transport
	// DataPort is the TCP port told to peers; 0 is the listener's own.
	DataPort uint16

	// Plaintext has pieces go unencrypted, by sendfile, between nodes that both have it; with others they go over TLS.
	// Whoever is on the way between them can read them, but not change them unseen.
	Plaintext bool

	// Swarm holds the policy's constants; who the node is comes from the fields above.
	Swarm swarm.Config
	// RandSeed makes the core's choices repeatable; 0 draws one.
	RandSeed uint64

	// Seal is asked once all pieces of a file (store.File) are here, with their store.Partial.Root, before the last of them
	// is given out: it returns ErrSealed if others have other bytes under that name. It bounds its own wait. nil: nobody
	// is asked.
	Seal func(ctx context.Context, file digest.Digest, root store.Hash) error

	// MaxStreams bounds inbound control streams. Default 2048.
	MaxStreams int
	// MaxConns bounds connections to the data port. Default 1024.
	MaxConns int
	// MaxUploads bounds requests at the data port that wait or are being served. Default 256.
	MaxUploads int
	// MaxWaiting bounds the open handles of blobs that are on their way, and with them the readers that wait; more are
	// refused with ErrBusy. Default 4096.
	MaxWaiting int
	// BufferBytes bounds the memory for pieces on their way from the network to the disk. Default 64 MiB.
	BufferBytes int64
	// StreamBytes bounds the memory for blobs that the store does not take and that are streamed to their readers, each of
	// which has swarm.Config.WindowBytes; more of them fail with the store's error. Default 128 MiB.
	StreamBytes int64
	// Limits are the rates of the node; others may use them too. Default: none.
	Limits *pace.Limits
	// OpenTimeout bounds an Open whose context has no earlier end: the time without a sign that bytes will come. For a blob
	// of unknown size such a sign is each byte that this node or another reads of it. Default 30 s.
	OpenTimeout time.Duration
	// IdleTimeout closes control streams without traffic. Default 2 min.
	IdleTimeout time.Duration
	// ProgressTimeout bounds the silence of a peer in the middle of a message or an upload; a piece that moves may take longer
	// (leastRate). Default 15 s.
	ProgressTimeout time.Duration
	// Reannounce is how often the blobs on disk are announced again. Default 20 min; negative: never.
	Reannounce time.Duration
	// Admit reports whether a peer may be a member, also as one who attests. It may be called concurrently. Default: all.
	Admit func(peer.ID) bool
	// Evidence is told of each proof that a peer lied. It may be called concurrently and holds up the blob while it runs.
	// Default: nobody is told.
	Evidence func(Evidence)
	// SpoolDir takes, unlinked, the bytes of blobs whose size the origin does not tell. Default os.TempDir().
	SpoolDir string
}

// withDefaults fills in the limits that are zero.
func (c Config) withDefaults() Config {
	setDefault(&c.MaxStreams, 2048)
	setDefault(&c.MaxConns, 1024)
	setDefault(&c.MaxUploads, 256)
	setDefault(&c.MaxWaiting, 4096)
	setDefault(&c.BufferBytes, 64<<20)
	setDefault(&c.StreamBytes, 128<<20)
	setDefault(&c.OpenTimeout, 30*time.Second)
	setDefault(&c.IdleTimeout, 2*time.Minute)
	setDefault(&c.ProgressTimeout, 15*time.Second)
	setDefault(&c.Reannounce, 20*time.Minute)
	if c.Limits == nil {
		c.Limits = new(pace.Limits)
	}
	if c.Admit == nil {
		c.Admit = func(peer.ID) bool { return true }
	}
	if c.Evidence == nil {
		c.Evidence = func(Evidence) {}
	}
	if c.Swarm == (swarm.Config{}) {
		c.Swarm = swarm.DefaultConfig()
	}
	if c.DataPort == 0 && c.Transport != nil {
		if a, ok := c.Transport.Addr().(*net.TCPAddr); ok {
			c.DataPort = uint16(a.Port)
		}
	}
	return c
}

func setDefault[T comparable](v *T, d T) {
	var zero T
	if *v == zero {
		*v = d
	}
}

// Validate reports the first field that makes no sense.
func (c Config) Validate() error {
	switch {
	case c.Key == nil:
		return errors.New("exchange: no identity key")
	case c.Key.Type() != pb.KeyType_Ed25519:
		return fmt.Errorf("exchange: identity is %s, must be Ed25519", c.Key.Type())
	case c.Transport == nil:
		return errors.New("exchange: no transport")
	case c.MaxStreams < 0, c.MaxConns < 0, c.MaxUploads < 0, c.MaxWaiting < 0, c.BufferBytes < 0, c.StreamBytes < 0,
		c.OpenTimeout < 0, c.IdleTimeout < 0, c.ProgressTimeout < 0:
		return errors.New("exchange: negative limit")
	case c.BufferBytes != 0 && c.BufferBytes < swarm.MaxPieceSize:
		return fmt.Errorf("exchange: buffers of %d bytes hold no piece", c.BufferBytes)
	}
	return nil
}

// Origin reads blobs from the registries. Implementations retry by themselves what is worth it before the first
// byte, bound silence of the origin, and may be called from any goroutine.
type Origin interface {
	// Blob opens n bytes of a blob from off; n < 0 is to the end. authorization is a client's own header, ""
	// for none. It must not outlive the call.
	Blob(ctx context.Context, ref swarm.OriginRef, authorization string, d digest.Digest, off, n int64) (OriginBody, error)
	// Listed reports whether peers may have this node fetch from a registry.
	Listed(registry string) bool
	// Classify says what an error of Blob or of its body means, and how long the origin asks to be left alone.
	Classify(err error) (kind swarm.OriginErrorKind, retryAfter time.Duration)
}

// OriginBody is the answer of an origin. A body that ends early fails with io.ErrUnexpectedEOF.
type OriginBody struct {
	io.ReadCloser
	Size   int64 // of the whole blob in bytes; -1 if the origin does not tell
	Offset int64 // of the first byte of the body
	Ranged bool  // a range was asked for and honoured

	spooled bool
}

// Providers finds and names holders of blobs beyond the nodes that gossip reaches.
type Providers interface {
	// Find calls found with holders as they become known, never concurrently, and returns when there are no
	// more or ctx ends.
	Find(ctx context.Context, d digest.Digest, found func([]peer.AddrInfo)) error
	// Provide makes this node findable as a holder in its zone, and in the whole mesh if global.
	Provide(ctx context.Context, d digest.Digest, global bool) error
	// ProvideSpans makes this node findable for a time, in its zone, as a holder of some of the Spans spans of a blob.
	ProvideSpans(ctx context.Context, d digest.Digest, spans []int) error
}

// Gossip tells the zone what this node imports or holds, and knows what others told. Calls return at once.
type Gossip interface {
	Announce(d digest.Digest, holding bool)
	Holders(d digest.Digest) []peer.ID
}
