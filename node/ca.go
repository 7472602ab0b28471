package node

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/meshd-project/meshd/mirror/proxy"
)

// loadCA reads the proxy's certificate authority from the data dir, or makes one there on the first start.
func loadCA(dir string, now time.Time) (*proxy.CA, error) {
	certPath, keyPath := filepath.Join(dir, CAFile), filepath.Join(dir, CAKeyFile)
	cert, certErr := os.ReadFile(certPath)
	if errors.Is(certErr, fs.ErrNotExist) { // a key without certificate is of no use: a first start was cut short
		return newCA(certPath, keyPath, now)
	}
	key, keyErr := readSecret(keyPath, ownSecret)
	if err := errors.Join(certErr, keyErr); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("proxy CA: %w", err)
	}
	ca, err := proxy.ParseCA(cert, key, now)
	if err != nil {
		return nil, fmt.Errorf("proxy CA: %s, %s: %w (remove both files to get a new CA, and have clients trust that by `meshd ca install`)",
			certPath, keyPath, err)
	}
	return ca, nil
}

// newCA makes an authority and keeps it, the key first.
func newCA(certPath, keyPath string, now time.Time) (*proxy.CA, error) {
	cert, key, err := proxy.NewCA(now)
	if err != nil {
		return nil, fmt.Errorf("proxy CA: %w", err)
	}
	err = writeFile(keyPath, key, 0o600)
	if err == nil {
		err = writeFile(certPath, cert, 0o644)
	}
	if err != nil {
		return nil, fmt.Errorf("keep proxy CA: %w", err)
	}
	return proxy.ParseCA(cert, key, now)
}
