package proxy

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"net"
	"time"

	lru "github.com/hashicorp/golang-lru/v2"
)

const (
	caLife = 10 * 365 * 24 * time.Hour
	// leafLife is short: a leaf costs 0.1 ms, and lives in memory only.
	leafLife = 7 * 24 * time.Hour
	// skew is how far a client's clock may be behind ours.
	skew = time.Hour
	// maxLeaves bounds the certificates kept, about 2 KiB each.
	maxLeaves = 256

	blockCert = "CERTIFICATE"
	blockKey  = "PRIVATE KEY"
)

// CAName begins the common name of every authority that NewCA makes.
const CAName = "meshd proxy"

// CA is a certificate authority of this node alone. It is safe for concurrent use.
type CA struct {
	cert    *x509.Certificate
	key     crypto.Signer
	leafKey *ecdsa.PrivateKey
	leaves  *lru.Cache[string, *tls.Certificate]
}

// NewCA makes an authority, ECDSA P-256 for 10 years from now, and returns it as PEM: the certificate and its key
// (PKCS #8).
func NewCA(now time.Time) (cert, key []byte, err error) {
	signer, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, nil, fmt.Errorf("make CA: %w", err)
	}
	serial, err := newSerial()
	if err != nil {
		return nil, nil, fmt.Errorf("make CA: %w", err)
	}
	template := &x509.Certificate{
		SerialNumber:          serial,
		Subject:               pkix.Name{CommonName: CAName + " " + hex.EncodeToString(serial.Bytes()[:4])},
		NotBefore:             now.Add(-skew),
		NotAfter:              now.Add(caLife),
		IsCA:                  true,
		BasicConstraintsValid: true,
		MaxPathLenZero:        true,
		KeyUsage:              x509.KeyUsageCertSign | x509.KeyUsageCRLSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, signer.Public(), signer)
	if err != nil {
		return nil, nil, fmt.Errorf("make CA: %w", err)
	}
	secret, err := x509.MarshalPKCS8PrivateKey(signer)
	if err != nil {
		return nil, nil, fmt.Errorf("make CA: %w", err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: blockCert, Bytes: der}), pem.EncodeToMemory(&pem.Block{Type: blockKey, Bytes: secret}), nil
}

// ParseCA reads what NewCA made. It refuses an authority that has ended, and a key that is not the certificate's.
// Errors never quote the input.
func ParseCA(cert, key []byte, now time.Time) (*CA, error) {
	pair, err := tls.X509KeyPair(cert, key)
	if err != nil {
		return nil, errors.New("certificate and key do not belong together, or are damaged")
	}
	signer, ok := pair.PrivateKey.(crypto.Signer)
	switch {
	case !ok || !pair.Leaf.IsCA:
		return nil, errors.New("the certificate is no authority")
	case now.After(pair.Leaf.NotAfter):
		return nil, fmt.Errorf("the certificate ended on %s", pair.Leaf.NotAfter.Format(time.DateOnly))
	}
	leafKey, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("make a key: %w", err)
	}
	leaves, err := lru.New[string, *tls.Certificate](maxLeaves)
	if err != nil {
		return nil, err
	}
	return &CA{cert: pair.Leaf, key: signer, leafKey: leafKey, leaves: leaves}, nil
}

// leaf returns a certificate for a host, one that is kept or a new one.
func (c *CA) leaf(host string, now time.Time) (*tls.Certificate, error) {
	if kept, ok := c.leaves.Get(host); ok && now.Before(kept.Leaf.NotAfter.Add(-leafLife/2)) {
		return kept, nil
	}
	serial, err := newSerial()
	if err != nil {
		return nil, err
	}
	end := now.Add(leafLife)
	if end.After(c.cert.NotAfter) {
		end = c.cert.NotAfter
	}
	template := &x509.Certificate{
		SerialNumber: serial,
		NotBefore:    now.Add(-skew),
		NotAfter:     end,
		KeyUsage:     x509.KeyUsageDigitalSignature,
		ExtKeyUsage:  []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	if ip := net.ParseIP(host); ip != nil {
		template.IPAddresses = []net.IP{ip}
	} else {
		template.DNSNames = []string{host}
	}
	der, err := x509.CreateCertificate(rand.Reader, template, c.cert, c.leafKey.Public(), c.key)
	if err != nil {
		return nil, fmt.Errorf("make a certificate for %s: %w", host, err)
	}
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, fmt.Errorf("make a certificate for %s: %w", host, err)
	}
	made := &tls.Certificate{Certificate: [][]byte{der, c.cert.Raw}, PrivateKey: c.leafKey, Leaf: leaf}
	c.leaves.Add(host, made)
	return made, nil
}

// config is TLS for a host, whatever name the client asks for within.
func (c *CA) config(host string) *tls.Config {
	return &tls.Config{
		MinVersion: tls.VersionTLS12,
		NextProtos: []string{"http/1.1"},
		GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) {
			return c.leaf(host, time.Now())
		},
	}
}

// newSerial returns 127 random bits, the first of them set.
func newSerial() (*big.Int, error) {
	n, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 126))
	if err != nil {
		return nil, fmt.Errorf("make a serial number: %w", err)
	}
	return n.SetBit(n, 126, 1), nil
}
