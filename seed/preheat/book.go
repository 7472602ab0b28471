package preheat

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"
)

// maxRecord bounds the file of one job, in bytes.
const maxRecord = 64 << 20

// book keeps jobs on disk, a file each: ID.json, mode 0600. A file is replaced whole or not at all. It holds no secrets.
type book struct{ dir string }

// record is the text of a job's file.
type record struct {
	Job
	Timeout time.Duration `json:"timeout"`
}

func openBook(dir string) (book, error) {
	return book{dir}, os.MkdirAll(dir, 0o700)
}

func (b book) path(id ID) string { return filepath.Join(b.dir, id.String()+".json") }

// write keeps a record. It does not wait for the disk: a power cut may cost the last states, of which the job is then done
// again.
func (b book) write(r record) error {
	data, err := json.Marshal(r)
	if err != nil {
		return err
	}
	tmp := b.path(r.ID) + ".new"
	if err := os.WriteFile(tmp, data, 0o600); err != nil {
		return err
	}
	return os.Rename(tmp, b.path(r.ID))
}

// remove forgets a job.
func (b book) remove(id ID) error { return os.Remove(b.path(id)) }

// read returns the jobs of an owner, in no order. Files that are damaged, or another's, are left out and removed.
func (b book) read(owner uint32) (jobs []*job, err error) {
	entries, err := os.ReadDir(b.dir)
	if err != nil {
		return nil, err
	}
	for _, e := range entries {
		path := filepath.Join(b.dir, e.Name())
		stem, ok := strings.CutSuffix(e.Name(), ".json")
		id, err := ParseID(stem)
		var j *job
		if ok && err == nil && id.tag() == owner {
			j, err = readJob(path, id)
		}
		if j == nil {
			log.Warnw("file of a preheat not used", "file", path, "err", err)
			if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
				return nil, err
			}
			continue
		}
		jobs = append(jobs, j)
	}
	return jobs, nil
}

func readJob(path string, id ID) (*job, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	if info.Size() > maxRecord {
		return nil, fmt.Errorf("%d bytes", info.Size())
	}
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	return parseJob(data, id)
}

// parseJob reads the text of a job's file. One that had not ended is queued again.
func parseJob(data []byte, id ID) (*job, error) {
	var r record
	if err := json.Unmarshal(data, &r); err != nil {
		return nil, err
	}
	image, err := ParseImage(r.Image, dockerHub)
	if err != nil {
		return nil, err
	}
	request, err := Request{Image: image, Platforms: r.Platforms, Scope: r.Scope, Timeout: r.Timeout}.normal()
	if err != nil {
		return nil, err
	}
	j := &job{id: id, request: request, text: r.Image, state: r.State, reason: r.Reason, created: r.Created, updated: r.Updated}
	switch {
	case r.ID != id || len(r.Layers) > maxLayers:
		return nil, fmt.Errorf("%w: id %s in the file of %s", ErrInvalid, r.ID, id)
	case r.State == Queued || r.State == Running:
		j.state, j.reason = Queued, ""
		return j, nil
	case !r.State.Ended():
		return nil, fmt.Errorf("%w: state %q", ErrInvalid, r.State)
	}
	j.contents = Contents{Digest: r.Digest, Layers: r.Layers, Private: r.Private}
	for _, n := range r.Nodes {
		t, err := n.task(len(r.Layers))
		if err != nil {
			return nil, err
		}
		j.nodes = append(j.nodes, t)
	}
	return j, nil
}

// task is the inverse of view.
func (n Node) task(layers int) (*task, error) {
	id, err := peer.Decode(n.PeerID)
	if err != nil {
		return nil, err
	}
	if len(n.Layers) > 0 && len(n.Layers) != layers {
		return nil, fmt.Errorf("%w: %d layers of %d", ErrInvalid, len(n.Layers), layers)
	}
	t := &task{member: Member{ID: id, Name: n.Name, Zone: n.Zone}, state: n.State, reason: n.Reason}
	for _, l := range n.Layers {
		t.layers = append(t.layers, layerState{l.State, l.Bytes, l.Reason})
	}
	return t, nil
}
