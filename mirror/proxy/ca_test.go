package proxy

import (
	"crypto/x509"
	"testing"
	"time"
)

func newTestCA(t testing.TB) (*CA, []byte) {
	t.Helper()
	cert, key, err := NewCA(time.Now())
	if err != nil {
		t.Fatal(err)
	}
	ca, err := ParseCA(cert, key, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	return ca, cert
}

func TestCALivesTenYears(t *testing.T) {
	ca, _ := newTestCA(t)
	years := time.Until(ca.cert.NotAfter).Hours() / 24 / 365
	if years < 9.9 || years > 10.1 {
		t.Errorf("the CA lives %.1f years, want 10", years)
	}
}

// The key of one authority does not go with the certificate of another.
func TestParseCARefusesAStrangersKey(t *testing.T) {
	cert, _, err := NewCA(time.Now())
	if err != nil {
		t.Fatal(err)
	}
	_, key, err := NewCA(time.Now())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := ParseCA(cert, key, time.Now()); err == nil {
		t.Error("it was accepted")
	}
}

func TestLeafIsGoodForItsHostOnly(t *testing.T) {
	ca, cert := newTestCA(t)
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(cert)
	for _, host := range []string{"harbor.example", "10.1.1.1", "2001:db8::1"} {
		leaf, err := ca.leaf(host, time.Now())
		if err != nil {
			t.Fatal(err)
		}
		if _, err := leaf.Leaf.Verify(x509.VerifyOptions{DNSName: host, Roots: roots}); err != nil {
			t.Errorf("%s: %v", host, err)
		}
		if _, err := leaf.Leaf.Verify(x509.VerifyOptions{DNSName: "other.example", Roots: roots}); err == nil {
			t.Errorf("the certificate of %s is good for another host", host)
		}
		if leaf.Leaf.IsCA {
			t.Errorf("the certificate of %s can sign others", host)
		}
	}
}

func TestLeavesAreKeptAndBounded(t *testing.T) {
	ca, _ := newTestCA(t)
	now := time.Now()
	leaf := func(host string, at time.Time) *x509.Certificate {
		t.Helper()
		c, err := ca.leaf(host, at)
		if err != nil {
			t.Fatal(err)
		}
		return c.Leaf
	}
	first := leaf("a.example", now)
	if leaf("a.example", now.Add(time.Hour)) != first {
		t.Error("an hour later there is another certificate")
	}
	later := now.Add(leafLife * 3 / 4)
	if second := leaf("a.example", later); second == first || !second.NotAfter.After(later.Add(leafLife/2)) {
		t.Error("a certificate is not renewed in time")
	}
	for i := range maxLeaves + 10 {
		leaf(string(rune('a'+i%26))+string(rune('a'+i/26))+".example", now)
	}
	if n := ca.leaves.Len(); n != maxLeaves {
		t.Errorf("%d certificates are kept, want %d", n, maxLeaves)
	}
	end := ca.cert.NotAfter
	if last := leaf("z.example", end.Add(-time.Hour)); last.NotAfter.After(end) {
		t.Error("a certificate outlives its authority")
	}
}
