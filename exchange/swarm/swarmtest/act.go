package swarmtest

import (
	"fmt"
	"time"

	"github.com/meshd-project/meshd/exchange/swarm"
)

// act carries out what a core asks.
func (nd *Node) act(a swarm.Action) {
	n := nd.net
	d := n.Digest
	switch a := a.(type) {
	case swarm.Send:
		if hello, ok := a.Msg.(swarm.Hello); ok && nd.Boast && hello.Size >= 0 {
			hello.Have = swarm.FullBitmap(swarm.LayoutOf(hello.Size).Pieces())
			a.Msg = hello
		}
		if to := n.node(a.To); to != nil {
			n.after(n.latency(nd, to), func() {
				switch {
				case nd.Dead || nd.parted[to.ID]:
				case to.Usurp || to.Drip > 0:
					to.usurp(nd, a.Msg)
				default:
					to.step(swarm.Received{From: nd.ID, Msg: a.Msg})
				}
			})
		}
	case swarm.FindProviders:
		n.after(5*time.Millisecond, func() { nd.step(swarm.ProvidersFound{Digest: d, Peers: n.holders(), Done: true}) })
	case swarm.OpenBlob:
		n.after(0, func() { nd.step(swarm.Held{Digest: d, Size: a.Size, Have: nd.have.Clone()}) })
	case swarm.RequestPiece:
		nd.requestPiece(a)
	case swarm.CancelPiece:
		nd.cancels[key(a.To, a.Piece)] = true
	case swarm.ServePiece:
		nd.uploads[a.Xfer](true, swarm.RefusePiece{})
	case swarm.RefusePiece:
		nd.uploads[a.Xfer](false, a)
	case swarm.FetchOrigin:
		nd.fetch(a)
	case swarm.StopOrigin:
		nd.stopped[a.Fetch] = true
	case swarm.Verify:
		n.after(time.Millisecond, nd.verify)
	case swarm.Discard:
		nd.reset()
	case swarm.Distrust:
		nd.distrust[a.Attester] = true // none is a stranger's
	case swarm.GiveUp:
		nd.Ended, nd.EndedAt = a.Reason, nd.net.now
	case swarm.Quarantine:
		nd.Shunned = append(nd.Shunned, a.Peer)
	}
}

func (n *Net) holders() (refs []swarm.MemberRef) {
	for _, nd := range n.nodes {
		if !nd.Dead && nd.Done > 0 {
			refs = append(refs, swarm.MemberRef{ID: nd.ID, Zone: nd.Zone})
		}
	}
	return refs
}

func key(to swarm.PeerID, p swarm.PieceIndex) string { return fmt.Sprint(to, "/", p) }

// requestPiece runs one piece request: latency, the provider's decision, the transfer.
func (nd *Node) requestPiece(a swarm.RequestPiece) {
	n, from, start := nd.net, nd.net.node(a.To), nd.net.now
	delete(nd.cancels, key(a.To, a.Piece))
	ended := false
	end := func(ev swarm.Event) {
		if !ended {
			ended = true
			nd.step(ev)
		}
	}
	fail := func(why swarm.Failure, wait time.Duration, load uint8) {
		end(swarm.PieceFailed{Digest: a.Digest, Piece: a.Piece, From: a.To, Why: why, Wait: wait, Load: load})
	}
	flows := false
	n.after(a.Timeout, func() {
		if !flows { // what flows has more time, as with the driver
			fail(swarm.FailedTimeout, 0, 0)
		}
	})
	lat := n.latency(nd, from)
	n.xfers++
	xfer := n.xfers
	from.uploads[xfer] = func(ok bool, busy swarm.RefusePiece) {
		if !ok {
			why := swarm.FailedBusy
			if busy.Wait == 0 {
				why = swarm.FailedNotFound
			}
			n.after(lat, func() { fail(why, busy.Wait, busy.Load) })
			return
		}
		_, size := swarm.LayoutOf(n.Size).Span(a.Piece)
		rate := n.Rate / from.Slow
		if from.Drip > 0 {
			rate = from.Drip
		}
		took := time.Duration(float64(size) / rate * float64(time.Second))
		n.after(lat, func() {
			if flows = true; !ended {
				nd.step(swarm.PieceStarted{Digest: a.Digest, Piece: a.Piece, From: a.To})
			}
		})
		if cfg := &n.Config; rate < float64(cfg.DripRate) {
			n.after(lat+cfg.DripTime, func() {
				if !ended {
					nd.step(swarm.PieceDrips{Digest: a.Digest, Piece: a.Piece, From: a.To})
				}
			})
		}
		n.after(took, func() { from.step(swarm.PieceServed{Xfer: xfer, OK: true}) })
		n.after(took+lat, func() {
			if from.Dead || nd.parted[from.ID] {
				fail(swarm.FailedReset, 0, 0)
			} else if !from.Stopped && !nd.cancels[key(a.To, a.Piece)] {
				nd.receive(a, from, size, n.now.Sub(start), end)
			}
		})
	}
	n.after(lat, func() {
		if from.Usurp {
			n.after(lat, func() { fail(from.usurpRefuses(n)) })
			return
		}
		if from.Dead || nd.parted[from.ID] {
			n.after(lat, func() { fail(swarm.FailedReset, 0, 0) })
			return
		}
		if from.Mute {
			return
		}
		if from.Drip > 0 {
			from.uploads[xfer](true, swarm.RefusePiece{})
			return
		}
		from.step(swarm.PieceRequested{From: nd.ID, Digest: a.Digest, Piece: a.Piece, Xfer: xfer})
	})
}

// receive checks and stores a piece as the driver does.
func (nd *Node) receive(a swarm.RequestPiece, from *Node, size int64, took time.Duration, end func(swarm.Event)) {
	failed := swarm.PieceFailed{Digest: a.Digest, Piece: a.Piece, From: a.To}
	by := from.by[a.Piece]
	switch {
	case from.Bad:
		failed.Why = swarm.FailedHash
		end(failed)
		return
	case nd.distrust[by]:
		failed.Why = swarm.FailedDistrusted
		end(failed)
		return
	}
	if nd.have.Has(a.Piece) {
		nd.Duplicate += size
	}
	if from.Zone == nd.Zone {
		nd.FromZone += size
	} else {
		nd.FromFar += size
	}
	nd.keep(a.Piece, by, from.wrong[a.Piece])
	end(swarm.PieceArrived{Digest: a.Digest, Piece: a.Piece, From: a.To, Hash: nd.net.hash(from.wrong[a.Piece]), Attester: by, Took: took})
}

// hash returns what is signed for a piece: the right hash, or that of the lie of who signed for wrong bytes.
func (n *Net) hash(liar swarm.PeerID) swarm.Hash {
	if liar == "" {
		return swarm.Hash{}
	}
	return swarm.Hash{1, n.node(liar).Lie}
}

// keep stores a piece that rests on by's word; liar is who made its bytes up, if somebody did.
func (nd *Node) keep(p swarm.PieceIndex, by, liar swarm.PeerID) {
	nd.have.Set(p)
	nd.by[p] = by
	if liar != "" {
		nd.wrong[p] = liar
	}
}

// fetch runs one origin request, piece by piece.
func (nd *Node) fetch(a swarm.FetchOrigin) {
	n, o, l := nd.net, &nd.net.Origin, swarm.LayoutOf(nd.net.Size)
	if o.Fail != 0 && (o.FailFor == nil || o.FailFor(nd.ID)) {
		n.after(n.Far, func() { nd.step(swarm.OriginFailed{Digest: a.Digest, Fetch: a.Fetch, Kind: o.Fail}) })
		return
	}
	noRange := o.NoRange || o.NoSize
	if noRange && a.First > 0 {
		n.after(n.Far, func() {
			nd.step(swarm.OriginFailed{Digest: a.Digest, Fetch: a.Fetch, Kind: swarm.OriginNoRange})
		})
		return
	}
	last := min(int(a.First)+int(a.Count), l.Pieces())
	if a.Count == 0 || noRange {
		last = l.Pieces()
	}
	if a.Bytes > 0 && !noRange {
		last = min(last, int(a.Bytes/l.PieceSize))
	}
	if o.NoSize {
		n.after(n.Far, func() { nd.spool(a, n.Size) })
		return
	}
	n.after(n.Far, func() {
		nd.step(swarm.OriginSized{Digest: a.Digest, Fetch: a.Fetch, Size: n.Size, Ranges: !noRange})
		n.after(0, func() { nd.read(a, int(a.First), last) })
	})
}

// spool reads all of a blob of unknown size before it says anything of it: left bytes are still to come.
func (nd *Node) spool(a swarm.FetchOrigin, left int64) {
	n := nd.net
	if nd.Hoard || nd.Dead || nd.Stopped || nd.stopped[a.Fetch] {
		return
	}
	if n.Origin.Hangs {
		n.after(30*time.Second, func() {
			if !nd.stopped[a.Fetch] {
				nd.step(swarm.OriginFailed{Digest: a.Digest, Fetch: a.Fetch, Kind: swarm.OriginUnreachable})
			}
		})
		return
	}
	if left == 0 {
		nd.step(swarm.OriginSized{Digest: a.Digest, Fetch: a.Fetch, Size: n.Size})
		n.after(0, func() { nd.read(a, 0, swarm.LayoutOf(n.Size).Pieces()) })
		return
	}
	size := min(left, 1<<20)
	n.after(time.Duration(float64(size)/n.Origin.Rate*float64(time.Second)), func() {
		n.Origin.Sent += size
		nd.FromOrigin += size
		nd.spool(a, left-size)
	})
}

func (nd *Node) read(a swarm.FetchOrigin, i, last int) {
	n := nd.net
	if i >= last {
		nd.step(swarm.OriginDone{Digest: a.Digest, Fetch: a.Fetch})
		return
	}
	_, size := swarm.LayoutOf(n.Size).Span(swarm.PieceIndex(i))
	rate := n.Origin.Rate
	if nd.Thin > 0 {
		rate = nd.Thin
	}
	took, sent := time.Duration(float64(size)/rate*float64(time.Second)), size
	if n.Origin.NoSize { // it is here already
		took, sent = 0, 0
	}
	n.after(took, func() {
		if nd.Dead || nd.stopped[a.Fetch] {
			return
		}
		n.Origin.Sent += sent
		nd.FromOrigin += sent
		liar := swarm.PeerID("")
		if n.Origin.Corrupt || nd.Liar {
			liar = nd.ID
		}
		nd.keep(swarm.PieceIndex(i), nd.ID, liar)
		nd.step(swarm.OriginPiece{Digest: a.Digest, Fetch: a.Fetch, Piece: swarm.PieceIndex(i), Hash: n.hash(liar)})
		nd.read(a, i+1, last)
	})
}

// verify checks the whole blob. A liar is content with its own lies.
func (nd *Node) verify() {
	d := nd.net.Digest
	if len(nd.wrong) > 0 && !nd.Liar {
		nd.step(swarm.VerifyFailed{Digest: d})
		return
	}
	nd.Done = nd.net.now
	for p := range nd.by {
		if !nd.Liar {
			nd.by[p] = nd.ID // as the driver: what was verified as a whole rests on the own word
		}
	}
	nd.step(swarm.Verified{Digest: d})
}

// usurp answers a message as one who says that it has all, keeps every unit for itself as arbiter, and gives nothing.
func (nd *Node) usurp(from *Node, m swarm.Message) {
	n := nd.net
	full := swarm.Hello{Digest: n.Digest, Size: n.Size, Have: swarm.FullBitmap(swarm.LayoutOf(n.Size).Pieces())}
	var answers []swarm.Message
	switch m := m.(type) {
	case swarm.Hello:
		if full.Reply = true; !m.Reply {
			answers = append(answers, full)
		}
	case swarm.Want:
		answers = append(answers, full)
	case swarm.Join:
		answers = append(answers, swarm.Members{Digest: n.Digest, Peers: []swarm.MemberRef{{ID: nd.ID, Zone: nd.Zone}}}, full)
	case swarm.Claim:
		if m.State == swarm.ClaimWant {
			v := swarm.Verdict{Digest: n.Digest, Scope: m.Scope}
			for _, u := range m.Units {
				v.Denied = append(v.Denied, swarm.Denial{Units: u, Holder: nd.ID, Done: true})
			}
			answers = append(answers, v)
		}
	}
	for _, a := range answers {
		n.after(n.latency(nd, from), func() { from.step(swarm.Received{From: nd.ID, Msg: a}) })
	}
}

// usurpRefuses is its answer to a request for a piece: busy, or not there, in turn.
func (nd *Node) usurpRefuses(n *Net) (why swarm.Failure, wait time.Duration, load uint8) {
	if n.xfers%2 == 0 {
		return swarm.FailedBusy, 30 * time.Second, 255
	}
	return swarm.FailedNotFound, 0, 0
}
