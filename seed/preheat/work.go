package preheat

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/opencontainers/go-digest"
)

// order is what a node is asked to bring in.
type order struct {
	Repository
	Private   bool       `json:"private"`
	Layers    []Layer    `json:"layers"`
	Documents []Document `json:"documents,omitempty"` // manifests to be kept; of a public image only
}

// How often a blob that did not come is tried again, and the pause before the first time; each is twice the one before.
const (
	maxTries  = 5
	firstWait = time.Second
)

// work brings the blobs of an order onto this node and reports on each by its index, from several goroutines, until it has
// ended or ctx has.
func (m *Manager) work(ctx context.Context, o order, authorization string, report func(int, layerState)) {
	for _, d := range o.Documents {
		if err := m.blobs.Keep(o.Repository, d); err != nil {
			log.Warnw("manifest not kept", "blob", d.Digest, "err", err)
		}
	}
	if !o.Private {
		authorization = ""
	}
	var all sync.WaitGroup
	defer all.Wait()
	for i, l := range o.Layers {
		select {
		case m.fetches <- struct{}{}:
		case <-ctx.Done():
			return
		}
		want := Want{Repository: o.Repository, Digest: l.Digest, Size: l.Size, Private: o.Private, Authorization: authorization}
		all.Go(func() {
			defer func() { <-m.fetches }()
			m.bring(ctx, want, func(s layerState) { report(i, s) })
		})
	}
}

// bring fetches one blob, more than once if it has to.
func (m *Manager) bring(ctx context.Context, w Want, report func(layerState)) {
	var have int64
	for try := 1; ; try++ {
		report(layerState{state: Running, bytes: have})
		err := m.blobs.Fetch(ctx, w, func(n int64) {
			have = n
			report(layerState{state: Running, bytes: n})
		})
		switch {
		case err == nil:
			report(layerState{state: Succeeded, bytes: max(w.Size, have)})
			return
		case ctx.Err() != nil:
			return
		case try == maxTries || final(err):
			log.Warnw("blob not preheated", "blob", w.Digest, "origin", w.Repository.Registry, "err", err)
			report(layerState{state: Failed, bytes: have, reason: clip(err.Error())})
			return
		}
		if !pause(ctx, firstWait<<(try-1)) {
			return
		}
	}
}

// Blobs.Fetch wraps these where another try is for nothing.
var (
	ErrNoRoom  = errors.New("no room on the disk")
	ErrCorrupt = errors.New("not what its digest says")
)

func final(err error) bool {
	for _, e := range []error{ErrUnknown, ErrDenied, ErrNoRoom, ErrCorrupt, ErrInvalid, ErrUnlisted} {
		if errors.Is(err, e) {
			return true
		}
	}
	return false
}

// pause waits, unless ctx ends first.
func pause(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}

// maxReason bounds what is kept of an error, in bytes.
const maxReason = 500

func clip(s string) string {
	if len(s) > maxReason {
		return s[:maxReason] + "…"
	}
	return s
}

// valid reports what another node must not ask for.
func (o order) valid() error {
	if err := o.Repository.valid(); err != nil {
		return err
	}
	if len(o.Layers) > maxLayers || len(o.Documents) > maxManifests {
		return ErrInvalid
	}
	for _, l := range o.Layers {
		if l.Size < -1 || digest.Digest(l.Digest).Validate() != nil {
			return ErrInvalid
		}
	}
	for _, d := range o.Documents {
		if !d.valid() {
			return ErrInvalid
		}
	}
	return nil
}
