package node

import (
	"bytes"
	"io"
	"net"
	"net/http"
	neturl "net/url"
	"os"
	"sync/atomic"
	"testing"

	"github.com/opencontainers/go-digest"
)

// countingListener counts what its connections send: by the kernel from files, and copied out of this process.
type countingListener struct {
	net.Listener
	filed, copied atomic.Int64
}

func (l *countingListener) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	return countingConn{c.(*net.TCPConn), l}, nil
}

type countingConn struct {
	*net.TCPConn
	l *countingListener
}

func (c countingConn) Write(p []byte) (int, error) {
	n, err := c.TCPConn.Write(p)
	c.l.copied.Add(int64(n))
	return n, err
}

// ReadFrom tells the one shape of source that package net sends by sendfile from all others.
func (c countingConn) ReadFrom(src io.Reader) (int64, error) {
	how := &c.l.copied
	if limited, ok := src.(*io.LimitedReader); ok {
		if _, ok := limited.R.(*os.File); ok {
			how = &c.l.filed
		}
	}
	n, err := c.TCPConn.ReadFrom(src)
	how.Add(n)
	return n, err
}

// TestBlobsAreNotCopied: whatever way a blob is asked for, each byte leaves by sendfile through all that wraps the
// client's connection, and hardly more than headers is copied.
func TestBlobsAreNotCopied(t *testing.T) {
	data := bytes.Repeat([]byte("0123456789abcdef"), 200_000) // 3.2 MB: several pieces and chunks
	registry := newGuardedRegistry(t, data)
	site := newFileSite(t, 1<<20)
	c := testConfig(t, "")
	c.Seed = true
	c.Origin.Registries = []Registry{{Host: "good.test", URL: registry.URL}}
	c.Files.Gateway = []FileHost{site.host(t)}
	c.Files.Allow = c.Files.Gateway
	var sent *countingListener
	n := launch(t, c, func(n *node) {
		sent = &countingListener{Listener: n.mirrorListener}
		n.mirrorListener = sent
	})
	blob := "/v2/app/blobs/" + digest.FromBytes(data).String()
	get := func(t *testing.T, through, url, bytesWanted string) (*http.Response, []byte) {
		t.Helper()
		tr := &http.Transport{DisableCompression: true}
		if through != "" {
			tr.Proxy = func(*http.Request) (*neturl.URL, error) { return neturl.Parse(through) }
		}
		defer tr.CloseIdleConnections()
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, nil)
		if err != nil {
			t.Fatal(err)
		}
		if bytesWanted != "" {
			req.Header.Set("Range", bytesWanted)
		}
		resp, err := tr.RoundTrip(req)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		body, err := io.ReadAll(resp.Body)
		if err != nil {
			t.Fatal(err)
		}
		return resp, body
	}
	inMesh := n.mirrorURL(blob) + "?ns=good.test"
	file := n.mirrorURL("/mesh/" + site.URL + "/a.tar")
	for _, row := range []struct {
		name, through, url, bytes string
		want                      []byte
	}{
		{"cold", "", inMesh, "", data},
		{"warm", "", inMesh, "", data},
		{"range", "", inMesh, "bytes=1000000-2999999", data[1_000_000:3_000_000]},
		{"proxy", n.mirrorURL(""), "http://good.test" + blob, "", data},
		{"cold file", "", file, "", site.data},
		{"warm file", "", file, "", site.data},
	} {
		t.Run(row.name, func(t *testing.T) {
			filed, copied := sent.filed.Load(), sent.copied.Load()
			resp, body := get(t, row.through, row.url, row.bytes)
			if !bytes.Equal(body, row.want) {
				t.Fatalf("%s, %d bytes: %.200q", resp.Status, len(body), body)
			}
			const sniffed = 512 // net/http copies that much first, to look at it
			n := int64(len(row.want))
			eventually(t, "the count of what was sent", func() bool { // the client may have read what is not counted yet
				return sent.filed.Load()+sent.copied.Load() > filed+copied+n
			})
			filed, copied = sent.filed.Load()-filed, sent.copied.Load()-copied
			if filed < n-sniffed || copied > sniffed+1<<10 {
				t.Errorf("%d bytes by sendfile, %d copied, of %d", filed, copied, n)
			}
		})
	}
}
