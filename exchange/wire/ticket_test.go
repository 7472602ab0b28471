package wire

import (
	"bytes"
	"errors"
	"net/http"
	"testing"
	"time"

	"github.com/meshd-project/meshd/exchange/swarm"
)

const ticketPath = "/meshd/1/sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855/7"

func testTicket() (Ticket, Attestation) {
	a := Attestation{Hash: swarm.Hash{1, 2}, Attester: "attester", Signature: bytes.Repeat([]byte{3}, signatureSize)}
	return NewTicket([]byte("secret"), "peer", time.Unix(1e9, 5)), a
}

func TestTicketGoesOverTheWire(t *testing.T) {
	want, _ := testTicket()
	got, err := DecodeTicket(AppendTicket(nil, want))
	if err != nil || !got.Until.Equal(want.Until) || got.Key != want.Key {
		t.Errorf("%+v, %v; want %+v", got, err, want)
	}
}

func TestTicketIsBoundToPeerTimeAndSecret(t *testing.T) {
	ticket, _ := testTicket()
	for name, other := range map[string]Ticket{
		"peer":   NewTicket([]byte("secret"), "pees", ticket.Until),
		"time":   NewTicket([]byte("secret"), "peer", ticket.Until.Add(time.Second)),
		"secret": NewTicket([]byte("secreu"), "peer", ticket.Until),
	} {
		if other.Key == ticket.Key {
			t.Errorf("another %s, the same key", name)
		}
	}
}

func TestClaim(t *testing.T) {
	ticket, _ := testTicket()
	h := http.Header{}
	ticket.SignRequest(h, "peer", ticketPath)
	c, err := ParseClaim(h)
	if err != nil || c.Peer != "peer" || !c.Until.Equal(ticket.Until) {
		t.Fatalf("%+v, %v", c, err)
	}
	if !ticket.Allows(c, ticketPath) {
		t.Error("its own claim is refused")
	}
	if ticket.Allows(c, ticketPath+"1") {
		t.Error("a claim on one path is good for another")
	}
	if NewTicket([]byte("other"), "peer", ticket.Until).Allows(c, ticketPath) {
		t.Error("a claim is good under another secret")
	}
}

func TestSeal(t *testing.T) {
	ticket, a := testTicket()
	h := http.Header{}
	ticket.SealAnswer(h, ticketPath, a)
	if !ticket.Sealed(h, ticketPath, a) {
		t.Error("its own seal is refused")
	}
	for name, change := range map[string]func(*Attestation){
		"hash":      func(a *Attestation) { a.Hash[5] = 1 },
		"attester":  func(a *Attestation) { a.Attester = "another" },
		"signature": func(a *Attestation) { a.Signature = bytes.Repeat([]byte{4}, signatureSize) },
	} {
		b := a
		change(&b)
		if ticket.Sealed(h, ticketPath, b) {
			t.Errorf("another %s under the same seal", name)
		}
	}
	if ticket.Sealed(h, ticketPath+"1", a) || ticket.Sealed(http.Header{}, ticketPath, a) {
		t.Error("another path, or no seal, is taken")
	}
}

func FuzzClaim(f *testing.F) {
	ticket, _ := testTicket()
	h := http.Header{}
	ticket.SignRequest(h, "peer", ticketPath)
	f.Add(h.Get(headerPeer), h.Get(headerUntil), h.Get(headerProof))
	f.Add("", "-1", "AAAA")
	f.Add("AA", "99999999999999999999", "")
	f.Fuzz(func(t *testing.T, id, until, proof string) {
		c, err := ParseClaim(http.Header{headerPeer: {id}, headerUntil: {until}, headerProof: {proof}})
		if err != nil {
			if !errors.Is(err, ErrMalformed) {
				t.Errorf("error %v", err)
			}
			return
		}
		if len(c.Peer) == 0 || len(c.Peer) > MaxPeerID || c.Until.Unix() < 0 {
			t.Errorf("claim %+v", c)
		}
		if NewTicket([]byte("never told"), c.Peer, c.Until).Allows(c, ticketPath) {
			t.Error("a proof without the key")
		}
	})
}

func FuzzTicket(f *testing.F) {
	ticket, _ := testTicket()
	f.Add(AppendTicket(nil, ticket))
	f.Add(make([]byte, TicketSize))
	f.Add([]byte{255})
	f.Fuzz(func(t *testing.T, b []byte) {
		ticket, err := DecodeTicket(b)
		if err != nil {
			if !errors.Is(err, ErrMalformed) {
				t.Errorf("error %v", err)
			}
			return
		}
		if !bytes.Equal(AppendTicket(nil, ticket), b) {
			t.Errorf("%x has another spelling", b)
		}
	})
}
