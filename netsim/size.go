package netsim

import (
	"math/bits"

	"github.com/opencontainers/go-digest"

	"github.com/meshd-project/meshd/exchange/swarm"
)

// messageSize returns the bytes of a message's frame in the format of package wire, without making it: a test
// compares the two.
func messageSize(m swarm.Message) int {
	n := 1
	switch m := m.(type) {
	case swarm.Hello:
		n += digestSize(m.Digest) + numberSize(uint64(m.Size+1)) + 2 + bitmapSize(m.Size, m.Have)
	case swarm.Have:
		n += digestSize(m.Digest) + 1 + unitsSize(m.Pieces)
	case swarm.Bye:
		n += digestSize(m.Digest) + 1
	case swarm.Join:
		n += digestSize(m.Digest) + 1
	case swarm.Members:
		n += digestSize(m.Digest) + numberSize(uint64(len(m.Peers)))
		for _, p := range m.Peers {
			n += stringSize(string(p.ID)) + stringSize(p.Zone)
		}
	case swarm.Want:
		n += digestSize(m.Digest) + numberSize(uint64(m.Size+1)) + stringSize(m.Origin.Registry) + stringSize(m.Origin.Repository)
	case swarm.Refuse:
		n += digestSize(m.Digest) + 1
	case swarm.Claim:
		n += digestSize(m.Digest) + 2 + unitsSize(m.Units)
	case swarm.Verdict:
		n += digestSize(m.Digest) + 1 + unitsSize(m.Granted) + numberSize(uint64(len(m.Denied)))
		for _, d := range m.Denied {
			n += runSize(d.Units) + stringSize(string(d.Holder)) + 1
		}
	}
	return n + numberSize(uint64(n))
}

func numberSize(v uint64) int { return max((bits.Len64(v)+6)/7, 1) }

func stringSize(s string) int { return numberSize(uint64(len(s))) + len(s) }

// digestSize is that of a code for the algorithm and the raw hash.
func digestSize(d digest.Digest) int { return 1 + len(d.Encoded())/2 }

func unitsSize(us []swarm.Units) int {
	n := numberSize(uint64(len(us)))
	for _, u := range us {
		n += runSize(u)
	}
	return n
}

func runSize(u swarm.Units) int { return numberSize(uint64(u.First)) + numberSize(uint64(u.Count)) }

func bitmapSize(size int64, b swarm.Bitmap) int {
	if size < 0 && b.Len() == 0 {
		return 0
	}
	if c := b.Count(); c == 0 || c == b.Len() {
		return 1
	}
	return 1 + (b.Len()+7)/8
}
