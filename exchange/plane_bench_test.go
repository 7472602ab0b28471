package exchange

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/meshd-project/meshd/e2e/table"
	"github.com/meshd-project/meshd/exchange/swarm"
	"github.com/meshd-project/meshd/exchange/wire"
	"github.com/opencontainers/go-digest"
	"golang.org/x/sync/errgroup"
)

// planeStreams is how many requests are under way: as many as the policy has at one provider.
const planeStreams = 2

// planeSide moves benchSize bytes over one plane and drops them.
type planeSide func() error

// rounds lets two sides take turns and puts speed and CPU seconds of both ends into the table. A reference in another
// process has no CPU figure here.
func rounds(b *testing.B, what, reference string, ours, theirs planeSide, speed, used table.Goal, child bool) {
	b.Helper()
	var speeds, cpus [2][]float64
	for _, warm := range []planeSide{ours, theirs} {
		if err := warm(); err != nil {
			b.Fatal(err)
		}
	}
	for b.Loop() {
		for i, side := range []planeSide{ours, theirs} {
			before, began := cpu(), time.Now()
			if err := side(); err != nil {
				b.Fatal(err)
			}
			speeds[i] = append(speeds[i], benchSize/1e6/time.Since(began).Seconds())
			cpus[i] = append(cpus[i], (cpu()-before).Seconds()/(benchSize/1e9))
		}
	}
	o, r := table.Median(speeds[0]), table.Median(speeds[1])
	table.Add(table.Row{What: what + ", speed", Unit: "MB/s", Ours: o, Reference: r, ReferenceName: reference, Goal: speed})
	row := table.Row{What: what + ", CPU of both ends", Unit: "s/GB", Ours: table.Median(cpus[0]), Goal: used}
	table.Add(row)
	if !child {
		table.Add(table.Row{What: what + ", CPU of " + reference, Unit: "s/GB", Ours: table.Median(cpus[1])})
	}
	b.ReportMetric(o, "MB/s")
	b.ReportMetric(o/r, "x-reference")
	b.ReportMetric(row.Ours, "cpu-s/GB")
	b.ReportMetric(0, "ns/op")
}

// piecesOf fetches all pieces of a blob from a holder as a pull does, up to the hash: request, decision of the holder's
// core, transfer, attestation.
func piecesOf(n, from *node, d digest.Digest) planeSide {
	l := swarm.LayoutOf(benchSize)
	return func() error {
		next := make(chan swarm.PieceIndex, l.Pieces())
		for i := range l.Pieces() {
			next <- swarm.PieceIndex(i)
		}
		close(next)
		var g errgroup.Group
		for range planeStreams {
			g.Go(func() error {
				buf := make([]byte, chunkSize)
				for i := range next {
					if err := dropPiece(n, from.self, d, i, buf); err != nil {
						return err
					}
				}
				return nil
			})
		}
		return g.Wait()
	}
}

func dropPiece(n *node, from peer.ID, d digest.Digest, i swarm.PieceIndex, buf []byte) error {
	for range 1000 {
		resp, err := n.get(context.Background(), from, wire.PiecePath(d, i))
		if err != nil {
			return err
		}
		got, err := io.CopyBuffer(struct{ io.Writer }{io.Discard}, struct{ io.Reader }{resp.Body}, buf)
		_ = resp.Body.Close()
		switch {
		case resp.StatusCode == http.StatusServiceUnavailable:
			wait, _ := wire.ParseBusy(resp.Header)
			time.Sleep(wait)
			continue
		case resp.StatusCode != http.StatusOK || got != resp.ContentLength:
			return fmt.Errorf("piece %d: %s, %d bytes: %w", i, resp.Status, got, err)
		}
		return err
	}
	return fmt.Errorf("piece %d: busy for good", i)
}

// rangesOf fetches a file from an HTTP server, each stream its share.
func rangesOf(client *http.Client, url string) planeSide {
	return func() error {
		var g errgroup.Group
		for s := range int64(planeStreams) {
			g.Go(func() error {
				req, err := http.NewRequest(http.MethodGet, url, nil)
				if err != nil {
					return err
				}
				share := int64(benchSize) / planeStreams
				req.Header.Set("Range", fmt.Sprintf("bytes=%d-%d", s*share, (s+1)*share-1))
				resp, err := client.Do(req)
				if err != nil {
					return err
				}
				defer resp.Body.Close()
				n, err := io.CopyBuffer(struct{ io.Writer }{io.Discard}, struct{ io.Reader }{resp.Body}, make([]byte, chunkSize))
				if err == nil && n != share {
					err = fmt.Errorf("%s, %d bytes of %d", resp.Status, n, share)
				}
				return err
			})
		}
		return g.Wait()
	}
}

// pair starts a holder of a big blob and a node without it.
func pair(b *testing.B, edit func(*Config)) (holder, asker *node, file string, d digest.Digest) {
	file, d = bigBlob(b)
	holder = startNode(b, nodeConfig{zone: "a", origin: newHTTPOrigin(b, file), edit: edit})
	curl(b, front(b, holder, want(d, benchSize)))
	eventually(b, "complete", func() bool { _, ok := holder.Stat(d); return ok })
	asker = startNode(b, nodeConfig{zone: "a", edit: edit})
	mesh(b, holder, asker)
	return holder, asker, file, d
}

// BenchmarkPlaneEncrypted moves pieces from peer to peer over the data port, without hash and disk at the receiver, beside
// a plain Go HTTPS file server and client. Both ends of both are in this process.
func BenchmarkPlaneEncrypted(b *testing.B) {
	a, n, file, d := pair(b, nil)
	rounds(b, "peer to peer, encrypted", "Go HTTPS file server", piecesOf(n, a, d), rangesOf(httpsServer(b, file)),
		table.Goal{AtLeast: 0.95}, table.Goal{AtMost: 1.5}, false)
}

// BenchmarkPlanePlaintext is the same in plaintext, beside nginx with its defaults and sendfile.
func BenchmarkPlanePlaintext(b *testing.B) {
	if _, err := exec.LookPath("nginx"); err != nil {
		b.Skip("nginx is not installed")
	}
	a, n, file, d := pair(b, plaintext)
	url := nginx(b, file)
	client := &http.Client{Transport: &http.Transport{DisableCompression: true, ReadBufferSize: 16 << 10}}
	b.Cleanup(client.CloseIdleConnections)
	rounds(b, "peer to peer, plaintext", "nginx", piecesOf(n, a, d), rangesOf(client, url), table.Goal{AtLeast: 0.9}, table.Goal{}, true)
}

// httpsServer serves one file over TLS 1.3, as plainly as net/http does.
func httpsServer(b *testing.B, file string) (*http.Client, string) {
	b.Helper()
	pub, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		b.Fatal(err)
	}
	cert := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour), IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}}
	raw, err := x509.CreateCertificate(rand.Reader, cert, cert, pub, key)
	if err != nil {
		b.Fatal(err)
	}
	l, err := tls.Listen("tcp", "127.0.0.1:0", &tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{raw}, PrivateKey: key}}})
	if err != nil {
		b.Fatal(err)
	}
	srv := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { http.ServeFile(w, r, file) })}
	go func() { _ = srv.Serve(l) }()
	client := &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}, DisableCompression: true}}
	b.Cleanup(func() { client.CloseIdleConnections(); _ = srv.Close() })
	return client, "https://" + l.Addr().String() + "/blob"
}

// nginx serves one file.
func nginx(b *testing.B, file string) string {
	b.Helper()
	dir := b.TempDir()
	free, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	addr := free.Addr().String()
	_ = free.Close()
	text := fmt.Sprintf("daemon off; pid %[1]s/pid; error_log stderr; user root;\nevents {}\nhttp { access_log off; sendfile on; tcp_nopush on;\n"+
		"client_body_temp_path %[1]s/b; proxy_temp_path %[1]s/p; fastcgi_temp_path %[1]s/f; uwsgi_temp_path %[1]s/u; scgi_temp_path %[1]s/s;\n"+
		"server { listen %[2]s; root %[3]s; } }\n", dir, addr, filepath.Dir(file))
	if err := os.WriteFile(filepath.Join(dir, "conf"), []byte(text), 0o600); err != nil {
		b.Fatal(err)
	}
	cmd := exec.Command("nginx", "-c", filepath.Join(dir, "conf"))
	cmd.Stderr = os.Stderr
	if err := cmd.Start(); err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() {
		_ = cmd.Process.Signal(syscall.SIGTERM) // its workers end too
		_ = cmd.Wait()
	})
	eventually(b, "nginx listens", func() bool {
		c, err := net.Dial("tcp", addr)
		if err == nil {
			_ = c.Close()
		}
		return err == nil
	})
	return "http://" + addr + "/" + filepath.Base(file)
}
