package node

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"

	"github.com/meshd-project/meshd/exchange"
	"github.com/meshd-project/meshd/node/admin"
)

const (
	maxEvidence     = 256      // files
	maxEvidenceFile = 16 << 10 // bytes
)

// evidence keeps proofs that peers lied as files in a directory, one each; the oldest go when there are too many. Its
// methods may be called concurrently.
type evidence struct {
	dir string
	mu  sync.Mutex
}

// keep writes a proof. The operator has the log line as well, so a failure is logged and no more.
func (v *evidence) keep(e exchange.Evidence) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if err := v.write(e); err != nil {
		log.Errorw("evidence not kept", "peer", e.Peer, "blob", e.Digest, "piece", e.Piece, "err", err)
	}
}

func (v *evidence) write(e exchange.Evidence) error {
	if err := os.MkdirAll(v.dir, 0o700); err != nil {
		return err
	}
	names, err := v.names()
	if err != nil {
		return err
	}
	for len(names) >= maxEvidence {
		if err := os.Remove(filepath.Join(v.dir, names[0])); err != nil {
			return err
		}
		names = names[1:]
	}
	raw, err := json.MarshalIndent(e, "", "  ")
	if err != nil {
		return err
	}
	name := fmt.Sprintf("%s-%s-%d.json", e.Time.UTC().Format("20060102T150405.000000000"), e.Peer, e.Piece)
	return writeFile(filepath.Join(v.dir, name), append(raw, '\n'), 0o600)
}

// names are the files, the oldest first.
func (v *evidence) names() ([]string, error) {
	entries, err := os.ReadDir(v.dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	var names []string
	for _, e := range entries {
		if strings.HasSuffix(e.Name(), ".json") && !strings.HasPrefix(e.Name(), ".") {
			names = append(names, e.Name())
		}
	}
	slices.Sort(names)
	return names, err
}

// list returns the proofs that are kept, the newest first. A file that is none is passed over.
func (v *evidence) list() ([]exchange.Evidence, error) {
	v.mu.Lock()
	defer v.mu.Unlock()
	names, err := v.names()
	if err != nil {
		return nil, err
	}
	out := []exchange.Evidence{}
	for _, name := range slices.Backward(names) {
		raw, err := readPublic(filepath.Join(v.dir, name), maxEvidenceFile)
		var e exchange.Evidence
		if err == nil {
			err = json.Unmarshal(raw, &e)
		}
		if err == nil {
			err = e.Check()
		}
		if err != nil {
			log.Warnw("evidence passed over", "file", name, "err", err)
			continue
		}
		out = append(out, e)
	}
	return out, nil
}

// showEvidence answers with the proofs that are kept.
func (n *node) showEvidence(w http.ResponseWriter, _ *http.Request) error {
	list, err := n.evidence.list()
	if err != nil {
		return err
	}
	return admin.WriteJSON(w, http.StatusOK, list)
}
