package wire

import (
	"bufio"
	"bytes"
	"errors"
	"net/http"
	"strings"
	"testing"

	"github.com/meshd-project/meshd/exchange/swarm"
)

func FuzzDecodeCard(f *testing.F) {
	for _, c := range []Card{{}, {Zone: "east", Seed: true, DataPort: 65004}, {Zone: strings.Repeat("z", 63), Relay: true}} {
		frame, err := AppendCard(nil, c)
		if err != nil {
			f.Fatal(err)
		}
		body, err := ReadFrame(bufio.NewReader(bytes.NewReader(frame)), nil)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(body)
	}
	f.Add([]byte{typeCard})
	f.Fuzz(func(t *testing.T, b []byte) {
		c, err := DecodeCard(b)
		if err != nil {
			if !errors.Is(err, ErrMalformed) {
				t.Fatal(err)
			}
			return
		}
		frame, err := AppendCard(nil, c)
		if err != nil || !bytes.HasSuffix(frame, b) {
			t.Fatalf("%x is %+v, which is written %x, %v", b, c, frame, err)
		}
	})
}

func FuzzAttestation(f *testing.F) {
	h := http.Header{}
	SetAttestation(h, Attestation{Hash: swarm.Hash{1}, Attester: "peer", Signature: bytes.Repeat([]byte{2}, signatureSize)})
	f.Add(h.Get(headerHash), h.Get(headerAttester), h.Get(headerSignature))
	f.Add("", "", "")
	f.Add(strings.Repeat("A", 64), "!!", "AA==")
	f.Fuzz(func(t *testing.T, hash, attester, signature string) {
		a, err := ParseAttestation(http.Header{headerHash: {hash}, headerAttester: {attester}, headerSignature: {signature}})
		if err != nil {
			if !errors.Is(err, ErrMalformed) {
				t.Fatal(err)
			}
			return
		}
		if a.Attester == "" || len(a.Attester) > MaxPeerID || len(a.Signature) != signatureSize {
			t.Fatalf("attester of %d bytes, signature of %d", len(a.Attester), len(a.Signature))
		}
		again, err := ParseProof(a.Hash, a.Proof())
		if err != nil || again.Attester != a.Attester || !bytes.Equal(again.Signature, a.Signature) {
			t.Fatalf("%+v is kept as %+v, %v", a, again, err)
		}
	})
}

func FuzzBusy(f *testing.F) {
	f.Add("1500", "6")
	f.Add("-1", "256")
	f.Add("99999999999", "+1")
	f.Fuzz(func(t *testing.T, ms, load string) {
		wait, n := ParseBusy(http.Header{headerWait: {ms}, headerLoad: {load}})
		if wait < 0 || wait > MaxWait {
			t.Fatalf("%q: wait %v", ms, wait)
		}
		h := http.Header{}
		SetBusy(h, wait, n)
		if w, l := ParseBusy(h); w != wait || l != n {
			t.Fatalf("%v %d is told as %v %d", wait, n, w, l)
		}
	})
}
