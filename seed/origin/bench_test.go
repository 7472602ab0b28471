package origin

import (
	"context"
	"crypto/tls"
	"io"
	"net/http"
	"net/http/httptest"
	"strconv"
	"sync"
	"testing"
)

const benchSize = 64 << 20

var benchBytes = make([]byte, 1<<20)

func serveBench(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Length", strconv.Itoa(benchSize))
	for range benchSize / len(benchBytes) {
		if _, err := w.Write(benchBytes); err != nil {
			return
		}
	}
}

// readBlobs reads n blobs at once, each into pieces of 1 MiB.
func readBlobs(b *testing.B, c *Client, n int) {
	b.SetBytes(int64(n) * benchSize)
	b.ReportAllocs()
	for b.Loop() {
		var wg sync.WaitGroup
		for range n {
			wg.Go(func() {
				body, err := c.Blob(context.Background(), wholeBlob())
				if err != nil {
					b.Error(err)
					return
				}
				defer body.Close()
				piece := make([]byte, 1<<20)
				for {
					if _, err := io.ReadFull(body, piece); err == io.EOF {
						return
					} else if err != nil {
						b.Error(err)
						return
					}
				}
			})
		}
		wg.Wait()
	}
}

// BenchmarkBlob is one blob over plain HTTP; ours against net/http's client.
func BenchmarkBlob(b *testing.B) {
	srv := httptest.NewServer(http.HandlerFunc(serveBench))
	defer srv.Close()
	b.Run("client=ours", func(b *testing.B) {
		c, err := New(Config{Registries: map[string]Registry{"reg.test": {URL: srv.URL}}})
		if err != nil {
			b.Fatal(err)
		}
		defer c.Close()
		readBlobs(b, c, 1)
	})
	b.Run("client=net-http", func(b *testing.B) {
		b.SetBytes(benchSize)
		piece := make([]byte, 1<<20)
		for b.Loop() {
			resp, err := srv.Client().Get(srv.URL)
			if err != nil {
				b.Fatal(err)
			}
			for err == nil {
				_, err = io.ReadFull(resp.Body, piece)
			}
			resp.Body.Close()
		}
	})
}

// BenchmarkBlobProtocol is four blobs at once over TLS: why we speak HTTP/1.1.
func BenchmarkBlobProtocol(b *testing.B) {
	for _, protocol := range []string{"HTTP1", "HTTP2"} {
		b.Run("protocol="+protocol, func(b *testing.B) {
			srv := httptest.NewUnstartedServer(http.HandlerFunc(serveBench))
			srv.EnableHTTP2 = protocol == "HTTP2"
			srv.StartTLS()
			defer srv.Close()
			c, err := New(Config{Registries: map[string]Registry{"reg.test": {URL: srv.URL}}})
			if err != nil {
				b.Fatal(err)
			}
			defer c.Close()
			n := newNetwork(c.cfg, dialGuarded(c.cfg.DialTimeout), &tls.Config{RootCAs: srv.Client().Transport.(*http.Transport).TLSClientConfig.RootCAs})
			inner := n.make
			n.make = func(r reach) *http.Transport {
				t := inner(r)
				t.Protocols.SetHTTP1(protocol == "HTTP1")
				t.Protocols.SetHTTP2(protocol == "HTTP2")
				return t
			}
			c.listed["reg.test"].net = n
			readBlobs(b, c, 4)
		})
	}
}
