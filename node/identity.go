package node

import (
	"bytes"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/libp2p/go-libp2p/core/crypto"
	"github.com/libp2p/go-libp2p/core/pnet"
)

// loadIdentity reads the node's ed25519 key from the data dir, or makes one there on the first start.
func loadIdentity(dir string) (crypto.PrivKey, error) {
	path := filepath.Join(dir, IdentityFile)
	raw, err := readSecret(path, ownSecret)
	if errors.Is(err, fs.ErrNotExist) {
		return newIdentity(path)
	}
	if err != nil {
		return nil, fmt.Errorf("read identity: %w", err)
	}
	key, err := crypto.UnmarshalPrivateKey(raw)
	if err != nil {
		return nil, fmt.Errorf("read identity %s: %w (remove the file to get a new identity)", path, err)
	}
	if key.Type() != crypto.Ed25519 {
		return nil, fmt.Errorf("read identity %s: the key is %s, not ed25519", path, key.Type())
	}
	return key, nil
}

func newIdentity(path string) (crypto.PrivKey, error) {
	key, _, err := crypto.GenerateEd25519Key(rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("make identity: %w", err)
	}
	raw, err := crypto.MarshalPrivateKey(key)
	if err != nil {
		return nil, fmt.Errorf("make identity: %w", err)
	}
	if err := writeFile(path, raw, 0o600); err != nil {
		return nil, fmt.Errorf("keep identity: %w", err)
	}
	return key, nil
}

// NewMeshKey returns a new random mesh key in libp2p's pnet file format, as `meshd key new` prints it.
func NewMeshKey() (string, error) { return meshKeyText(rand.Reader) }

func meshKeyText(r io.Reader) (string, error) {
	var key [32]byte
	if _, err := io.ReadFull(r, key[:]); err != nil {
		return "", fmt.Errorf("make mesh key: %w", err)
	}
	return "/key/swarm/psk/1.0.0/\n/base16/\n" + hex.EncodeToString(key[:]) + "\n", nil
}

// loadMeshKey reads the mesh key from path, or, with path "", the node's own in dir, made on the first start.
func loadMeshKey(path, dir string) (pnet.PSK, error) {
	own := path == ""
	if own {
		path = filepath.Join(dir, MeshKeyFile)
		if _, err := os.Lstat(path); errors.Is(err, fs.ErrNotExist) {
			text, err := NewMeshKey()
			if err != nil {
				return nil, err
			}
			if err := writeFile(path, []byte(text), 0o600); err != nil {
				return nil, fmt.Errorf("keep mesh key: %w", err)
			}
		}
	}
	forbid := givenSecret
	if own {
		forbid = ownSecret
	}
	raw, err := readSecret(path, forbid)
	if err != nil {
		return nil, fmt.Errorf("read mesh key: %w", err)
	}
	psk, err := pnet.DecodeV1PSK(bytes.NewReader(raw))
	if err != nil {
		// The cause quotes what it read, which may be the key.
		return nil, fmt.Errorf("read mesh key %s: not a key file (`meshd key new` makes one)", path)
	}
	return psk, nil
}

// writeFile replaces a file in one step: after a crash it holds the old content or the new, synced to the disk.
func writeFile(path string, data []byte, mode fs.FileMode) error {
	f, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+"-*")
	if err != nil {
		return err
	}
	tmp := f.Name()
	_, err = f.Write(data)
	err = errors.Join(err, f.Chmod(mode), f.Sync(), f.Close())
	if err == nil {
		err = os.Rename(tmp, path)
	}
	if err != nil {
		os.Remove(tmp) //nolint:errcheck // the first error counts
		return err
	}
	dir, err := os.Open(filepath.Dir(path))
	if err != nil {
		return err
	}
	defer dir.Close()
	return dir.Sync()
}
