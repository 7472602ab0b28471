package lab

import (
	"testing"
	"time"

	"github.com/meshd-project/meshd/netsim"
)

func load(t testing.TB, text string) *netsim.Scenario {
	t.Helper()
	s, err := netsim.Parse("x.yaml", []byte("name: x\nlayers: [{size: 1MiB}]\n"+text))
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// threeZones are a, which holds the registry, b and c, with a pipe of their own between b and c.
const threeZones = `
wan: {rtt: 30ms, out: 1MB/s, in: 2MB/s, pairs: [{a: b, b: c, rtt: 100ms, rate: 500kB/s}]}
origin: {rtt: 20ms, egress: 4MB/s}
zones: [{name: a, hosts: 1, rtt: 0s}, {name: b, hosts: 1}, {name: c, hosts: 1, out: 4MB/s, in: 1GB/s}]
`

const (
	zoneA, zoneB, zoneC, theRegistry = 0, 1, 2, 3
	packetSize                       = 1000
)

func testFabric(t testing.TB, text string) *fabric {
	t.Helper()
	s := load(t, text)
	return newFabric(s, s.Script())
}

// leaves offers n packets at a time and returns when each is through; those that are lost are missing.
func leaves(f *fabric, now time.Duration, from, to, n int) []time.Duration {
	for range n {
		f.offer(now, from, to, header{size: packetSize, payload: packetSize - 52, to: dataPort}, new([bufferSize]byte))
	}
	return drain(f)
}

func drain(f *fabric) []time.Duration {
	var at []time.Duration
	for {
		now, ok := f.next()
		if !ok {
			return at
		}
		f.advance(now, func(to int, _ *packet) {
			if to >= 0 {
				at = append(at, now)
			}
		})
	}
}

// A packet takes half the round trip, and each pipe on its way as long as its bits need there.
func TestFabricDelay(t *testing.T) {
	const ms = time.Millisecond
	for _, row := range []struct {
		name     string
		from, to int
		want     time.Duration
	}{
		{"out of a zone and into one", zoneA, zoneB, 1*ms + 15*ms + ms/2},
		{"by a pair's own pipe", zoneC, zoneB, ms/4 + 2*ms + 50*ms + ms/2},
		{"the same way back", zoneB, zoneC, 1*ms + 2*ms + 50*ms + ms/1000},
		{"from the registry to its own zone: no pipe but its egress", theRegistry, zoneA, ms/4 + 10*ms},
		{"from the registry beyond: out of its zone as well", theRegistry, zoneB, ms/4 + 1*ms + 10*ms + ms/2},
		{"to the registry", zoneB, theRegistry, 1*ms + 10*ms + ms/2},
		{"to the registry from its own zone", zoneA, theRegistry, 10 * ms},
	} {
		t.Run(row.name, func(t *testing.T) {
			f := testFabric(t, threeZones)
			if at := leaves(f, time.Second, row.from, row.to, 1); len(at) != 1 || at[0] != time.Second+row.want {
				t.Errorf("through at %v, want %v", at, time.Second+row.want)
			}
		})
	}
}

const twoZones = `
wan: {rtt: 30ms, out: 1MB/s, in: 2MB/s}
origin: {zone: ""}
zones: [{name: a, hosts: 1}, {name: b, hosts: 1}, {name: c, hosts: 1}]
`

// A pipe carries its rate, in order, whoever sends, and two that flow into one share it.
func TestFabricRate(t *testing.T) {
	f := testFabric(t, twoZones)
	at := leaves(f, 0, zoneA, zoneB, 50)
	if first, last := at[0], at[len(at)-1]; len(at) != 50 || last-first != 49*time.Millisecond {
		t.Errorf("50 packets of 1 ms each take %v", last-first)
	}
	f.out(zoneA).rate, f.out(zoneC).rate, f.in(zoneB).rate = 0, 0, 1e6
	for range 20 {
		f.offer(time.Second, zoneA, zoneB, header{size: packetSize}, new([bufferSize]byte))
		f.offer(time.Second, zoneC, zoneB, header{size: packetSize}, new([bufferSize]byte))
	}
	if at := drain(f); len(at) != 40 || at[39]-at[0] != 39*time.Millisecond {
		t.Errorf("two times 20 packets into one pipe take %v", at[39]-at[0])
	}
}

// A queue holds what its pipe sends in a tenth of a second; the rest is lost, and after a while there is room again.
func TestFabricQueueIsBounded(t *testing.T) {
	f := testFabric(t, twoZones)
	at := leaves(f, 0, zoneA, zoneB, 1000)
	if len(at) < 100 || len(at) > 102 || f.dropped != int64(1000-len(at)) {
		t.Errorf("%d of 1000 packets passed, %d dropped", len(at), f.dropped)
	}
	if again := leaves(f, time.Second, zoneA, zoneB, 10); len(again) != 10 {
		t.Errorf("a second later %d of 10 packets passed", len(again))
	}
}

// However much is offered to pipes without a limit, the fabric holds only so many packets.
func TestFabricIsBounded(t *testing.T) {
	f := testFabric(t, "wan: {out: 100GB/s, in: 1GB/s}\norigin: {zone: \"\"}\nzones: [{name: a, hosts: 1}, {name: b, hosts: 1}]\n")
	for range maxHeld + 10 {
		f.offer(0, zoneA, zoneB, header{size: 1}, nil)
	}
	if len(f.waiting) != maxHeld || f.dropped != 10 {
		t.Errorf("it holds %d packets and dropped %d", len(f.waiting), f.dropped)
	}
}

// A zone that is cut off gets and sends nothing, not even what was under way; then all is as before.
func TestFabricCutAndScale(t *testing.T) {
	f := testFabric(t, twoZones)
	f.offer(0, zoneA, zoneB, header{size: packetSize}, new([bufferSize]byte))
	f.cut(zoneB, true)
	if at := drain(f); len(at) > 0 {
		t.Errorf("what was under way arrived at %v", at)
	}
	if at := append(leaves(f, time.Second, zoneA, zoneB, 1), leaves(f, time.Second, zoneB, zoneC, 1)...); len(at) > 0 {
		t.Errorf("the cut let packets through at %v", at)
	}
	if at := leaves(f, time.Second, zoneA, zoneC, 1); len(at) != 1 {
		t.Error("the cut hit others")
	}
	f.cut(zoneB, false)
	f.scale(zoneB, 0.5)
	if at := leaves(f, 2*time.Second, zoneB, zoneA, 3); len(at) != 3 || at[2]-at[1] != 2*time.Millisecond {
		t.Errorf("at half the rate packets arrive at %v", at)
	}
}

// What comes into a zone from beyond its border is counted, with headers and without.
func TestFabricCounts(t *testing.T) {
	f := testFabric(t, "zones: [{name: a, hosts: 1}, {name: b, hosts: 1}]\n")
	const registry = 2
	leaves(f, 0, zoneB, zoneA, 3)
	leaves(f, 0, registry, zoneA, 5) // from within the zone
	leaves(f, 0, registry, zoneB, 7)
	f.offer(0, zoneA, zoneB, header{size: 100, payload: 48, from: p2pPort}, new([bufferSize]byte)) // control: only as a whole
	drain(f)
	want := []count{{3000, 3 * 948}, {7100, 7 * 948}, {}}
	for i := range want {
		if f.counts[i] != want[i] {
			t.Errorf("port %d: %+v, want %+v", i, f.counts[i], want[i])
		}
	}
}
