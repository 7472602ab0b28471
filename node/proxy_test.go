package node

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
)

// The proxy leads neither to this machine nor to the node itself; a host that is named may be here, the node may not.
func TestProxyRefusesThisMachine(t *testing.T) {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { fmt.Fprint(w, "hello") }))
	defer server.Close()
	host := strings.TrimPrefix(server.URL, "http://")
	_, port, err := net.SplitHostPort(host)
	if err != nil {
		t.Fatal(err)
	}
	c := testConfig(t, "")
	for _, s := range []string{host + "=direct", "/localhost:.*/=direct", "/127\\.0\\.0\\.1:.*/=direct", "127.0.0.1=direct"} {
		var r ProxyRule
		if err := r.UnmarshalText([]byte(s)); err != nil {
			t.Fatal(err)
		}
		c.Proxy.Rules = append(c.Proxy.Rules, r)
	}
	n := launch(t, c, nil)
	proxy, err := url.Parse("http://" + n.mirrorListener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	tr := &http.Transport{Proxy: http.ProxyURL(proxy)}
	defer tr.CloseIdleConnections()
	_, p2p, _ := strings.Cut(n.host.Network().ListenAddresses()[0].String(), "/tcp/")
	for _, row := range []struct{ name, url, want string }{
		{"named", server.URL, "hello"},
		{"not named", "http://localhost:" + port, "is a loopback address"},
		{"the admin port", "http://" + n.adminListener.Addr().String() + "/v1/status", "is this node itself"},
		{"the mirror", "http://" + n.mirrorListener.Addr().String(), "is this node itself"},
		{"the data port by its name", "http://localhost:" + n.dataListener.Addr().String()[len("127.0.0.1:"):], "is this node itself"},
		{"the peers' port", "http://127.0.0.1:" + p2p, "is this node itself"},
	} {
		resp, err := (&http.Client{Transport: tr}).Get(row.url)
		if err != nil {
			t.Errorf("%s: %v", row.name, err)
			continue
		}
		body, err := io.ReadAll(resp.Body)
		resp.Body.Close()
		if err != nil || !strings.Contains(string(body), row.want) {
			t.Errorf("%s: got %q, %v; want %q", row.name, body, err, row.want)
		}
	}
}
