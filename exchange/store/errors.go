package store

import (
	"errors"
	"fmt"
)

// Errors that callers tell apart with errors.Is. All returned errors name the operation and the blob.
var (
	ErrNotFound       = errors.New("blob not in store")
	ErrDigestMismatch = errors.New("content does not match digest")
	ErrCorrupt        = errors.New("blob has changed on disk")      // it is dropped
	ErrIncomplete     = errors.New("pieces are missing")            // of a Partial
	ErrNoSpace        = errors.New("no space in store")             // capacity, Config.MinFree, or the disk itself
	ErrInUse          = errors.New("blob is in use")                // a live Partial, an open Blob, a Put under way
	ErrComplete       = errors.New("blob is complete already")      // use Get
	ErrConflict       = errors.New("piece is held with other hash") // Reset comes first
	ErrClosed         = errors.New("closed")
	ErrLocked         = errors.New("store directory belongs to another process")
	ErrUnsupported    = errors.New("digest algorithm is not supported")
	ErrInvalid        = errors.New("invalid argument")
	ErrPinned         = fmt.Errorf("%w: pinned", ErrInUse) // Unpin comes first
)
