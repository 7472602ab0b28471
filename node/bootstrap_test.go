package node

import (
	"testing"

	"github.com/multiformats/go-multiaddr"
)

func TestSample(t *testing.T) {
	many := make([]target, 100)
	for i := range many {
		many[i].addr = multiaddr.StringCast("/ip4/127.0.0.1/tcp/1")
	}
	for _, row := range []struct {
		name    string
		n       int
		healing bool
		want    int
	}{
		{"none", 0, false, 0},
		{"few", 2, true, 2},
		{"many, alone", 100, false, bootstrapTries},
		{"many, in company", 100, true, healTries},
	} {
		if got := len(sample(many[:row.n], row.healing)); got != row.want {
			t.Errorf("%s: %d targets, want %d", row.name, got, row.want)
		}
	}
}
