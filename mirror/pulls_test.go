package mirror

import (
	"net/http/httptest"
	"testing"
)

func TestPulls(t *testing.T) {
	const d = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
	for _, row := range []struct {
		method, url string
		want        bool
	}{
		{"GET", "/v2/a/manifests/latest", true},
		{"HEAD", "/v2/a/manifests/" + d, true},
		{"GET", "/v2/a/b/blobs/" + d, true},
		{"GET", "/v2/a/tags/list?n=10", true},
		{"GET", "/v2/a/referrers/" + d, true},
		{"GET", "https://harbor.example/v2/a/manifests/latest", true},
		{"GET", "/v2/", false},
		{"GET", "/v2/a/manifests/latest?ns=docker.io", false},
		{"GET", "/v2/a/manifests/latest?a=%zz", false},
		{"PUT", "/v2/a/manifests/latest", false},
		{"POST", "/v2/a/blobs/uploads/", false},
		{"GET", "/v2/a/blobs/uploads/7", false},
		{"GET", "/v2/_catalog", false},
		{"GET", "/service/token", false},
		{"GET", "/v2/a%2Fb/manifests/latest", false},
	} {
		if got := new(Mirror).Pulls(httptest.NewRequest(row.method, row.url, nil)); got != row.want {
			t.Errorf("%s %s: %v", row.method, row.url, got)
		}
	}
}
