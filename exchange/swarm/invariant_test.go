package swarm

import (
	"fmt"
	"slices"
	"strings"

	"pgregory.net/rapid"
)

// Check fails a test if the core's books contradict each other or hold more than they may. It counts all anew, with
// plain loops; tests call it after every step.
func Check(t rapid.TB, c *Core) {
	t.Helper()
	if broken := audit(c); len(broken) > 0 {
		t.Fatalf("at %d ns:\n%s", c.now, strings.Join(broken, "\n"))
	}
}

// Broken returns the rules that a core breaks, for tests that have no rapid.TB at hand.
func Broken(c *Core) []string { return audit(c) }

// auditor collects the rules that are broken.
type auditor struct {
	c      *Core
	where  string
	broken []string
}

func audit(c *Core) []string {
	a := &auditor{c: c, where: "core"}
	a.members()
	a.blobs()
	a.uploads()
	for _, b := range c.order {
		a.where = "blob " + b.digest.Encoded()[:6]
		a.session(b)
		a.store(b)
		a.neighbours(b)
		a.availability(b)
		a.flights(b)
		a.fetches(b)
		a.claims(b)
		a.memory(b)
	}
	return a.broken
}

// rule notes that a rule is broken.
func (a *auditor) rule(holds bool, format string, args ...any) {
	if !holds {
		a.broken = append(a.broken, a.where+": "+fmt.Sprintf(format, args...))
	}
}

// members checks what is counted for each member over all blobs.
func (a *auditor) members() {
	c := a.c
	for i, m := range c.members {
		a.rule(c.member(m.ID) == m, "member %s is not the one of its id", m.ID)
		a.rule(i == 0 || c.members[i-1].ID < m.ID, "members out of order at %s", m.ID)
		asked, leases, bonds := 0, 0, 0
		for _, b := range c.order {
			for _, f := range b.flights {
				if f.to == m {
					asked++
				}
			}
			for _, l := range b.leases {
				if l.holder == m.ID {
					leases++
				}
			}
			for _, n := range b.neighbours {
				if n.m == m {
					bonds++
				}
			}
		}
		a.rule(int(m.asked) == asked, "%s counts as asked %d times, is %d times", m.ID, m.asked, asked)
		a.rule(asked <= c.cfg.PerProvider, "%d requests at %s", asked, m.ID)
		a.rule(int(m.leases) == leases, "%s counts as holder of %d leases, holds %d", m.ID, m.leases, leases)
		a.rule(m == c.me || leases <= maxLeases, "%d leases of %s", leases, m.ID)
		for n := m.near; n != nil; n = n.next {
			a.rule(n.m == m && slices.Contains(n.b.neighbours, n), "%s has a neighbourhood that is none", m.ID)
			bonds--
		}
		a.rule(bonds == 0, "%s has %d neighbourhoods more than it knows", m.ID, bonds)
	}
}

// blobs checks the lists of blobs, and that none that wants work by time is forgotten.
func (a *auditor) blobs() {
	c := a.c
	wanted := 0
	for _, b := range c.order {
		a.rule(c.blobs[b.digest] == b, "blob %s is not the one of its digest", b.digest)
		a.rule(b.live == slices.Contains(c.live, b), "blob %s counts as live: %v", b.digest, b.live)
		a.rule(b.live || !b.want || b.phase != fetching, "blob %s is fetched and never looked at", b.digest)
		a.rule(b.live || len(b.news) == 0, "news of %s is never told", b.digest)
		if b.want {
			wanted++
		}
	}
	a.rule(len(c.blobs) == len(c.order), "%d blobs, %d in order", len(c.blobs), len(c.order))
	a.rule(len(c.order) <= maxBlobs+wanted, "%d blobs", len(c.order))
	for i, b := range c.live {
		a.rule(c.blobs[b.digest] == b && !slices.Contains(c.live[:i], b), "blob %s is live twice or gone", b.digest)
	}
}

// uploads checks the requests of others against the limits.
func (a *auditor) uploads() {
	c, u := a.c, &a.c.uploads
	seen := map[uint64]bool{}
	far := map[bool]int{}
	for _, q := range u.active {
		far[q.far]++
		a.rule(!seen[q.xfer], "upload %d is there twice", q.xfer)
		seen[q.xfer] = true
	}
	a.rule(far[false] <= c.cfg.UploadSlots && far[true] <= c.cfg.FarSlots, "%d uploads into the own zone, %d into others", far[false], far[true])
	far = map[bool]int{}
	for _, q := range u.queue {
		far[q.far]++
		a.rule(!seen[q.xfer], "upload %d is there twice", q.xfer)
		seen[q.xfer] = true
		a.rule(c.member(q.to.ID) == q.to, "upload %d waits for %s, which is gone", q.xfer, q.to.ID)
	}
	a.rule(far[false] <= c.cfg.UploadQueue && far[true] <= c.cfg.ImportQueue, "%d requests of the own zone wait, %d of others", far[false], far[true])
}

// session checks that want, phase and what goes on agree.
func (a *auditor) session(b *blob) {
	a.rule(b.want == (b.phase == fetching || b.phase == verifying), "wanted: %v, phase %d", b.want, b.phase)
	if !b.want {
		a.rule(!b.relayed && len(b.readers) == 0 && len(b.asked) == 0, "unwanted, with readers or questions")
	}
	if b.phase != fetching {
		a.rule(len(b.flights) == 0 && len(b.fetches) == 0, "phase %d, with requests", b.phase)
	}
	if b.phase == verifying || b.phase == held {
		a.rule(b.opened && b.missing == 0, "phase %d, with %d pieces missing", b.phase, b.missing)
	}
	if b.opened {
		a.rule(b.size >= 0, "open, of unknown size")
	}
	for i := range b.have.Len() {
		p := PieceIndex(i)
		a.rule(!b.have.Has(p) || b.holds(p), "piece %d is held, and nobody wants it soon", i)
	}
	for _, f := range b.flights {
		a.rule(!b.unkept.on || b.cover.Has(f.piece), "piece %d is asked for too soon", f.piece)
	}
	for i, r := range b.readers {
		a.rule(!slices.ContainsFunc(b.readers[:i], func(o reader) bool { return o.id == r.id }), "reader %d is there twice", r.id)
	}
}

// store checks what is here and missing.
func (a *auditor) store(b *blob) {
	pieces := 0
	if b.size >= 0 {
		pieces = LayoutOf(b.size).Pieces()
	}
	have := 0
	for i := range pieces {
		if b.have.Has(PieceIndex(i)) {
			have++
		}
	}
	a.rule(len(b.pieces) == pieces && b.have.Len() == pieces, "%d pieces and a set of %d, want %d", len(b.pieces), b.have.Len(), pieces)
	a.rule(b.missing == pieces-have, "%d count as missing, %d are", b.missing, pieces-have)
	for _, p := range b.news {
		a.rule(b.have.Has(p), "piece %d is news and not here", p)
	}
	a.rule(len(b.news) <= pieces, "%d news of %d pieces", len(b.news), pieces)
}

// neighbours checks who they are and what is counted of each.
func (a *auditor) neighbours(b *blob) {
	near := 0
	for i, n := range b.neighbours {
		id := n.m.ID
		a.rule(i == 0 || b.neighbours[i-1].m.ID < id, "neighbours out of order at %s", id)
		a.rule(n.b == b && a.c.member(id) == n.m && n.m != a.c.me, "neighbour %s is none", id)
		a.rule(n.have.Len() == 0 || n.have.Len() == len(b.pieces), "%s has a set of %d pieces of %d", id, n.have.Len(), len(b.pieces))
		has := 0
		for p := range n.have.Len() {
			if n.have.Has(PieceIndex(p)) {
				has++
			}
		}
		a.rule(n.count == has, "%s counts as holder of %d pieces, has %d", id, n.count, has)
		if n.near && !n.m.Seed {
			near++
		}
	}
	a.rule(near <= 4*a.c.cfg.Neighbours, "%d neighbours of the zone", near)
}

// availability counts again who has each piece, and which are on their way.
func (a *auditor) availability(b *blob) {
	for i := range b.pieces {
		p := PieceIndex(i)
		near, far := 0, 0
		for _, n := range b.neighbours {
			switch {
			case !n.have.Has(p):
			case n.near:
				near++
			default:
				far++
			}
		}
		v := &b.avail
		a.rule(int(v.nearCount[i]) == near && v.near.Has(p) == (near > 0), "piece %d: %d nearby counted, %v, %d are", i, v.nearCount[i], v.near.Has(p), near)
		a.rule(int(v.farCount[i]) == far && v.far.Has(p) == (far > 0), "piece %d: %d abroad counted, %v, %d are", i, v.farCount[i], v.far.Has(p), far)
		busy := b.pieces[i].fetch != 0
		for _, f := range b.flights {
			busy = busy || f.piece == p
		}
		a.rule(v.busy.Has(p) == busy, "piece %d counts as in flight: %v", i, v.busy.Has(p))
	}
}

// flights checks the requests under way.
func (a *auditor) flights(b *blob) {
	cfg := &a.c.cfg
	flowing := 0
	for i, f := range b.flights {
		if f.flows {
			flowing++
		}
		a.rule(int(f.piece) < len(b.pieces) && !b.have.Has(f.piece), "piece %d is asked for and here or beyond the end", f.piece)
		a.rule(slices.ContainsFunc(b.neighbours, func(n *neighbour) bool { return n.m == f.to }), "piece %d is asked of %s, no neighbour", f.piece, f.to.ID)
		a.rule(i == 0 || b.flights[i-1].at <= f.at, "requests out of order at %d", i)
		same := 0
		for _, o := range b.flights[:i] {
			if o.piece == f.piece {
				same++
				a.rule(o.to != f.to, "piece %d is asked twice of %s", f.piece, f.to.ID)
			}
		}
		a.rule(same < 2, "piece %d is asked of three", f.piece)
	}
	a.rule(b.flowing == flowing, "%d count as flowing, %d are", b.flowing, flowing)
	most := 2 * (max(cfg.Outstanding, 2) + cfg.Waiting + cfg.Imports)
	a.rule(len(b.flights) <= most, "%d requests, at most %d may be", len(b.flights), most)
}

// fetches checks what comes from the origin.
func (a *auditor) fetches(b *blob) {
	a.rule(len(b.fetches) <= a.c.cfg.Fetches+1, "%d fetches", len(b.fetches))
	for i := range b.pieces {
		id := b.pieces[i].fetch
		if id == 0 {
			continue
		}
		known := slices.ContainsFunc(b.fetches, func(f *fetch) bool { return uint32(f.id) == id })
		a.rule(known, "piece %d comes with fetch %d, which there is not", i, id)
	}
}

// claims checks that each claim that waits for a verdict is watched: if not, a silent arbiter is never replaced.
func (a *auditor) claims(b *blob) {
	watched := map[unitOf]bool{}
	for _, u := range b.pending {
		watched[u] = true
		a.rule(b.claimOf(u.s, u.unit) != nil, "claim on unit %d that there is not", u.unit)
	}
	for i, cl := range b.stripes {
		a.rule(cl.state != pending || watched[unitOf{ScopeOrigin, uint32(i)}], "nobody waits for the verdict on stripe %d", i)
	}
	for i := range b.pieces {
		a.rule(b.pieces[i].zone.state != pending || watched[unitOf{ScopeZone, uint32(i)}], "nobody waits for the verdict on piece %d", i)
	}
}

// memory checks that a session takes no more than its blob and the mesh call for.
func (a *auditor) memory(b *blob) {
	members, units := len(a.c.members), len(b.pieces)+len(b.stripes)
	a.rule(len(b.joiners) <= maxJoiners, "%d joiners", len(b.joiners))
	for i, j := range b.joiners {
		a.rule(!slices.ContainsFunc(b.joiners[:i], func(o joiner) bool { return o.ID == j.ID }), "joiner %s is there twice", j.ID)
	}
	a.rule(len(b.asked) <= 2*members, "%d questions to %d members", len(b.asked), members)
	a.rule(len(b.refused) <= members+units, "%d refused of %d members", len(b.refused), members)
	a.rule(len(b.parted) <= members, "%d of %d members have parted", len(b.parted), members)
	a.rule(len(b.silent) <= 3*members+units, "%d silent of %d members", len(b.silent), members)
	a.rule(len(b.pending) <= 4*units, "%d claims wait, of %d units", len(b.pending), units)
	a.rule(len(b.importing) <= 2*len(b.pieces), "%d imports of %d pieces", len(b.importing), len(b.pieces))
	a.rule(len(b.suspects) <= (1+maxRepairs)*len(b.pieces), "%d suspects of %d pieces", len(b.suspects), len(b.pieces))
}
