package store

import (
	"errors"
	"os"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"
)

// Data gives what Get gives, and nobody sees by the store that somebody looked.
func TestData(t *testing.T) {
	now := time.Unix(1e9, 0)
	s := tempStore(t)
	s.now = func() time.Time { return now }
	public := digest.FromString("{}")
	private, err := Scoped("r.example", public)
	if err != nil {
		t.Fatal(err)
	}
	for _, d := range []digest.Digest{public, private} {
		if err := s.Put(d, "", []byte("{}")); err != nil {
			t.Fatal(err)
		}
	}
	p := begin(t, s, sample(1, 3*smallPieces))
	defer p.Close()
	now = now.Add(time.Hour)
	for _, row := range []struct {
		name string
		d    digest.Digest
		most int64
		want error
	}{
		{"public", public, 2, nil},
		{"private", private, 2, nil},
		{"too large", public, 1, ErrInvalid},
		{"arriving", digest.FromBytes(sample(1, 3*smallPieces)), 1 << 20, ErrNotFound},
		{"not here", digest.FromString("x"), 2, ErrNotFound},
	} {
		data, err := s.Data(row.d, row.most)
		if !errors.Is(err, row.want) || err == nil && string(data) != "{}" {
			t.Errorf("%s: %q, %v", row.name, data, err)
		}
	}
	if i, err := s.Stat(public); err != nil || i.Used.Equal(now) || i.InUse {
		t.Errorf("%+v, %v", i, err)
	}
	path := s.paths.blob(public)
	if err := os.WriteFile(path, []byte("[]"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Data(public, 2); !errors.Is(err, ErrCorrupt) {
		t.Errorf("rotten: %v", err)
	}
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Data(public, 2); !errors.Is(err, ErrNotFound) {
		t.Errorf("gone: %v", err)
	}
}
