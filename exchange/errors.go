package exchange

import (
	"errors"
	"fmt"

	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/meshd-project/meshd/exchange/swarm"
	"github.com/opencontainers/go-digest"
)

// Errors that callers tell apart with errors.Is. Returned errors name the blob. An error of this node's origin is
// wrapped as it is, so errors.As finds the origin's own type.
var (
	ErrNoProvider    = errors.New("no peer and no origin has the blob")
	ErrCorruptOrigin = errors.New("origin's bytes do not match the digest")
	ErrRestarted     = errors.New("bytes already read proved wrong and are being fetched again")
	ErrAbandoned     = errors.New("nobody reads the blob")
	ErrClosed        = errors.New("exchange is closed")
	ErrBusy          = errors.New("too many blobs are being waited for")
	ErrReaderClosed  = errors.New("reader is closed")
	ErrRange         = errors.New("range outside the blob")
	ErrSize          = errors.New("size of the blob changed")
	ErrInvalidDigest = errors.New("invalid digest")
	ErrSealed        = errors.New("the origin gave other nodes other bytes of this version of the file")
	ErrTooLarge      = errors.New("blob too large")
)

// CorruptOriginError says that the bytes an origin serves under a digest are not its content. It wraps
// ErrCorruptOrigin.
type CorruptOriginError struct {
	Digest digest.Digest
	Origin swarm.OriginRef
}

func (e *CorruptOriginError) Error() string {
	return fmt.Sprintf("%v: %s from %s/%s", ErrCorruptOrigin, e.Digest, e.Origin.Registry, e.Origin.Repository)
}

func (e *CorruptOriginError) Unwrap() error { return ErrCorruptOrigin }

// RefusedError says that a seed could not fetch a blob from its origin and no other node has it. It wraps
// ErrNoProvider.
type RefusedError struct {
	Digest digest.Digest
	Seed   peer.ID
	Kind   swarm.OriginErrorKind
}

func (e *RefusedError) Error() string {
	return fmt.Sprintf("seed %s cannot fetch %s: %s", e.Seed, e.Digest, kindText(e.Kind))
}

func (e *RefusedError) Unwrap() error { return ErrNoProvider }

func kindText(k swarm.OriginErrorKind) string {
	switch k {
	case swarm.OriginUnreachable:
		return "origin unreachable"
	case swarm.OriginUnauthorized:
		return "origin demands credentials"
	case swarm.OriginNotFound:
		return "not found at the origin"
	case swarm.OriginThrottled:
		return "origin throttles"
	case swarm.OriginRefused:
		return "registry not listed"
	case swarm.OriginNoRange:
		return "origin ignores ranges"
	case swarm.OriginInvalid:
		return "origin's answer is invalid"
	}
	return fmt.Sprintf("unknown error %d", k)
}

// originError is a fault that the driver itself finds in an origin's answer.
type originError struct {
	kind swarm.OriginErrorKind
	text string
}

func (e *originError) Error() string { return e.text }
