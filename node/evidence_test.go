package node

import (
	"crypto/rand"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/libp2p/go-libp2p/core/crypto"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/opencontainers/go-digest"

	"github.com/meshd-project/meshd/exchange"
)

// lie is evidence against a peer that has just been made.
func lie(t *testing.T, at time.Time) exchange.Evidence {
	t.Helper()
	key, _, err := crypto.GenerateEd25519Key(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	id, err := peer.IDFromPrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	e := exchange.Evidence{
		Time: at, Peer: id, Digest: digest.FromString("blob"), Size: 4, PieceSize: 4,
		Signed: strings.Repeat("ab", 32), Proven: strings.Repeat("cd", 32),
	}
	if e.Signature, err = e.Sign(key); err != nil {
		t.Fatal(err)
	}
	return e
}

func TestEvidenceIsKept(t *testing.T) {
	v := &evidence{dir: filepath.Join(t.TempDir(), "evidence")}
	if list, err := v.list(); err != nil || len(list) != 0 {
		t.Fatalf("%v, %v", list, err)
	}
	began := time.Unix(1_700_000_000, 0).UTC()
	first := lie(t, began)
	v.keep(first)
	forged := lie(t, began.Add(time.Second))
	forged.Peer = first.Peer // whom somebody wants to accuse
	v.keep(forged)
	for name, text := range map[string]string{"20231115T000000.0-x-0.json": "{", "note.txt": "x"} {
		if err := os.WriteFile(filepath.Join(v.dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	list, err := v.list()
	if err != nil || len(list) != 1 || list[0].Peer != first.Peer || list[0].Check() != nil {
		t.Fatalf("%+v, %v", list, err)
	}
	for i := range maxEvidence + 3 {
		v.keep(lie(t, began.Add(time.Duration(i+2)*time.Hour)))
	}
	names, err := v.names()
	if err != nil || len(names) != maxEvidence {
		t.Errorf("%d files, %v", len(names), err)
	}
	list, _ = v.list()
	if len(list) != maxEvidence || !list[0].Time.After(list[1].Time) {
		t.Errorf("%d proofs", len(list))
	}
}

// Evidence is read from files and from nodes: whatever it says, Check does not fall over it, and believes no forgery.
func FuzzEvidence(f *testing.F) {
	f.Add([]byte(`{"peer":"12D3KooWGsuQMHMUPCxWz8bZkfXPLDhfVu4EZVv1TpL3QbSYj5Fb","digest":"sha256:ab","size":1,"signed_hash":"ab","signature":"AA=="}`))
	f.Add([]byte(`{"peer":"","piece":-1}`))
	f.Fuzz(func(t *testing.T, raw []byte) {
		var e exchange.Evidence
		if json.Unmarshal(raw, &e) == nil && e.Check() == nil {
			t.Errorf("%s is believed", raw)
		}
	})
}
