package origin

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/netip"
	"testing"
)

// Direct reaches the registry as it is configured, with what it is given and nothing added.
func TestDirect(t *testing.T) {
	f := newFabric(t)
	f.serve("https://harbor.example:8443", "127.0.0.1", func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Www-Authenticate", `Bearer realm="https://harbor.example/token"`)
		w.WriteHeader(http.StatusUnauthorized)
		fmt.Fprintf(w, "%s %s %q", r.Method, r.URL.Path, r.Header.Get("Authorization"))
	})
	c := f.client(Config{Registries: map[string]Registry{"harbor.example": {URL: "https://harbor.example:8443/hub", Insecure: true}}})
	base, rt, err := c.Direct("harbor.example")
	if err != nil {
		t.Fatal(err)
	}
	if base.String() != "https://harbor.example:8443/hub" {
		t.Errorf("address %s", base)
	}
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, base.String()+"/v2/a/blobs/uploads/", nil)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := rt.RoundTrip(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if body, _ := io.ReadAll(resp.Body); string(body) != `POST /hub/v2/a/blobs/uploads/ ""` || resp.StatusCode != http.StatusUnauthorized {
		t.Errorf("got %s %q", resp.Status, body)
	}

	elsewhere, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "https://other.example/", nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := rt.RoundTrip(elsewhere); !errors.Is(err, ErrRefused) { //nolint:bodyclose // there is none
		t.Errorf("another host: %v", err)
	}
	if _, _, err := c.Direct("not a host"); !errors.Is(err, ErrReference) {
		t.Errorf("a name that is none: %v", err)
	}
}

func TestGuardClient(t *testing.T) {
	for address, ok := range map[string]bool{
		"93.184.216.34:443": true, "10.0.0.1:443": true, "[fc00::1]:443": true,
		"127.0.0.1:443": false, "[::ffff:127.0.0.1]:443": false, "0.0.0.0:443": false, "169.254.169.254:80": false, "[fe80::1%1]:443": false,
	} {
		if err := GuardClient("tcp", address, nil); (err == nil) != ok {
			t.Errorf("%s: %v", address, err)
		}
	}
}

func TestOwnAddress(t *testing.T) {
	local := []netip.Addr{netip.MustParseAddr("10.0.0.5"), netip.MustParseAddr("fe80::1%eth0")}
	for address, own := range map[string]bool{
		"10.0.0.5": true, "::ffff:10.0.0.5": true, "fe80::1": true, "127.8.8.8": true, "::": true,
		"10.0.0.6": false, "93.184.216.34": false,
	} {
		if OwnAddress(netip.MustParseAddr(address), local) != own {
			t.Errorf("%s: want %v", address, own)
		}
	}
}
