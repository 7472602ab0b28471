package proxy

import (
	"io"
	"net/http"
	"net/http/httptest"
	"testing"
)

// BenchmarkBody reads 64 MiB at a time: from a server itself, through a tunnel to it, and from the mirror where TLS is
// ended here. All of them over TLS, client and server in this process.
func BenchmarkBody(b *testing.B) {
	body := make([]byte, 1<<20)
	handler := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		for range 64 {
			if _, err := w.Write(body); err != nil {
				return
			}
		}
	})
	server := httptest.NewTLSServer(handler)
	defer server.Close()
	w := newWorld(b, Config{}, handler, nil, dialTo(server.Listener.Addr(), nil))
	for _, row := range []struct {
		name, url string
		client    *http.Client
	}{
		{"straight", server.URL, server.Client()},
		{"tunnel", "https://example.com/", w.client(b, server)},
		{"mesh", "https://harbor.example/v2/a/manifests/latest", w.client(b, nil)},
	} {
		b.Run(row.name, func(b *testing.B) {
			b.SetBytes(64 << 20)
			b.ReportAllocs()
			for b.Loop() {
				resp, err := row.client.Get(row.url)
				if err != nil {
					b.Fatal(err)
				}
				n, err := io.Copy(io.Discard, resp.Body)
				resp.Body.Close()
				if err != nil || n != 64<<20 {
					b.Fatal(n, err)
				}
			}
		})
	}
}

// BenchmarkConnect is a CONNECT with its handshake and one small request: what the proxy costs each new connection.
func BenchmarkConnect(b *testing.B) {
	server := httptest.NewTLSServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	defer server.Close()
	w := newWorld(b, Config{}, func(http.ResponseWriter, *http.Request) {}, nil, dialTo(server.Listener.Addr(), nil))
	for _, row := range []struct {
		name, url string
		client    *http.Client
	}{
		{"straight", server.URL, server.Client()},
		{"tunnel", "https://example.com/", w.client(b, server)},
		{"mesh", "https://harbor.example/v2/a/manifests/latest", w.client(b, nil)},
	} {
		b.Run(row.name, func(b *testing.B) {
			for b.Loop() {
				resp, err := row.client.Get(row.url)
				if err != nil {
					b.Fatal(err)
				}
				resp.Body.Close()
				row.client.CloseIdleConnections()
			}
		})
	}
}
