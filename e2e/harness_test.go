package e2e

import "testing"

// The yardstick itself: one pull straight through the counting proxy counts exactly the image, whoever pulls.
func TestProxyCountsExactly(t *testing.T) {
	need(t, "skopeo")
	r := startRegistry(t, newNetwork(t))
	img := r.pushImage(t, "library/yardstick", 99, 3*mib, 1*mib)
	d := startDocker(t, r.proxy.addr)
	pulls := []struct {
		client string
		pull   func() error
	}{
		{"crane", func() error { return cranePull(t, r.proxy.addr, img) }},
		{"skopeo", func() error { return skopeoPull(t, r.proxy.addr, img) }},
		{"dockerd", func() error { return d.pull(img) }},
	}
	before := r.proxy.counts(t).BlobBytes
	for _, p := range pulls {
		must(t, p.pull())
		after := r.proxy.counts(t).BlobBytes
		if after-before != img.size {
			t.Errorf("%s: counted %d bytes, the image has %d", p.client, after-before, img.size)
		}
		before = after
	}
}
