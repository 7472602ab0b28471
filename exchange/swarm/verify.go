package swarm

import (
	"slices"
	"time"
)

// maxRepairs bounds how often a blob whose SHA-256 does not match is fetched again from others.
const maxRepairs = 3

// checkWhole has a blob checked once its last piece is here.
func (c *Core) checkWhole(b *blob) {
	if b.phase != fetching || !b.opened || b.missing > 0 || b.unkept.on {
		return
	}
	b.phase = verifying
	c.leave(b)
	c.emit(Verify{Digest: b.digest})
}

// verified handles a blob that matches its digest: it is announced, and who lied about it is known.
func (c *Core) verified(e Verified) {
	b := c.blobs[e.Digest]
	if b == nil || b.phase != verifying {
		return
	}
	c.convict(b)
	b.phase, b.want, b.relayed, b.alone = held, false, false, false
	b.readers, b.asked, b.active = nil, nil, c.now
	if len(c.members) > 1 {
		c.emit(Announce{Digest: b.digest, State: Holding, Global: c.me.Seed || c.amongArbiters(b)})
	}
	c.work(b)
}

// amongArbiters reports whether this node speaks for its zone under the blob's global key.
func (c *Core) amongArbiters(b *blob) bool {
	return slices.Contains(c.arbiters(b, ScopeZone), c.me)
}

// convict isolates those whose signed piece hashes differ from the proven ones, for a day: the pair of hashes is
// the proof. Who signed the right ones is clear again.
func (c *Core) convict(b *blob) {
	for _, s := range b.suspects {
		m := c.member(s.by)
		if m != nil && int(s.piece) < len(b.pieces) && b.pieces[s.piece].hash != s.hash && !c.isolated(m) {
			c.isolate(m, 24*time.Hour, FailedAttestation)
			c.shun(m.ID)
		}
	}
	b.suspects = nil
}

// verifyFailed handles a blob whose pieces all match what their attesters signed, and that is wrong all the same:
// an attester lied or the origin is corrupt. Everything is dropped and fetched again from others. If the same hashes
// come again, or others lie too, this node believes nobody and reads all of it itself: when that is wrong too, it is the
// origin. From the first lie on only members are believed, though a stranger's word may have come from another zone.
func (c *Core) verifyFailed(e VerifyFailed) {
	b := c.blobs[e.Digest]
	if b == nil || b.phase != verifying && !(b.unkept.on && b.phase == fetching) {
		return
	}
	b.phase = fetching
	c.leave(b) // one that is not kept has requests under way
	c.emit(Discard{Digest: b.digest})
	attesters := b.attesters(c.cfg.Self)
	if len(attesters) == 0 || b.origin.Zero() {
		c.giveUp(b, GaveUpCorrupt)
		return
	}
	b.alone = b.repairs >= maxRepairs || b.sameAgain()
	b.repairs++
	for i := range b.pieces {
		if by := b.by(PieceIndex(i)); by != c.cfg.Self {
			b.suspects = append(b.suspects, suspect{piece: PieceIndex(i), hash: b.pieces[i].hash, by: by})
		}
	}
	b.clear()
	b.unkept.kept = NewBitmap(len(b.pieces))
	c.slide(b)
	for _, id := range attesters {
		c.emit(Distrust{Digest: b.digest, Attester: id})
		b.refused = append(b.refused, id)
		b.silent = append(b.silent, id)
		c.dropNeighbour(b, id)
	}
	if b.alone {
		for _, n := range b.neighbours {
			b.forgetHave(n)
		}
	} else {
		c.greetAgain(b)
	}
	c.emit(Distrust{Digest: b.digest, Strangers: true}) // a key is made in no time, and a second lie is to cost no second blob
	b.progressAt, b.renewAt, b.originDead = c.now, c.now, false
	c.work(b)
}

// attesters returns on whose words the blob's pieces rest, other than this node's own.
func (b *blob) attesters(self PeerID) []PeerID {
	var ids []PeerID
	for i := range b.pieces {
		if by := b.by(PieceIndex(i)); by != self && by != "" && indexOf(ids, by) < 0 {
			ids = append(ids, by)
		}
	}
	return ids
}

// sameAgain reports whether every piece that was suspect came again with the same hash.
func (b *blob) sameAgain() bool {
	for _, s := range b.suspects {
		if b.pieces[s.piece].hash != s.hash {
			return false
		}
	}
	return len(b.suspects) > 0
}
