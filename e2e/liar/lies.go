package main

import (
	"crypto/sha256"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strconv"
	"time"

	libp2ptls "github.com/libp2p/go-libp2p/p2p/security/tls"

	"github.com/meshd-project/meshd/exchange/swarm"
	"github.com/meshd-project/meshd/exchange/wire"
	"github.com/opencontainers/go-digest"
)

// Lies about pieces.
const (
	wrongBytes    = "wrong-bytes"    // other bytes than the signed hash says
	lateBytes     = "late-bytes"     // the right ones, at 2 KiB/s or after a long silence
	slowBytes     = "slow-bytes"     // the right ones, at 16 KiB/s: enough for a node that has nobody else
	wrongHashes   = "wrong-hashes"   // wrong bytes under their own hash, signed
	falseHaves    = "false-haves"    // not here after all, or busy for ever
	endless       = "endless"        // answers and control streams that do not end
	absurdLengths = "absurd-lengths" // 2^62 bytes, blobs of a TiB, a minute of headers
	garbage       = "garbage"        // noise where frames and answers belong
	gossipFlood   = "gossip-flood"   // all the gossip that the network carries
	dhtFlood      = "dht-flood"      // provider records without end
)

var (
	pieceLies = []string{wrongBytes, lateBytes, slowBytes, wrongHashes, falseHaves, endless, absurdLengths, garbage}
	kinds     = append([]string{gossipFlood, dhtFlood}, pieceLies...)
)

// dataListener accepts TLS connections with libp2p identities.
type dataListener struct {
	net.Listener
	identity *libp2ptls.Identity
}

func (l *dataListener) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	conf, _ := l.identity.ConfigForPeer("")
	conf.NextProtos = []string{"http/1.1"}
	return tls.Server(c, conf), nil
}

// servePiece answers a request for a piece.
func (l *liar) servePiece(w http.ResponseWriter, r *http.Request) {
	d, i, err := wire.ParsePiecePath(r.URL.Path)
	size := l.size(d)
	if err != nil || size < 0 {
		w.WriteHeader(http.StatusNotFound)
		return
	}
	off, n := swarm.LayoutOf(size).Span(i)
	data := make([]byte, n)
	if f, err := os.Open(l.path(d)); err == nil {
		_, _ = f.ReadAt(data, off)
		f.Close()
	}
	kind := l.lie(pieceLies)
	if kind != "" {
		fmt.Println("lie", kind) // the test counts them
	}
	switch kind {
	case wrongBytes:
		l.attest(w, d, size, i, data)
		data[len(data)/2] ^= 1
		l.sendAll(w, data)
	case wrongHashes:
		data[len(data)/2] ^= 1
		l.attest(w, d, size, i, data)
		l.sendAll(w, data)
	case lateBytes:
		if l.turn.Load()%2 == 0 {
			wait(r, time.Minute)
		}
		l.attest(w, d, size, i, data)
		l.trickle(w, r, data, 500*time.Millisecond)
	case slowBytes:
		l.attest(w, d, size, i, data)
		l.trickle(w, r, data, 62*time.Millisecond)
	case falseHaves:
		if l.turn.Load()%2 == 0 {
			wire.SetBusy(w.Header(), time.Hour, 255)
			w.WriteHeader(http.StatusServiceUnavailable)
			return
		}
		w.WriteHeader(http.StatusNotFound)
	case endless:
		l.endlessAnswer(w, d, size, i, data)
	case absurdLengths:
		l.absurdAnswer(w, d, size, i, data)
	case garbage:
		l.noise(w)
	default: // a flood: an honest piece
		l.attest(w, d, size, i, data)
		l.sendAll(w, data)
	}
}

// attest signs the hash of data as that of a piece.
func (l *liar) attest(w http.ResponseWriter, d digest.Digest, size int64, i swarm.PieceIndex, data []byte) {
	hash := swarm.Hash(sha256.Sum256(data))
	sig, err := l.key.Sign(wire.AttestedText(d, size, i, hash))
	if err != nil {
		panic(err)
	}
	wire.SetAttestation(w.Header(), wire.Attestation{Hash: hash, Attester: swarm.PeerID(l.host.ID()), Signature: sig})
}

func (l *liar) sendAll(w http.ResponseWriter, data []byte) {
	w.Header().Set("Content-Length", strconv.Itoa(len(data)))
	_, _ = w.Write(data)
}

// trickle sends the right bytes, a KiB at a time.
func (l *liar) trickle(w http.ResponseWriter, r *http.Request, data []byte, every time.Duration) {
	w.Header().Set("Content-Length", strconv.Itoa(len(data)))
	rc := http.NewResponseController(w)
	for len(data) > 0 && r.Context().Err() == nil {
		n := min(len(data), 1<<10)
		if _, err := w.Write(data[:n]); err != nil || rc.Flush() != nil {
			return
		}
		data = data[n:]
		wait(r, every)
	}
}

// endlessAnswer does not end: a piece without a length, or a refusal that goes on.
func (l *liar) endlessAnswer(w http.ResponseWriter, d digest.Digest, size int64, i swarm.PieceIndex, data []byte) {
	if l.turn.Load()%2 == 0 {
		w.WriteHeader(http.StatusServiceUnavailable)
	} else {
		l.attest(w, d, size, i, data)
	}
	for {
		if _, err := w.Write(data); err != nil {
			return
		}
	}
}

// absurdAnswer has lengths that nothing has.
func (l *liar) absurdAnswer(w http.ResponseWriter, d digest.Digest, size int64, i swarm.PieceIndex, data []byte) {
	conn, _, err := http.NewResponseController(w).Hijack()
	if err != nil {
		return
	}
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(time.Minute))
	if l.turn.Load()%2 == 0 {
		_, _ = io.WriteString(conn, "HTTP/1.1 200 OK\r\nContent-Length: 4611686018427387904\r\n\r\n")
		_, _ = conn.Write(data)
		return
	}
	_, _ = io.WriteString(conn, "HTTP/1.1 200 OK\r\n")
	for range 1 << 20 { // headers without end
		if _, err := io.WriteString(conn, "Meshd-Hash: 00000000000000000000000000000000000000000000000000000000000000000000\r\n"); err != nil {
			return
		}
	}
}

// noise answers with what is no HTTP.
func (l *liar) noise(w http.ResponseWriter) {
	conn, _, err := http.NewResponseController(w).Hijack()
	if err != nil {
		return
	}
	defer conn.Close()
	_, _ = conn.Write(junk(64 << 10))
}

func wait(r *http.Request, d time.Duration) {
	select {
	case <-r.Context().Done():
	case <-time.After(d):
	}
}
