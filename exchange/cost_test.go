package exchange

import (
	"io"
	"net"
	"os"
	"sync/atomic"
	"testing"

	"github.com/opencontainers/go-digest"

	"github.com/meshd-project/meshd/exchange/swarm"
)

// sendCount is a listener that counts what its connections send, and in how many system calls.
type sendCount struct {
	net.Listener
	writes, copied, filed atomic.Int64
}

func (l *sendCount) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	return sendCountConn{c.(*net.TCPConn), l}, nil
}

type sendCountConn struct {
	*net.TCPConn
	l *sendCount
}

func (c sendCountConn) Write(p []byte) (int, error) {
	c.l.writes.Add(1)
	c.l.copied.Add(int64(len(p)))
	return c.TCPConn.Write(p)
}

// ReadFrom counts what package net sends by sendfile.
func (c sendCountConn) ReadFrom(src io.Reader) (int64, error) {
	if limited, ok := src.(*io.LimitedReader); ok {
		if _, ok := limited.R.(*os.File); ok {
			c.l.filed.Add(limited.N)
			return c.TCPConn.ReadFrom(src)
		}
	}
	return io.Copy(struct{ io.Writer }{c}, src)
}

// TestWhatAPieceAsksOfTheNetwork: encrypted, pieces leave in large writes, each byte once; in plaintext by sendfile.
func TestWhatAPieceAsksOfTheNetwork(t *testing.T) {
	const size = 8 << 20
	data, d := content(size, 1)
	l := swarm.LayoutOf(size)
	pull := func(t *testing.T, edit func(*Config)) *sendCount {
		t.Helper()
		sent := &sendCount{}
		a := startNode(t, nodeConfig{zone: "a", origin: newOrigin(data), edit: edit, listen: func(l net.Listener) net.Listener {
			sent.Listener = l
			return sent
		}})
		a.mustPull(want(d, size), data)
		eventually(t, "complete", func() bool { _, ok := a.Stat(digest.FromBytes(data)); return ok })
		b := startNode(t, nodeConfig{zone: "a", edit: edit})
		mesh(t, a, b)
		b.mustPull(want(d, size), data)
		if in := b.Status().BytesIn; in.Zone != size {
			t.Fatalf("%+v", in)
		}
		return sent
	}
	t.Run("encrypted", func(t *testing.T) {
		sent := pull(t, nil)
		// 2 writes a piece as it is, and some for handshakes; a write for each record of TLS would be 32 a piece.
		if n, most := sent.writes.Load(), int64(4*l.Pieces()); n > most {
			t.Errorf("%d writes for %d pieces of %d bytes, want %d at most", n, l.Pieces(), l.PieceSize, most)
		}
		if n := sent.copied.Load(); n > size*101/100 {
			t.Errorf("%d bytes for %d", n, size)
		}
	})
	t.Run("plaintext", func(t *testing.T) {
		sent := pull(t, plaintext)
		const sniffed = 512 // net/http copies that much of an answer first, to look at it
		if filed, copied := sent.filed.Load(), sent.copied.Load(); filed < int64(size-sniffed*l.Pieces()) || copied > int64(2<<10*l.Pieces()) {
			t.Errorf("%d bytes by sendfile, %d copied, of %d in %d pieces", filed, copied, size, l.Pieces())
		}
	})
}
