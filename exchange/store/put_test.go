package store

import (
	"errors"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"
)

const manifestType = "application/vnd.oci.image.manifest.v1+json"

func TestPut(t *testing.T) {
	s := tempStore(t)
	for _, row := range []struct {
		name      string
		d         digest.Digest
		mediaType string
		data      []byte
		want      error
	}{
		{"empty", digest.FromString(""), "", nil, nil},
		{"manifest", digest.FromString("{}"), manifestType, []byte("{}"), nil},
		{"again", digest.FromString("{}"), manifestType, []byte("{}"), nil},
		{"again without type", digest.FromString("{}"), "", []byte("{}"), nil},
		{"many pieces", digest.FromBytes(sample(1, 10*kib+1)), "", sample(1, 10*kib+1), nil},
		{"sha512", digest.SHA512.FromString("{}"), manifestType, []byte("{}"), nil},
		{"wrong bytes", digest.FromString("a"), "", []byte("b"), ErrDigestMismatch},
		{"bad digest", "sha256:12", "", []byte("b"), ErrInvalid},
		{"long type", digest.FromString("a"), strings.Repeat("x", MaxMediaType+1), []byte("a"), ErrInvalid},
	} {
		t.Run(row.name, func(t *testing.T) {
			if err := s.Put(row.d, row.mediaType, row.data); !errors.Is(err, row.want) {
				t.Errorf("got %v, want %v", err, row.want)
			}
		})
	}
	for range 2 {
		if u := s.Usage(); u.Blobs != 4 || u.Bytes != 2+2+10*kib+1 {
			t.Errorf("usage %+v", u)
		}
		mustRead(t, s, sample(1, 10*kib+1))
		mustRead(t, s, nil)
		b, err := s.Get(digest.FromString("{}"))
		if err != nil || b.MediaType() != manifestType {
			t.Fatalf("media type %q, %v", b.MediaType(), err)
		}
		b.Close()
		s = s.reopened(t)
	}
}

// A manifest may come as a plain blob first; its media type is learned later.
func TestPutMediaTypeLater(t *testing.T) {
	s := tempStore(t)
	data := sample(1, 3*smallPieces)
	d := keep(t, s, data)
	if err := s.Put(d, manifestType, data); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if i, err := s.Stat(d); err != nil || i.MediaType != manifestType {
			t.Errorf("media type %q, %v", i.MediaType, err)
		}
		mustRead(t, s, data)
		s = s.reopened(t)
	}
}

func TestPutReplacesClosedPartial(t *testing.T) {
	s := tempStore(t)
	data := sample(1, 3*smallPieces)
	p := begin(t, s, data)
	fill(t, p, data, 1)
	p.Close()
	if err := s.Put(digest.FromBytes(data), "", data); err != nil {
		t.Fatal(err)
	}
	mustRead(t, s, data)
	if u := s.Usage(); u.Blobs != 1 || u.Partials != 0 || u.Bytes != 3*smallPieces {
		t.Errorf("usage %+v", u)
	}
}
