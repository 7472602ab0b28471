package e2e

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"
)

// patience is how long a pull may take in which a source fails: dockerd has more.
const patience = 40 * time.Second

// A peer that a node is reading from dies, stalls, finds its disk rotten or sends wrong bytes in the middle of a blob:
// another one takes over, the client gets every byte, in time, and the registry is not asked again. Who lies is isolated.
func TestSourceFailsMidBlob(t *testing.T) {
	long(t)
	const size = 32 * mib
	for _, row := range []struct {
		name string
		fail func(t *testing.T, n *node, b blob)
		lies bool
	}{
		{"dies", func(t *testing.T, n *node, b blob) { n.kill() }, false},
		{"stalls", func(t *testing.T, n *node, b blob) { must(t, n.cmd.Process.Signal(syscall.SIGSTOP)) }, false},
		{"rots", func(t *testing.T, n *node, b blob) { n.rot(t, b, size/2) }, false},
		{"lies", func(t *testing.T, n *node, b blob) {}, true}, // from its second half on
	} {
		t.Run(row.name, func(t *testing.T) {
			m := newMesh(t, nodeSpec{"east", false}, nodeSpec{"east", false}, nodeSpec{"east", false})
			b := m.registry.pushBlob(t, "library/source", 1, size)
			path := "/v2/" + b.repo + "/blobs/" + b.hash.String()
			for _, n := range m.nodes[:2] {
				_, err := httpGet(t.Context(), "http://"+n.mirror()+path, b.hash)
				must(t, err)
			}
			here, source := m.nodes[2], m.nodes[0]
			var liars []string
			if row.lies {
				liars = append(liars, source.status(t).PeerID)
				source.kill()
				source.binary = liar(t, size/2)
				source.start(t)
			}
			here.kill()
			m.extra = []string{"--download-limit", "12MB/s"}
			here.start(t)
			m.waitJoined(t)
			ctx, cancel := context.WithTimeout(t.Context(), patience)
			defer cancel()
			pulled := make(chan error, 1)
			go func() {
				_, err := httpGet(ctx, "http://"+here.mirror()+path, b.hash)
				pulled <- err
			}()
			must(t, here.waitTaken(ctx, t, size/4))
			row.fail(t, source, b)
			if taken := here.status(t).BytesIn.network(); taken > size*3/4 {
				t.Logf("on this slow day the node had %d bytes before that", taken)
			}
			if err := <-pulled; err != nil {
				t.Error(err)
			}
			in := here.status(t)
			t.Logf("in %+v, wasted %d, quarantined %v", in.BytesIn, in.DuplicateBytes, here.quarantined(t))
			if got := here.convicted(t); !slices.Equal(got, liars) {
				t.Errorf("%v are convicted of a lie, want %v", got, liars)
			}
			m.checkCopies(t, size, 1)
		})
	}
}

// liar builds a meshd that sends wrong bytes of every blob from an offset on, and vouches for the right ones.
func liar(t testing.TB, from int64) string {
	t.Helper()
	honest, err := filepath.Abs("../exchange/upload.go")
	must(t, err)
	source, err := os.ReadFile(honest)
	must(t, err)
	const write = "w.Write(b)"
	if n := strings.Count(string(source), write); n != 1 {
		t.Fatalf("%s writes pieces in %d places: this test has to be told where", honest, n)
	}
	lie := fmt.Sprintf("w.Write(func() []byte {\nif p.off+off >= %d {\nb[0] ^= 1\n}\nreturn b\n}())", from)
	dir := t.TempDir()
	lying, overlay, binary := filepath.Join(dir, "upload.go"), filepath.Join(dir, "overlay.json"), filepath.Join(dir, "liar")
	must(t, os.WriteFile(lying, []byte(strings.Replace(string(source), write, lie, 1)), 0o600))
	replace, err := json.Marshal(map[string]any{"Replace": map[string]string{honest: lying}})
	must(t, err)
	must(t, os.WriteFile(overlay, replace, 0o600))
	_, err = command("go", "build", "-overlay", overlay, "-o", binary, "github.com/meshd-project/meshd/cmd/meshd")
	must(t, err)
	return binary
}

// waitTaken waits until the node has taken so many bytes off the network.
func (n *node) waitTaken(ctx context.Context, t testing.TB, bytes int64) error {
	for n.status(t).BytesIn.network() < bytes {
		select {
		case <-ctx.Done():
			return fmt.Errorf("%s has not taken %d bytes: %w", n.name, bytes, ctx.Err())
		case <-time.After(10 * time.Millisecond):
		}
	}
	return nil
}

// rot spoils what the node has of a blob on its disk, from an offset on.
func (n *node) rot(t testing.TB, b blob, from int64) {
	t.Helper()
	for path, size := range n.files(t) {
		if size != int64(len(b.data)) || !strings.Contains(path, b.hash.Hex) {
			continue
		}
		f, err := os.OpenFile(path, os.O_WRONLY, 0)
		must(t, err)
		defer f.Close()
		_, err = f.WriteAt(make([]byte, size-from), from)
		must(t, err)
		return
	}
	t.Fatalf("%s has no file with %s", n.name, b.hash)
}

// A client that goes on at another node asks for the rest, and that is what it costs: the bytes come from the peer that
// has them, and none from the registry.
func TestResumeElsewhere(t *testing.T) {
	m := newMesh(t, nodeSpec{"east", false}, nodeSpec{"east", false})
	const size, have, piece = 16 * mib, 9*mib + 17, mib / 2
	b := m.registry.pushBlob(t, "library/resume", 2, size)
	path := "/v2/" + b.repo + "/blobs/" + b.hash.String()
	_, err := httpGet(t.Context(), "http://"+m.nodes[0].mirror()+path, b.hash)
	must(t, err)
	status, _, body, err := getRaw(m.nodes[1].mirror(), path, fmt.Sprintf("Range: bytes=%d-", have))
	must(t, err)
	if status != http.StatusPartialContent || body != string(b.data[have:]) {
		t.Errorf("%d with %d bytes, want the last %d", status, len(body), size-have)
	}
	if in := m.nodes[1].status(t).BytesIn; in.Zone != size-have/piece*piece || in.Origin+in.OtherZone != 0 {
		t.Errorf("the rest of %d bytes cost %+v, want its pieces", size-have, in)
	}
	m.checkCopies(t, size, 1)
}
