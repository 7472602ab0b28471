package files

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"slices"
	"sync"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/opencontainers/go-digest"

	"github.com/meshd-project/meshd/exchange"
	"github.com/meshd-project/meshd/exchange/store"
)

// witnesses is how many nodes keep the first root of a file.
const witnesses = 3

// seal is the root of a file that this node was told first.
type seal struct {
	root store.Hash
	at   time.Time
}

// first returns the root that this node was told first of a file: the given one, unless there was another within sealTTL.
func (f *Files) first(name digest.Digest, root store.Hash) store.Hash {
	f.mu.Lock()
	defer f.mu.Unlock()
	if s, ok := f.seals.Get(name); ok && time.Since(s.at) < sealTTL {
		return s.root
	}
	f.seals.Add(name, seal{root: root, at: time.Now()})
	return root
}

// Seal tells the witnesses of a file its root: exchange.Config's Seal. Witnesses that do not answer count for nothing: a
// mesh that falls apart still gets its files, each part of it whole.
func (f *Files) Seal(ctx context.Context, name digest.Digest, root store.Hash) error {
	var others sync.WaitGroup
	var mu sync.Mutex
	split := false
	for _, id := range f.witnesses(name) {
		others.Go(func() {
			first, err := f.ofWitness(ctx, id, name, root)
			if err != nil {
				log.Debugw("witness of a file does not answer", "peer", id, "blob", name, "err", err)
				return
			}
			mu.Lock()
			defer mu.Unlock()
			split = split || first != root
		})
	}
	others.Wait()
	if split {
		log.Warnw("two contents of one version of a file", "blob", name)
		return exchange.ErrSealed
	}
	return nil
}

// ofWitness asks one witness, which may be this node.
func (f *Files) ofWitness(ctx context.Context, id peer.ID, name digest.Digest, root store.Hash) (store.Hash, error) {
	if id == f.host.ID() {
		return f.first(name, root), nil
	}
	var a sealed
	if err := f.ask(ctx, id, question{Seal: name, Root: hex.EncodeToString(root[:])}, &a); err != nil {
		return store.Hash{}, err
	}
	first, err := hex.DecodeString(a.Root)
	if err != nil || len(first) != len(root) {
		return store.Hash{}, errQuestion
	}
	return store.Hash(first), nil
}

// witnesses names those of the members, this node among them, that rendezvous hashing puts first for a file.
func (f *Files) witnesses(name digest.Digest) []peer.ID {
	all := []peer.ID{f.host.ID()}
	if f.cfg.Members != nil {
		all = append(all, f.cfg.Members()...)
	}
	weight := func(id peer.ID) []byte {
		sum := sha256.Sum256([]byte(name.String() + "\x00" + string(id)))
		return sum[:]
	}
	slices.SortFunc(all, func(a, b peer.ID) int { return bytes.Compare(weight(a), weight(b)) })
	return all[:min(witnesses, len(all))]
}
