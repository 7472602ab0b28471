package node

import (
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/meshd-project/meshd/dht/gossip"
)

func TestZoneInLabels(t *testing.T) {
	for _, row := range []struct {
		name, text, want, err string
	}{
		{"one word", "fra1\n", "fra1", ""},
		{"downward API", "app=\"meshd\"\ntopology.kubernetes.io/region=\"eu\"\ntopology.kubernetes.io/zone=\"eu-central-1a\"\n", "eu-central-1a", ""},
		{"plain value", "topology.kubernetes.io/zone = fra1", "fra1", ""},
		{"upper case", "topology.kubernetes.io/zone=\"UKSouth-1\"", "uksouth-1", ""},
		{"JSON", `{"topology.kubernetes.io/zone": "fra1", "n": 1}`, "fra1", ""},

		{"nothing", "", "", "no label"},
		{"other labels", "app=\"meshd\"\n", "", "no label"},
		{"two words", "fra1 fra2", "", "no label"},
		{"empty value", "topology.kubernetes.io/zone=\"\"", "", "names no zone"},
		{"not a name", "topology.kubernetes.io/zone=\"a b\"", "", "names no zone"},
		{"JSON without it", `{"a": "b"}`, "", "no label"},
		{"JSON of another type", `{"topology.kubernetes.io/zone": 3}`, "", "no label"},
		{"JSON cut off", `{"a": "b"`, "", "JSON"},
		{"zone of the undecided", "default", "", "until they have found theirs"},
		{"too long", strings.Repeat("a", 64), "", "names no zone"},
	} {
		t.Run(row.name, func(t *testing.T) {
			got, err := zoneInLabels(row.text)
			if got != row.want || (err == nil) != (row.err == "") || err != nil && !strings.Contains(err.Error(), row.err) {
				t.Errorf("got %q, %v, want %q, %q", got, err, row.want, row.err)
			}
		})
	}
}

func FuzzZoneInLabels(f *testing.F) {
	f.Add("fra1")
	f.Add("topology.kubernetes.io/zone=\"a\\\"b\"")
	f.Add(`{"topology.kubernetes.io/zone": "fra1"}`)
	f.Fuzz(func(t *testing.T, text string) {
		zone, err := zoneInLabels(text)
		if (err == nil) != gossip.ValidZone(zone) {
			t.Errorf("%q, %v", zone, err)
		}
	})
}

func TestZoneFromFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "labels")
	if _, err := zoneFrom(t.Context(), "file:"+path, nil); err == nil || !strings.Contains(err.Error(), path) {
		t.Errorf("no file: %v", err)
	}
	if err := os.WriteFile(path, []byte("zone9"), 0o600); err != nil {
		t.Fatal(err)
	}
	if got, err := zoneFrom(t.Context(), "file:"+path, nil); err != nil || got != "zone9" {
		t.Errorf("got %q, %v", got, err)
	}
}

// fakeMetadata answers as the three clouds do, and only to those who ask as they want it.
func fakeMetadata(azure string) http.Handler {
	mux := http.NewServeMux()
	need := func(header, value, body string) http.HandlerFunc {
		return func(w http.ResponseWriter, r *http.Request) {
			if r.Header.Get(header) != value {
				http.Error(w, "no", http.StatusUnauthorized)
				return
			}
			w.Write([]byte(body)) //nolint:errcheck
		}
	}
	mux.HandleFunc("PUT /latest/api/token", need("X-aws-ec2-metadata-token-ttl-seconds", "60", "s3cret"))
	mux.HandleFunc("GET /latest/meta-data/placement/availability-zone", need("X-aws-ec2-metadata-token", "s3cret", "eu-central-1a"))
	mux.HandleFunc("GET /computeMetadata/v1/instance/zone", need("Metadata-Flavor", "Google", "projects/12/zones/europe-west3-c"))
	mux.HandleFunc("GET /metadata/instance/compute", need("Metadata", "true", azure))
	return mux
}

func TestZoneFromClouds(t *testing.T) {
	for _, row := range []struct{ cloud, azure, want string }{
		{"aws", "", "eu-central-1a"},
		{"gcp", "", "europe-west3-c"},
		{"azure", `{"location": "westeurope", "zone": "2", "vmId": "x"}`, "westeurope-2"},
		{"azure", `{"location": "westeurope", "zone": ""}`, "westeurope"},
		{"azure", `{}`, ""},
		{"azure", `<html>`, ""},
	} {
		t.Run(row.cloud+row.azure, func(t *testing.T) {
			s := httptest.NewServer(fakeMetadata(row.azure))
			defer s.Close()
			got, err := zoneFrom(t.Context(), row.cloud, newMetadata(s.URL, time.Minute))
			if got != row.want || (err == nil) != (row.want != "") {
				t.Errorf("got %q, %v, want %q", got, err, row.want)
			}
		})
	}
}

func TestMetadataThatFails(t *testing.T) {
	var asked atomic.Int32
	for name, h := range map[string]http.HandlerFunc{
		"refuses": func(w http.ResponseWriter, _ *http.Request) { http.Error(w, "s3cret", http.StatusForbidden) },
		"redirects": func(w http.ResponseWriter, r *http.Request) {
			asked.Add(1)
			http.Redirect(w, r, "/elsewhere", http.StatusFound)
		},
		"says nothing": func(_ http.ResponseWriter, r *http.Request) {
			<-r.Context().Done()
		},
	} {
		t.Run(name, func(t *testing.T) {
			s := httptest.NewServer(h)
			defer s.Close()
			began := time.Now()
			got, err := zoneFrom(t.Context(), "gcp", newMetadata(s.URL, 100*time.Millisecond))
			if err == nil || strings.Contains(err.Error(), "s3cret") {
				t.Errorf("got %q, %v", got, err)
			}
			if d := time.Since(began); d > 10*time.Second {
				t.Errorf("it took %v", d)
			}
		})
	}
	if n := asked.Load(); n != metadataTries {
		t.Errorf("asked %d times: redirects are not followed", n)
	}
}
