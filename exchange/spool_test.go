package exchange

import (
	"errors"
	"io"
	"os"
	"testing"
	"testing/synctest"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/meshd-project/meshd/exchange/pace"
	"github.com/meshd-project/meshd/exchange/swarm"
)

// trickle is a body that sends so many bytes at a time, and then waits.
type trickle struct {
	left, each int
	pause      time.Duration
	closed     chan struct{}
	end        error // once nothing is left
}

func (b *trickle) Read(p []byte) (int, error) {
	select {
	case <-time.After(b.pause):
	case <-b.closed:
		return 0, errors.New("closed")
	}
	n := min(b.each, b.left, len(p))
	if b.left -= n; b.left == 0 {
		return n, b.end
	}
	return n, nil
}

func (b *trickle) Close() error {
	close(b.closed)
	return nil
}

// A body of unknown size may take as long as it likes while it moves: each byte is a sign to those who wait. One that hardly
// moves is given up, and one that breaks off is not taken for whole.
func TestSpool(t *testing.T) {
	for _, row := range []struct {
		name  string
		body  trickle
		limit int64 // of the node, in bytes a second
		takes time.Duration
		err   error
	}{
		{"slow", trickle{left: 1 << 20, each: 4 << 10, pause: 2 * time.Second, end: io.EOF}, 0, 512 * time.Second, nil},
		{"slower than it may be for long, and short", trickle{left: 30, each: 1, pause: time.Second, end: io.EOF}, 0, 30 * time.Second, nil},
		{"quick, on a node with a low limit", trickle{left: 1 << 20, each: 1 << 20, end: io.EOF}, 512, 2048 * time.Second, nil},
		{"drips", trickle{left: 1 << 20, each: 100, pause: time.Second, end: io.EOF}, 0, 66 * time.Second, errDrips},
		{"cut", trickle{left: 1 << 20, each: 64 << 10, pause: time.Second, end: io.ErrUnexpectedEOF}, 0, 17 * time.Second, io.ErrUnexpectedEOF},
	} {
		t.Run(row.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				f, err := os.CreateTemp(t.TempDir(), "spool")
				if err != nil {
					t.Fatal(err)
				}
				defer f.Close()
				body := row.body
				body.closed = make(chan struct{})
				x := &Exchange{cfg: Config{Limits: &pace.Limits{Origin: pace.New(row.limit)}}.withDefaults()}
				s := newSession(digest.FromString("spooled"), nil)
				began := time.Now()
				n, err := x.fillSpool(t.Context(), s, f, OriginBody{ReadCloser: closeOnce(&body), Size: -1})
				took := time.Since(began)
				if !errors.Is(err, row.err) || row.err == nil && n != int64(row.body.left) {
					t.Errorf("%d bytes, %v", n, err)
				}
				if took < row.takes*95/100 || took > row.takes*105/100 {
					t.Errorf("it took %v, want about %v", took, row.takes)
				}
				if info, err := f.Stat(); err != nil || info.Size() != n {
					t.Errorf("%d bytes on disk of %d, %v", info.Size(), n, err)
				}
				if in := x.accounts.in.origin.Load(); in != n {
					t.Errorf("%d bytes count as read, %d were", in, n)
				}
				if since := time.Since(s.lastSign()); row.limit == 0 && since > row.body.pause {
					t.Errorf("the last sign was %v ago", since)
				}
			})
		})
	}
}

// While another node reads a blob of unknown size, who asks for it is told which.
func TestPullNamesReader(t *testing.T) {
	x := &Exchange{sessions: make(map[digest.Digest]*session)}
	d := digest.FromString("x")
	if _, ok := x.Pull(d); ok {
		t.Error("a pull of nothing")
	}
	x.sessions[d] = newSession(d, nil)
	x.await(swarm.Await{Digest: d, Reader: "peer"})
	if p, ok := x.Pull(d); !ok || p.Reader != "peer" || p.Size != -1 {
		t.Errorf("%+v", p)
	}
	x.sessions[d].hope("", 7)
	if p, _ := x.Pull(d); p.Reader != "" || p.Spooled != 7 {
		t.Errorf("this node reads it: %+v", p)
	}
	x.await(swarm.Await{Digest: d, Reader: "peer"})
	x.sessions[d].size = 10
	if p, _ := x.Pull(d); p.Reader != "" || p.Spooled != 0 {
		t.Errorf("its size is known: %+v", p)
	}
}
