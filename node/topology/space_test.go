package topology

import (
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"

	"github.com/meshd-project/meshd/dht/gossip"
)

// world is a matrix of RTTs with noise: nodes in places, the same for the same seed.
type world struct {
	rng   *rand.Rand
	place []int
	base  [][]time.Duration
}

// between are the RTTs between three places.
var between = [3][3]time.Duration{
	{0, 12 * time.Millisecond, 85 * time.Millisecond},
	{12 * time.Millisecond, 0, 95 * time.Millisecond},
	{85 * time.Millisecond, 95 * time.Millisecond, 0},
}

func newWorld(n int, seed uint64) *world {
	w := &world{rng: rand.New(rand.NewPCG(seed, 1)), base: make([][]time.Duration, n)}
	for i := range n {
		w.place = append(w.place, i%3)
		w.base[i] = make([]time.Duration, n)
		for j := range i {
			d := between[i%3][j%3] + 200*time.Microsecond + time.Duration(w.rng.IntN(600))*time.Microsecond
			w.base[i][j], w.base[j][i] = d, d
		}
	}
	return w
}

// ping is one round: queues add up to a tenth and 0.3 ms, one in twenty adds up to 40 ms.
func (w *world) ping(i, j int) time.Duration {
	d := w.base[i][j]
	d += time.Duration(w.rng.Float64() * (float64(d)/10 + 3e5))
	if w.rng.IntN(20) == 0 {
		d += time.Duration(w.rng.IntN(40)) * time.Millisecond
	}
	return d
}

func testID(i int) peer.ID { return peer.ID(fmt.Sprintf("node-%03d", i)) }

// walker is a node of a simulated coordinate space.
type walker struct {
	*space
	strikes []int
	rtts    []samples
	lie     func(gossip.Coordinate) gossip.Coordinate // what it says, nil = the truth
	delay   time.Duration                             // that it adds to the pings of others
}

func (w *walker) says() *gossip.Coordinate {
	c := w.own()
	if w.lie != nil {
		c = w.lie(c)
	}
	return &c
}

func walkers(n int) []*walker {
	var out []*walker
	for i := range n {
		out = append(out, &walker{space: newSpace(testID(i)), strikes: make([]int, n), rtts: make([]samples, n)})
	}
	return out
}

// walk has each node sample rounds others.
func (w *world) walk(nodes []*walker, rounds int) {
	for range rounds {
		for i, a := range nodes {
			if j := w.rng.IntN(len(nodes)); j != i {
				a.rtts[j].add(w.ping(i, j)+nodes[j].delay, time.Time{})
				a.sample(testID(j), nodes[j].says(), a.rtts[j].least(), &a.strikes[j])
			}
		}
	}
}

// off are the relative errors of the estimates between honest nodes of different places, sorted.
func (w *world) off(nodes []*walker) (across []float64, within []time.Duration) {
	for i, a := range nodes {
		for j, b := range nodes[:i] {
			if a.lie != nil || b.lie != nil || a.delay+b.delay > 0 {
				continue
			}
			est, _ := a.estimate(b.says(), 0)
			if w.place[i] == w.place[j] {
				within = append(within, est)
			} else {
				across = append(across, math.Abs(float64(est-w.base[i][j]))/float64(w.base[i][j]))
			}
		}
	}
	slices.Sort(across)
	slices.Sort(within)
	return across, within
}

func quantile[T any](sorted []T, q float64) T { return sorted[int(q*float64(len(sorted)-1))] }

func TestCoordinatesEstimateRTT(t *testing.T) {
	w := newWorld(60, 1)
	nodes := walkers(60)
	if est, _ := nodes[0].estimate(nodes[1].says(), 0); est != 0 {
		t.Errorf("an estimate of %v before any sample", est)
	}
	for _, rounds := range []int{50, 50, 100, 200} {
		w.walk(nodes, rounds)
		across, within := w.off(nodes)
		t.Logf("%d samples more: across off by %.0f %% (median), %.0f %% (p90); within %v, %v",
			rounds, 100*quantile(across, .5), 100*quantile(across, .9), quantile(within, .5), quantile(within, .9))
	}
	across, within := w.off(nodes)
	if m, p := quantile(across, .5), quantile(across, .9); m > 0.05 || p > 0.1 {
		t.Errorf("estimates between places are off by %.2f (median), %.2f (p90)", m, p)
	}
	if p := quantile(within, .9); p > 4*time.Millisecond {
		t.Errorf("estimates within a place reach %v", p)
	}
}

// A few liars neither spoil the estimates between others nor keep what their coordinates gain them.
func TestLiarsInTheSpace(t *testing.T) {
	far := gossip.Coordinate{Error: 0}
	for i := range far.Vec {
		far.Vec[i] = 10
	}
	for _, row := range []struct {
		name   string
		lie    func(gossip.Coordinate) gossip.Coordinate
		delay  time.Duration
		caught bool // its coordinate is distrusted by those who measured it
	}{
		{"beyond everything", func(gossip.Coordinate) gossip.Coordinate { return far }, 0, true},
		{"at the origin", func(gossip.Coordinate) gossip.Coordinate { return gossip.Coordinate{} }, 0, false},
		{"somewhere else, sure of it", func(c gossip.Coordinate) gossip.Coordinate {
			c.Vec[0] += 0.3
			c.Error = 0
			return c
		}, 0, true},
		{"somewhere else, unsure", func(c gossip.Coordinate) gossip.Coordinate {
			c.Vec[0] += 0.3
			c.Error = 1.5
			return c
		}, 0, false},
		{"slow to answer", nil, 3 * time.Second, false},
	} {
		t.Run(row.name, func(t *testing.T) {
			w := newWorld(60, 2)
			nodes := walkers(60)
			liars := []int{7, 23, 41}
			for _, l := range liars {
				nodes[l].lie, nodes[l].delay = row.lie, row.delay
			}
			w.walk(nodes, 1000)
			across, within := w.off(nodes)
			if m, p := quantile(across, .5), quantile(within, .9); m > 0.1 || p > 12*time.Millisecond {
				t.Errorf("estimates of the honest are off by %.2f (median), reach %v within a place", m, p)
			}
			t.Logf("honest across off by %.0f %%, within reach %v", 100*quantile(across, .5), quantile(within, .9))
			if !row.caught {
				return
			}
			measured, caught := 0, 0
			for i, a := range nodes {
				for _, l := range liars {
					if a.rtts[l].count < 2*distrustAt || slices.Contains(liars, i) {
						continue
					}
					measured++
					if est, _ := a.estimate(nodes[l].says(), a.strikes[l]); est == 0 {
						caught++
					}
				}
			}
			if measured < 10 || 10*caught < 8*measured {
				t.Errorf("%d of %d who measured a liar distrust it", caught, measured)
			}
		})
	}
}

// However wild the samples, the own coordinate moves by bounded steps and stays one that may be told.
func TestStepsAreBounded(t *testing.T) {
	s := newSpace("self")
	rng := rand.New(rand.NewPCG(3, 3))
	for range 2000 {
		said := &gossip.Coordinate{Error: rng.Float32() * 1.5, Height: rng.Float32() * 10}
		for i := range said.Vec {
			said.Vec[i] = (rng.Float32() - 0.5) * 20 * rng.Float32()
		}
		rtt := time.Duration(rng.Int64N(int64(12 * time.Second)))
		if rng.IntN(2) == 0 {
			rtt /= 100
		}
		before := s.client.GetCoordinate()
		strikes := 0
		s.sample("liar", said, rtt, &strikes)
		after := s.client.GetCoordinate()
		var moved float64
		for i := range after.Vec {
			moved += (after.Vec[i] - before.Vec[i]) * (after.Vec[i] - before.Vec[i])
		}
		if step := math.Sqrt(moved); step > maxStep.Seconds()+1e-9 {
			t.Fatalf("a sample of %v moved it by %.3f s", rtt, step)
		}
		if h := after.Height - before.Height; math.Abs(h) > maxStep.Seconds()+1e-9 {
			t.Fatalf("a sample of %v moved the height by %.3f s", rtt, h)
		}
	}
	if c := s.own(); !(c.Error >= 0 && c.Error <= 1.5 && c.Height >= 0) {
		t.Errorf("own coordinate %+v", c)
	}
}

func TestSamplesThatAreNone(t *testing.T) {
	s := newSpace("self")
	before := s.own()
	strikes := 0
	s.sample("x", nil, time.Millisecond, &strikes)
	s.sample("x", &gossip.Coordinate{}, 0, &strikes)
	s.sample("x", &gossip.Coordinate{}, 20*time.Second, &strikes)
	if s.own() != before || strikes != 0 {
		t.Errorf("moved to %+v, %d strikes", s.own(), strikes)
	}
	if rtt, _ := s.estimate(&gossip.Coordinate{Error: 0.6}, 0); rtt != 0 {
		t.Errorf("estimated %v", rtt)
	}
}

// settled returns a map whose own coordinate is at the origin and trusted.
func settled() *Map {
	m := lone(Config{})
	at := m.space.client.GetCoordinate()
	clear(at.Vec)
	at.Error = 0.1
	if err := m.space.client.SetCoordinate(at); err != nil {
		panic(err)
	}
	return m
}

// standing is a member that says it stands x seconds from the origin.
func standing(id string, x, doubt float32) gossip.Member {
	return gossip.Member{ID: peer.ID(id), Zone: "a", Coord: &gossip.Coordinate{Vec: [gossip.Dimensions]float32{x}, Error: doubt}}
}

func TestStrangersInTheOrderOfTheirDistance(t *testing.T) {
	m := settled()
	for _, g := range []gossip.Member{
		standing("far", 0.1, 0.1), standing("near but unsure", 0.020, 0.49), standing("near", 0.021, 0.1),
		standing("nearest, knows nothing", 0.001, 0.6),
		{ID: "silent"},
	} {
		m.Changed(g)
	}
	var list []*entry
	for _, e := range m.peers {
		list = append(list, e)
	}
	var got []peer.ID
	for _, e := range m.nearest(list, 3) {
		got = append(got, e.id)
	}
	if want := []peer.ID{"near", "near but unsure", "far"}; !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
}

// Who says that it is near gains a first contact at most.
func TestMeasuredRTTOverrides(t *testing.T) {
	m := settled()
	m.Changed(standing("liar", 0.001, 0))
	at := func() Member { return m.Members()[0] }
	if v := at(); v.RTT != 0 || v.Estimate < time.Millisecond || v.Distance() <= v.Estimate {
		t.Errorf("before contact: %+v", v)
	}
	e := m.peers["liar"]
	for range distrustAt {
		e.rtts.add(300*time.Millisecond, time.Now())
		m.space.sample(e.id, e.member.Coord, e.rtts.least(), &e.strikes)
	}
	if v := at(); v.Distance() != 300*time.Millisecond || v.Estimate != 0 || v.Rounds != distrustAt || !v.Distrust {
		t.Errorf("measured: %+v", v)
	}
	e.rtts = samples{} // as when the connection breaks
	if v := at(); v.Distance() != 0 {
		t.Errorf("what it says is believed again: %+v", v)
	}
}
