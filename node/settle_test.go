package node

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/meshd-project/meshd/mirror"
	"github.com/meshd-project/meshd/node/topology"
)

func TestSettle(t *testing.T) {
	on, off := topology.Member{Connected: true}, topology.Member{}
	for _, row := range []struct {
		name    string
		members func(age time.Duration) []topology.Member
		want    time.Duration
	}{
		{"nobody", func(time.Duration) []topology.Member { return nil }, settleLimit},
		{"known but not connected", func(time.Duration) []topology.Member { return []topology.Member{off} }, settleLimit},
		{"one at once", func(time.Duration) []topology.Member { return []topology.Member{on} }, settleFirst},
		{"all after a second", func(age time.Duration) []topology.Member {
			if age < time.Second {
				return nil
			}
			return []topology.Member{on, on}
		}, time.Second + settleFirst},
		{"one never connects", func(time.Duration) []topology.Member { return []topology.Member{on, off} }, settleOthers},
	} {
		t.Run(row.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				start := time.Now()
				settle(t.Context(), func() []topology.Member { return row.members(time.Since(start)) })
				if d := time.Since(start); d < row.want || d > row.want+2*settlePoll {
					t.Errorf("settled after %v, want %v", d, row.want)
				}
			})
		})
	}
}

// A member whose distance is not known yet says nothing of where a node stands.
func TestMeasured(t *testing.T) {
	got := measured([]topology.Member{{Connected: true}, {Connected: true, RTT: 1}, {RTT: 1}})
	if got[0].Connected || !got[1].Connected || got[2].Connected {
		t.Errorf("%+v", got)
	}
}

// heldBlobs counts what gets through and has one digest on disk.
type heldBlobs struct {
	mirror.Blobs
	onDisk digest.Digest
	opened int
}

func (b *heldBlobs) Stat(d digest.Digest) (int64, bool) { return 1, d == b.onDisk }

func (b *heldBlobs) Open(context.Context, mirror.BlobWant) (mirror.Blob, error) {
	b.opened++
	return nil, nil
}

func TestBlobsWaitForTheMesh(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		settled := make(chan struct{})
		in := &heldBlobs{onDisk: digest.FromString("here")}
		b := settledBlobs{in, settled}
		if _, err := b.Open(t.Context(), mirror.BlobWant{Digest: in.onDisk}); err != nil || in.opened != 1 {
			t.Fatalf("a blob on disk waits: %v", err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		other := mirror.BlobWant{Digest: digest.FromString("elsewhere")}
		if _, err := b.Open(ctx, other); !errors.Is(err, context.DeadlineExceeded) || in.opened != 1 {
			t.Fatalf("a blob was opened before the mesh was found: %v", err)
		}
		close(settled)
		if _, err := b.Open(t.Context(), other); err != nil || in.opened != 2 {
			t.Fatalf("a blob waits after the mesh was found: %v", err)
		}
	})
}
