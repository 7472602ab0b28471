package netsim

import (
	_ "crypto/sha256" // digests are made of it
	"fmt"

	"github.com/opencontainers/go-digest"

	"github.com/meshd-project/meshd/exchange/swarm"
)

// layer is a blob of the scenario.
type layer struct {
	digest digest.Digest
	layout swarm.Layout
}

// layers lists the blobs of a scenario, and finds them by digest.
type layers struct {
	list  []layer
	index map[digest.Digest]int32
	bytes int64 // of all
}

func newLayers(s *Scenario) *layers {
	l := &layers{index: map[digest.Digest]int32{}}
	for i, spec := range s.Layers {
		for k := range spec.Count {
			d := digest.FromString(fmt.Sprintf("%s %d %d %d", s.Name, s.Seed, i, k))
			l.index[d] = int32(len(l.list))
			l.list = append(l.list, layer{digest: d, layout: swarm.LayoutOf(int64(spec.Size))})
			l.bytes += int64(spec.Size)
		}
	}
	return l
}

// find returns the index of a blob, -1 if it is none of the scenario's.
func (l *layers) find(d digest.Digest) int32 {
	if len(l.list) == 1 && l.list[0].digest == d {
		return 0
	}
	if i, ok := l.index[d]; ok {
		return i
	}
	return -1
}

// disk is what a node has of a blob.
type disk struct {
	have   swarm.Bitmap
	count  int
	by     []int32 // attester of each piece; -1: found on the own disk
	wrong  swarm.Bitmap
	wrongs int
}

func newDisk(pieces int) disk {
	return disk{have: swarm.NewBitmap(pieces), by: make([]int32, pieces)}
}

// keep stores a piece.
func (d *disk) keep(i swarm.PieceIndex, by int32, bad bool) {
	if d.have.Has(i) {
		return
	}
	d.have.Set(i)
	d.count++
	d.by[i] = by
	if bad {
		if d.wrong.Len() == 0 {
			d.wrong = swarm.NewBitmap(d.have.Len())
		}
		d.wrong.Set(i)
		d.wrongs++
	}
}

func (d *disk) full() bool { return d.count == d.have.Len() }
