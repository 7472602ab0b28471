package store

import (
	"fmt"
	"time"
)

// Bounds on what a caller may hand in.
const (
	MaxProof     = 512     // bytes of a piece's proof
	MaxMediaType = 255     // bytes of a media type
	MaxPieces    = 1 << 20 // pieces of one blob
)

// Defaults of Config.
const (
	DefaultMinFree    = 1 << 30 // bytes; less on a disk of which this is more than 5 %
	DefaultPieceSize  = 1 << 20 // bytes
	DefaultPartialTTL = 24 * time.Hour
	DefaultRecheck    = 24 * time.Hour
	DefaultScrubEvery = 7 * 24 * time.Hour
)

// Config is what Open needs to know.
type Config struct {
	// Dir is the store's own directory. It is made if absent.
	Dir string
	// Shelf is a Layout that others keep, such as containerd's content store, whose blobs are served from there. "": none.
	Shelf string
	// Capacity bounds the bytes of all blobs, arriving ones included. 0: no bound but the disk.
	Capacity int64
	// LowWater is how many bytes are left when blobs were evicted because of Capacity, if that many are unused: so that not
	// every pull evicts. 0: Capacity, no more is evicted than needed.
	LowWater int64
	// MinFree is how many bytes of the disk are left to others. 0: the lesser of 1 GiB and 5 % of the disk;
	// negative: none.
	MinFree int64
	// FreeTarget is to MinFree what LowWater is to Capacity: so many bytes of the disk are free when blobs were evicted
	// because of MinFree. 0: as MinFree.
	FreeTarget int64
	// PieceSize returns the piece size, in bytes, of a blob of size bytes, for blobs that Put stores and
	// for sidecars that have to be computed again. nil: 1 MiB always.
	PieceSize func(size int64) int64
	// PartialTTL is the age from which a partial that nobody resumed is not worth its room: Open removes
	// it, and it is evicted before any complete blob. 0: 24 h.
	PartialTTL time.Duration
	// Recheck is how long a piece that was hashed by this process counts as proven. 0: 24 h; negative: as long
	// as the process lives.
	Recheck time.Duration
	// ScrubRate is how many bytes a second Run reads to find rot. 0: none.
	ScrubRate int64
	// ScrubEvery is the age of its last full check from which a blob is scrubbed. 0: 7 days.
	ScrubEvery time.Duration
}

// Validate reports the first field that makes no sense.
func (c Config) Validate() error {
	switch {
	case c.Dir == "":
		return fmt.Errorf("store: no directory: %w", ErrInvalid)
	case c.Capacity < 0:
		return fmt.Errorf("store: capacity of %d bytes: %w", c.Capacity, ErrInvalid)
	case c.LowWater < 0 || c.LowWater > c.Capacity:
		return fmt.Errorf("store: low water of %d bytes, capacity %d: %w", c.LowWater, c.Capacity, ErrInvalid)
	case c.FreeTarget < 0 || c.FreeTarget > 0 && c.FreeTarget < c.MinFree:
		return fmt.Errorf("store: %d bytes free wanted, at least %d: %w", c.FreeTarget, c.MinFree, ErrInvalid)
	case c.ScrubRate < 0 || c.ScrubEvery < 0:
		return fmt.Errorf("store: scrub %d bytes a second every %v: %w", c.ScrubRate, c.ScrubEvery, ErrInvalid)
	case c.PartialTTL < 0:
		return fmt.Errorf("store: partial TTL %v: %w", c.PartialTTL, ErrInvalid)
	}
	return nil
}

func (c Config) withDefaults() Config {
	if c.PieceSize == nil {
		c.PieceSize = func(int64) int64 { return DefaultPieceSize }
	}
	if c.PartialTTL == 0 {
		c.PartialTTL = DefaultPartialTTL
	}
	if c.Recheck == 0 {
		c.Recheck = DefaultRecheck
	}
	if c.ScrubEvery == 0 {
		c.ScrubEvery = DefaultScrubEvery
	}
	if c.LowWater == 0 {
		c.LowWater = c.Capacity
	}
	return c
}

// minFree returns the bytes to leave free on a disk of total bytes.
func (c Config) minFree(total int64) int64 {
	switch {
	case c.MinFree < 0:
		return 0
	case c.MinFree > 0:
		return c.MinFree
	}
	return min(DefaultMinFree, total/20)
}
