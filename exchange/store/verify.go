package store

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"

	"github.com/opencontainers/go-digest"
)

// Verify waits until the whole blob is hashed and compares it with its digest. All pieces must be held
// (ErrIncomplete). After nil the bytes are proven, though not durable: that is Commit. After ErrDigestMismatch
// everything stays as it is: Reset or Discard follows. A cancelled Verify may be called again. Of a file (File) the pieces
// are all that there is to prove.
func (p *Partial) Verify(ctx context.Context) error {
	if err := p.verify(ctx); err != nil {
		return p.wrap("verify", err)
	}
	return nil
}

func (p *Partial) verify(ctx context.Context) error {
	if done, err := p.verifiable(); done || err != nil {
		return err
	}
	if IsFile(p.e.digest) {
		p.mu.Lock()
		defer p.mu.Unlock()
		p.verified = p.held == len(p.pieces)
		return nil
	}
	sum, err := p.whole(ctx)
	if err != nil {
		if !errors.Is(err, ErrIncomplete) && !errors.Is(err, ErrClosed) && ctx.Err() == nil {
			p.rehash() // the disk could not be read; the next Verify tries again
		}
		return err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	switch {
	case p.phase == phaseClosed:
		return ErrClosed
	case p.held < len(p.pieces):
		return ErrIncomplete
	case digest.NewDigestFromBytes(p.e.content().Algorithm(), sum) != p.e.content():
		return ErrDigestMismatch
	}
	p.verified = true
	return nil
}

// verifiable reports whether the answer is known already, or why there can be none.
func (p *Partial) verifiable() (done bool, err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for p.phase == phaseSeized {
		p.cond.Wait()
	}
	switch {
	case p.phase == phaseClosed:
		return false, ErrClosed
	case p.phase == phaseComplete || p.verified:
		return true, nil
	case p.held < len(p.pieces):
		return false, fmt.Errorf("%d of %d: %w", len(p.pieces)-p.held, len(p.pieces), ErrIncomplete)
	}
	return false, nil
}

// whole returns the digest of all that is held, as bytes.
func (p *Partial) whole(ctx context.Context) ([]byte, error) {
	if p.single() {
		sum := p.Hash(0)
		return sum[:sha256.Size], nil
	}
	return p.hasher.Wait(ctx, p.layout.size)
}

// rehash starts the digest of the whole anew.
func (p *Partial) rehash() {
	if p.seize() != nil {
		return
	}
	defer p.yield(phaseOpen)
	p.hasher.Reset()
	p.mu.Lock()
	goal := min(int64(p.prefix)*p.layout.pieceSize, p.layout.size)
	p.mu.Unlock()
	p.hasher.Grow(goal)
}
