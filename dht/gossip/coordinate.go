package gossip

import (
	"encoding/binary"
	"math"
)

// Dimensions is the number of components of a coordinate's vector.
const Dimensions = 8

// Bounds of coordinates.
const (
	maxSeconds = 10  // of any component: no round trip on earth is longer
	maxError   = 1.5 // where Vivaldi starts
	coordBytes = 4 * (Dimensions + 2)
)

// movedBy is the change of a component, in seconds, from which on the table tells of it.
const (
	movedBy      = 0.5e-3
	errorMovedBy = 0.1
)

// Coordinate is where a node believes to stand in the space of round trips (Vivaldi): the distance between two is an
// estimate of the RTT between their nodes. All but Error is in seconds.
type Coordinate struct {
	Vec    [Dimensions]float32
	Height float32 // of the node's access link, at least 0
	Error  float32 // the node's own trust in it: 0 = exact, 1.5 = none
}

// valid reports whether the numbers are finite and plausible. Whether they are true only a measurement tells.
func (c Coordinate) valid() bool {
	within := func(f float32, low, high float64) bool { return float64(f) >= low && float64(f) <= high } // NaN is not
	for _, f := range c.Vec {
		if !within(f, -maxSeconds, maxSeconds) {
			return false
		}
	}
	return within(c.Height, 0, maxSeconds) && within(c.Error, 0, maxError)
}

// fields are the numbers in their order on the wire.
func (c *Coordinate) fields() []*float32 {
	out := make([]*float32, 0, Dimensions+2)
	for i := range c.Vec {
		out = append(out, &c.Vec[i])
	}
	return append(out, &c.Height, &c.Error)
}

func (c Coordinate) append(b []byte) []byte {
	for _, f := range c.fields() {
		b = binary.BigEndian.AppendUint32(b, math.Float32bits(*f))
	}
	return b
}

func (r *reader) coordinate() *Coordinate {
	raw := r.take("coordinate", coordBytes)
	if raw == nil {
		return nil
	}
	c := &Coordinate{}
	for i, f := range c.fields() {
		*f = math.Float32frombits(binary.BigEndian.Uint32(raw[4*i:]))
	}
	if !c.valid() {
		r.fail("coordinate")
		return nil
	}
	return c
}

// near reports whether two coordinates are the same but for less than others care for.
func near(a, b *Coordinate) bool {
	if a == nil || b == nil {
		return a == b
	}
	x, y := a.fields(), b.fields()
	for i := range x {
		by := movedBy
		if x[i] == &a.Error {
			by = errorMovedBy
		}
		if math.Abs(float64(*x[i]-*y[i])) > by {
			return false
		}
	}
	return true
}
