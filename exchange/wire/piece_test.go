package wire

import (
	"bytes"
	"errors"
	"net/http"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/meshd-project/meshd/exchange/swarm"
	"github.com/opencontainers/go-digest"
)

func TestAttestationHeaders(t *testing.T) {
	want := Attestation{Hash: swarm.Hash{1, 2, 31: 9}, Attester: "\x00\x24peer", Signature: bytes.Repeat([]byte{7}, signatureSize)}
	h := http.Header{}
	SetAttestation(h, want)
	got, err := ParseAttestation(h)
	if err != nil || !reflect.DeepEqual(got, want) {
		t.Fatalf("got %+v, %v", got, err)
	}
	back, err := ParseProof(want.Hash, want.Proof())
	if err != nil || !reflect.DeepEqual(back, want) {
		t.Fatalf("proof: got %+v, %v", back, err)
	}
	for _, key := range []string{headerHash, headerAttester, headerSignature} {
		for _, bad := range []string{"", "!!", strings.Repeat("A", 400)} {
			broken := h.Clone()
			broken.Set(key, bad)
			if _, err := ParseAttestation(broken); !errors.Is(err, ErrMalformed) {
				t.Errorf("%s %q: %v", key, bad, err)
			}
		}
	}
	for _, n := range []int{0, signatureSize, signatureSize + MaxPeerID + 1} {
		if _, err := ParseProof(want.Hash, make([]byte, n)); !errors.Is(err, ErrMalformed) {
			t.Errorf("proof of %d bytes: %v", n, err)
		}
	}
}

func TestAttestedTextDiffers(t *testing.T) {
	base := AttestedText(someDigest, 10, 1, swarm.Hash{1})
	for name, other := range map[string][]byte{
		"digest": AttestedText(digest.FromString("y"), 10, 1, swarm.Hash{1}),
		"size":   AttestedText(someDigest, 11, 1, swarm.Hash{1}),
		"piece":  AttestedText(someDigest, 10, 2, swarm.Hash{1}),
		"hash":   AttestedText(someDigest, 10, 1, swarm.Hash{2}),
	} {
		if bytes.Equal(base, other) {
			t.Errorf("another %s signs the same text", name)
		}
	}
}

func TestBusyHeaders(t *testing.T) {
	h := http.Header{}
	SetBusy(h, 1500*time.Millisecond, 6)
	if wait, load := ParseBusy(h); wait != 1500*time.Millisecond || load != 6 {
		t.Errorf("got %v, %d", wait, load)
	}
	h.Set(headerWait, "4000000000")
	h.Set(headerLoad, "-1")
	if wait, load := ParseBusy(h); wait != MaxWait || load != 0 {
		t.Errorf("got %v, %d", wait, load)
	}
}

func TestPiecePath(t *testing.T) {
	d, i, err := ParsePiecePath(PiecePath(someDigest, 77))
	if err != nil || d != someDigest || i != 77 {
		t.Errorf("got %s, %d, %v", d, i, err)
	}
	s := string(someDigest)
	for _, bad := range []string{
		"", "/", "/meshd/1/", "/meshd/1/" + s, "/meshd/1/" + s + "/", "/meshd/1/" + s + "/x", "/meshd/1/" + s + "/-1",
		"/meshd/1/" + s + "/01", "/meshd/1/" + s + "/+1", "/meshd/1/" + s + "/1/2", "/meshd/1/" + s + "/9999999999", "/meshd/2/" + s + "/1",
		"/meshd/1/../" + s + "/1", "/meshd/1/" + strings.ToUpper(s) + "/1", "/meshd/1/md5:00/1",
	} {
		if _, _, err := ParsePiecePath(bad); !errors.Is(err, ErrMalformed) {
			t.Errorf("%q: %v", bad, err)
		}
	}
}

// FuzzPiecePath checks that a path that parses is the path that PiecePath writes.
func FuzzPiecePath(f *testing.F) {
	f.Add(PiecePath(someDigest, 0))
	f.Add("/meshd/1/sha256:00/1")
	f.Fuzz(func(t *testing.T, path string) {
		d, i, err := ParsePiecePath(path)
		if err == nil && PiecePath(d, i) != path {
			t.Fatalf("%q reads as %s %d", path, d, i)
		}
	})
}
