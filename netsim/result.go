package netsim

import (
	"cmp"
	"slices"

	"github.com/meshd-project/meshd/exchange/swarm"
)

// Result is what a run showed. Times are of judged hosts, from the arrival of each: not of slow classes, liars and
// those that were killed. Copies are multiples of the image's size.
type Result struct {
	Scenario string `json:"scenario"`
	System   string `json:"system"`
	Seed     uint64 `json:"seed"`

	Nodes  int     `json:"nodes"`
	Zones  int     `json:"zones"`
	Bytes  int64   `json:"bytes"` // of the image
	BoundS float64 `json:"bound_s"`
	Bound  string  `json:"bound_by"`

	MedianS float64 `json:"median_s"`
	P99S    float64 `json:"p99_s"`
	LastS   float64 `json:"last_s"`
	// LastOverBound is LastS / BoundS, and so on.
	MedianOverBound float64 `json:"median_over_bound"`
	P99OverBound    float64 `json:"p99_over_bound"`
	LastOverBound   float64 `json:"last_over_bound"`
	EndS            float64 `json:"end_s"` // when the last host had it, from the first arrival
	FirstByteS      float64 `json:"first_byte_s"`
	FirstByteP99S   float64 `json:"first_byte_p99_s"`

	OriginCopies   float64 `json:"origin_copies"`
	OriginRequests int64   `json:"origin_requests"`
	// ZoneCopies is the mean over the zones that do not hold the origin.
	ZoneCopies    float64            `json:"zone_copies"`
	ZoneCopiesMax float64            `json:"zone_copies_max"`
	IntoZone      map[string]float64 `json:"into_zone"`
	// Duplicates is the share of the bytes moved that nobody needed: twice, wrong, or stopped on the way.
	Duplicates float64          `json:"duplicates"`
	BySource   map[string]int64 `json:"bytes_by_source"`

	Messages     int64   `json:"control_messages"`
	MessageBytes int64   `json:"control_bytes"`
	MessageShare float64 `json:"control_share"` // of the bytes moved
	Requests     int64   `json:"piece_requests"`
	Busy         int64   `json:"piece_busy"`
	// Completed and Failed are of judged hosts, the next two of slow ones and liars. GaveUp says why hosts failed that did
	// so by themselves.
	Completed       int            `json:"completed"`
	Failed          int            `json:"failed"`
	GaveUp          map[string]int `json:"gave_up,omitempty"`
	OthersCompleted int            `json:"others_completed"`
	OthersFailed    int            `json:"others_failed"`
	Killed          int            `json:"killed"`
	WrongBytes      int64          `json:"wrong_bytes"`   // in what clients were told is whole
	TaintedBytes    int64          `json:"tainted_bytes"` // that clients had before the check of the whole failed
	Quarantines     int64          `json:"quarantines"`

	Links []LinkLoad `json:"links"`

	// Verdict is there if the run stopped early.
	Verdict *StalledError `json:"verdict,omitempty"`

	WallS float64 `json:"-"` // of the run; all the others are the same for the same scenario and seed

	Curve  []float64            `json:"-"` // times of completion of judged hosts, sorted, in seconds
	Series map[string][]float64 `json:"-"` // bytes per second by source, one value each BinS
	Pipes  map[string][]float64 `json:"-"` // the same for each shared link
}

// BinS is the span of one value of a series, in seconds.
const BinS = float64(bin) / 1e9

// LinkLoad is what went through a link that many share.
type LinkLoad struct {
	Name  string  `json:"name"`
	Bytes int64   `json:"bytes"`
	Peak  float64 `json:"peak"` // highest load over a tenth of a second, as a share of the capacity; 0: no limit
}

// result gathers what a run showed.
func (w *world) result() *Result {
	t := w.t
	w.net.now = max(w.net.now, w.now)
	w.net.finish()
	r := &Result{
		Scenario: t.s.Name, System: "meshd", Seed: t.s.Seed, Nodes: len(t.nodes), Zones: len(t.s.Zones), Bytes: w.layers.bytes,
	}
	var took, first []float64
	var c counts
	for _, h := range w.hosts {
		c.plus(&h.counts)
		if t.nodes[h.id].seed || h.started == never && w.arrived[h.id] == never {
			continue
		}
		whole, byte1, ok := h.took()
		switch {
		case h.dead && !ok:
			r.Killed++
		case !t.judged(h.id) && !ok:
			r.OthersFailed++
		case !t.judged(h.id):
			r.OthersCompleted++
		case !ok:
			r.Failed++
			r.gaveUp(h.why())
		default:
			r.Completed++
			took, first = append(took, whole.Seconds()), append(first, byte1.Seconds())
			r.EndS = max(r.EndS, h.ended.Sub(begin).Seconds())
		}
	}
	r.times(took, first)
	r.traffic(w.net, &c)
	return r
}

// giveUps are what swarm.GiveUpReason means to a reader.
var giveUps = map[swarm.GiveUpReason]string{
	swarm.GaveUpOrigin:    "the origin failed and nobody else had it",
	swarm.GaveUpCorrupt:   "what came did not match the digest",
	swarm.GaveUpAbandoned: "nobody read it any more",
	swarm.GaveUpStore:     "the store could not take it",
}

// why returns the reason of the first layer that a host gave up; 0 for none.
func (h *host) why() swarm.GiveUpReason {
	for i := range h.pulls {
		if r := h.pulls[i].reason; r != 0 {
			return r
		}
	}
	return 0
}

func (r *Result) gaveUp(why swarm.GiveUpReason) {
	if why == 0 {
		return
	}
	if r.GaveUp == nil {
		r.GaveUp = map[string]int{}
	}
	r.GaveUp[giveUps[why]]++
}

func (c *counts) plus(o *counts) {
	for i := range c.in {
		c.in[i] += o.in[i]
	}
	c.dup += o.dup
	c.corrupt += o.corrupt
	c.msgs += o.msgs
	c.msgBytes += o.msgBytes
	c.fetches += o.fetches
	c.requests += o.requests
	c.busy += o.busy
	c.shunned += o.shunned
	c.wrong += o.wrong
	c.tainted += o.tainted
}

func (r *Result) times(took, first []float64) {
	slices.Sort(took)
	slices.Sort(first)
	r.Curve = took
	r.MedianS, r.P99S, r.LastS = quantile(took, 0.5), quantile(took, 0.99), quantile(took, 1)
	r.FirstByteS, r.FirstByteP99S = quantile(first, 0.5), quantile(first, 0.99)
}

// bounded sets the bound and the ratios to it.
func (r *Result) bounded(b Bound) {
	r.BoundS, r.Bound = b.Time.Seconds(), b.By
	if r.BoundS > 0 {
		r.MedianOverBound, r.P99OverBound, r.LastOverBound = r.MedianS/r.BoundS, r.P99S/r.BoundS, r.LastS/r.BoundS
	}
}

// quantile returns the value of a sorted list below which a share q of it lies; 0 for none.
func quantile(sorted []float64, q float64) float64 {
	if len(sorted) == 0 {
		return 0
	}
	return sorted[int(float64(len(sorted)-1)*q)]
}

// traffic sums up what the network carried.
func (r *Result) traffic(f *fluid, c *counts) {
	l := &f.load
	r.copies(f.t.s, int(f.t.home), l.origin, l.into)
	r.OriginRequests = c.fetches
	if moved := float64(l.total); moved > 0 {
		r.Duplicates, r.MessageShare = float64(l.wasted+c.dup+c.corrupt)/moved, float64(c.msgBytes)/moved
	}
	r.BySource = map[string]int64{}
	for i, name := range sourceNames {
		r.BySource[name] = c.in[i]
	}
	r.Messages, r.MessageBytes = c.msgs, c.msgBytes
	r.Requests, r.Busy, r.Quarantines = c.requests, c.busy, c.shunned
	r.WrongBytes, r.TaintedBytes = c.wrong, c.tainted
	r.series(f)
}

// series names what went through the shared links, over time.
func (r *Result) series(f *fluid) {
	r.Series, r.Pipes = map[string][]float64{}, map[string][]float64{}
	for i, name := range sourceNames {
		r.Series[name] = perSecond(f.load.bySource[i])
	}
	for l, bytes := range f.load.links {
		if l < 2*len(f.t.nodes) || bytes == 0 {
			continue
		}
		name := f.linkName(int32(l))
		rates := perSecond(f.load.pipes[int32(l)])
		r.Pipes[name] = rates
		load := LinkLoad{Name: name, Bytes: bytes}
		if cap := f.caps[l]; cap > 0 && cap < 1e15 {
			load.Peak = slices.Max(rates) / cap
		}
		r.Links = append(r.Links, load)
	}
	slices.SortFunc(r.Links, func(a, b LinkLoad) int { return cmp.Compare(a.Name, b.Name) })
}

func perSecond(bins []float64) []float64 {
	out := make([]float64, len(bins))
	for i, b := range bins {
		out[i] = b / BinS
	}
	return out
}

func (f *fluid) linkName(l int32) string {
	zones := int32(len(f.t.s.Zones))
	switch {
	case l == f.egress():
		return "origin"
	case l > f.egress():
		k := l - f.egress() - 1
		return f.t.s.Zones[k/zones].Name + " to " + f.t.s.Zones[k%zones].Name
	case (l-f.pipeOut(0))%2 == 0:
		return "out of " + f.t.s.Zones[(l-f.pipeOut(0))/2].Name
	}
	return "into " + f.t.s.Zones[(l-f.pipeOut(0))/2].Name
}
