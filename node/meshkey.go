package node

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/pnet"
	"github.com/multiformats/go-multiaddr"
)

const (
	maxMeshKeys   = 2                // one, and while it is rotated the one before
	rekeyInterval = 2 * time.Second  // between two looks at the file
	maxRenewWait  = 32 * time.Second // between two rounds of renewing connections
	renewTimeout  = 3 * time.Second  // of one dial
	keyHeader     = "/key/swarm/psk/1.0.0/\n"
)

// meshKey is one key of the mesh. Its id may be shown: it tells keys apart and nothing else.
type meshKey struct {
	psk pnet.PSK
	id  string
}

func newMeshKey(psk pnet.PSK) meshKey {
	sum := sha256.Sum256(append([]byte("meshd mesh key id\x00"), psk...))
	return meshKey{psk, hex.EncodeToString(sum[:4])}
}

// NewMeshKey returns a new random mesh key in libp2p's pnet file format, as `meshd key new` prints it.
func NewMeshKey() (string, error) { return meshKeyText(rand.Reader) }

func meshKeyText(r io.Reader) (string, error) {
	var key [32]byte
	if _, err := io.ReadFull(r, key[:]); err != nil {
		return "", fmt.Errorf("make mesh key: %w", err)
	}
	return keyHeader + "/base16/\n" + hex.EncodeToString(key[:]) + "\n", nil
}

// parseMeshKeys reads a key file: one key in libp2p's format, or two, of which the first is the one to use. Errors do not
// quote what they are about.
func parseMeshKeys(raw []byte) ([]meshKey, error) {
	header := []byte(keyHeader[:len(keyHeader)-1])
	parts := bytes.Split(raw, header)
	if len(bytes.TrimSpace(parts[0])) > 0 || len(parts) == 1 {
		return nil, errors.New("not a key file (`meshd key new` makes one)")
	}
	var keys []meshKey
	for _, part := range parts[1:] {
		psk, err := pnet.DecodeV1PSK(bytes.NewReader(append(bytes.Clone(header), part...)))
		if err != nil { // it may quote the key
			return nil, errors.New("not a key file (`meshd key new` makes one)")
		}
		keys = append(keys, newMeshKey(psk))
	}
	switch {
	case len(keys) > maxMeshKeys:
		return nil, fmt.Errorf("%d keys: want one, or two while it is rotated", len(keys))
	case len(keys) == 2 && keys[0].id == keys[1].id:
		return nil, errors.New("the same key twice")
	}
	return keys, nil
}

// RotateMeshKey puts a new key before the one in a key file, which stays good until RetireMeshKey. It returns their ids,
// the new one first.
func RotateMeshKey(path string) ([]string, error) {
	raw, keys, err := readMeshKeys(path, givenSecret)
	if err != nil {
		return nil, err
	}
	if len(keys) > 1 {
		return nil, fmt.Errorf("%s: two keys already: wait until every node has them, then `meshd key retire`", path)
	}
	text, err := NewMeshKey()
	if err != nil {
		return nil, err
	}
	return replaceMeshKeys(path, append([]byte(text), raw...))
}

// RetireMeshKey leaves the first key in a key file alone, and returns its id.
func RetireMeshKey(path string) ([]string, error) {
	_, keys, err := readMeshKeys(path, givenSecret)
	if err != nil {
		return nil, err
	}
	if len(keys) < 2 {
		return nil, fmt.Errorf("%s: one key only: nothing to retire", path)
	}
	return replaceMeshKeys(path, []byte(keyHeader+"/base16/\n"+hex.EncodeToString(keys[0].psk)+"\n"))
}

// MeshKeyIDs returns the ids of the keys in a file, the one to use first.
func MeshKeyIDs(path string) ([]string, error) {
	_, keys, err := readMeshKeys(path, givenSecret)
	return keyIDs(keys), err
}

func replaceMeshKeys(path string, raw []byte) ([]string, error) {
	keys, err := parseMeshKeys(raw)
	if err != nil {
		return nil, err
	}
	info, err := os.Stat(path)
	if err == nil {
		err = writeFile(path, raw, info.Mode().Perm())
	}
	return keyIDs(keys), err
}

func keyIDs(keys []meshKey) []string {
	var ids []string
	for _, k := range keys {
		ids = append(ids, k.id)
	}
	return ids
}

func readMeshKeys(path string, forbid fs.FileMode) ([]byte, []meshKey, error) {
	raw, err := readSecret(path, forbid)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil, fmt.Errorf("read mesh key: %w (`meshd key new` prints one, the same for all nodes of a mesh)", err)
	}
	if err != nil {
		return nil, nil, fmt.Errorf("read mesh key: %w", err)
	}
	keys, err := parseMeshKeys(raw)
	if err != nil {
		return nil, nil, fmt.Errorf("read mesh key %s: %w", path, err)
	}
	return raw, keys, nil
}

// meshKeys is the keys in force. Connections are dialed with the first and accepted with any; a file that changes is
// taken over while the node runs. Its methods may be called concurrently.
type meshKeys struct {
	path   string
	forbid fs.FileMode

	mu     sync.Mutex
	keys   []meshKey
	conns  map[*memberConn]string // by the id of the key that they were made with
	failed string                 // the last failure to read the file, said once
}

// openMeshKeys reads the keys from path, or, with path "", the node's own in dir, made on the first start.
func openMeshKeys(path, dir string) (*meshKeys, error) {
	k := &meshKeys{path: path, forbid: givenSecret, conns: make(map[*memberConn]string)}
	if path == "" {
		k.path, k.forbid = filepath.Join(dir, MeshKeyFile), ownSecret
		if _, err := os.Lstat(k.path); errors.Is(err, fs.ErrNotExist) {
			text, err := NewMeshKey()
			if err != nil {
				return nil, err
			}
			if err := writeFile(k.path, []byte(text), 0o600); err != nil {
				return nil, fmt.Errorf("keep mesh key: %w", err)
			}
		}
	}
	var err error
	_, k.keys, err = readMeshKeys(k.path, k.forbid)
	return k, err
}

// all returns the keys, the one to use first.
func (k *meshKeys) all() []meshKey {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.keys
}

// Run takes over what the file says, until ctx ends. dial connects to a peer once more, under the first key only.
func (k *meshKeys) Run(ctx context.Context, dial func(context.Context, peer.ID) error) error {
	tick := time.NewTicker(rekeyInterval)
	defer tick.Stop()
	wait := rekeyInterval
	next := time.Now()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
		if k.reload() {
			wait, next = rekeyInterval, time.Now()
		}
		if !time.Now().Before(next) {
			k.renew(ctx, dial)
			wait = min(2*wait, maxRenewWait)
			next = time.Now().Add(wait)
		}
	}
}

// reload reads the file again. A file that is no good leaves the keys as they are.
func (k *meshKeys) reload() (changed bool) {
	_, keys, err := readMeshKeys(k.path, k.forbid)
	k.mu.Lock()
	defer k.mu.Unlock()
	if err != nil {
		if k.failed != err.Error() {
			k.failed = err.Error()
			log.Warnw("mesh key not read again; the one before stays in force", "err", err)
		}
		return false
	}
	k.failed = ""
	changed = fmt.Sprint(keyIDs(keys)) != fmt.Sprint(keyIDs(k.keys))
	k.keys = keys
	if changed {
		log.Infow("mesh key changed", "ids", keyIDs(keys))
	}
	return changed
}

// renew cuts the connections whose key is no good any more, and makes those anew that this node has dialed and that were
// not made with the first key: the old connection ends when there is a new one, so that the peer is never away, and not before
// the next call, so that streams can move over. A peer that does not have the key yet is asked again later; what others have
// dialed they renew themselves.
func (k *meshKeys) renew(ctx context.Context, dial func(context.Context, peer.ID) error) {
	void, stale := k.old()
	for _, c := range void {
		c.Close() //nolint:errcheck // it is gone either way
	}
	for _, c := range stale {
		dctx, cancel := context.WithTimeout(ctx, renewTimeout)
		err := dial(dctx, c.peer)
		cancel()
		if err == nil && c.renewed {
			c.Close() //nolint:errcheck // it is gone either way
		}
		c.renewed = err == nil
		if ctx.Err() != nil {
			return
		}
	}
}

// old returns the connections under no key in force, and those that this node has dialed under another than the first.
func (k *meshKeys) old() (void, stale []*memberConn) {
	k.mu.Lock()
	defer k.mu.Unlock()
	for c, id := range k.conns {
		switch {
		case !k.goodLocked(id):
			void = append(void, c)
		case id != k.keys[0].id && c.peer != "":
			stale = append(stale, c)
		}
	}
	return void, stale
}

func (k *meshKeys) goodLocked(id string) bool {
	return slices.ContainsFunc(k.keys, func(key meshKey) bool { return key.id == id })
}

// first reports whether a connection was made with the first key.
func (k *meshKeys) first(c *memberConn) bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.conns[c] == k.keys[0].id
}

// find returns the connection that was dialed from an address, nil if it is gone.
func (k *meshKeys) find(from multiaddr.Multiaddr) *memberConn {
	k.mu.Lock()
	defer k.mu.Unlock()
	for c := range k.conns {
		if c.peer == "" && c.RemoteMultiaddr().Equal(from) {
			return c
		}
	}
	return nil
}

// opened notes with which key a connection was made. It reports false if that is no longer good,
// or the connection has been closed.
func (k *meshKeys) opened(c *memberConn, key meshKey) bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	if c.gone || !k.goodLocked(key.id) {
		return false
	}
	k.conns[c] = key.id
	return true
}

func (k *meshKeys) closed(c *memberConn) {
	k.mu.Lock()
	defer k.mu.Unlock()
	c.gone = true
	delete(k.conns, c)
}

// MeshKey is a key in /v1/status: by it an operator sees when a rotation has arrived everywhere.
type MeshKey struct {
	ID          string `json:"id"`
	Connections int    `json:"connections"` // made with it
}

func (k *meshKeys) status() []MeshKey {
	k.mu.Lock()
	defer k.mu.Unlock()
	var out []MeshKey
	for _, key := range k.keys {
		s := MeshKey{ID: key.id}
		for _, id := range k.conns {
			if id == key.id {
				s.Connections++
			}
		}
		out = append(out, s)
	}
	return out
}
