// Package swarm decides how a node takes part in the distribution of blobs: which piece to ask of whom, whom to
// serve, who goes to the origin, who brings a piece into a zone, whom to distrust. It decides and does nothing:
// package exchange obeys it on the real network and package netsim on a virtual one, so that what a simulation
// shows is a statement about what ships.
//
// # Contract
//
// The core is a pure state machine. It owns no goroutine, lock, clock, file, socket, log or global randomness, and
// no decision depends on the order of a map: the same seed and the same events at the same times give the same
// actions. One goroutine drives it:
//
//	core := swarm.New(cfg, seed)
//	for {
//		var alarm <-chan time.Time
//		if at, ok := core.Deadline(); ok {
//			alarm = time.After(at.Sub(now()))
//		}
//		var ev swarm.Event
//		select {
//		case ev = <-inbox:
//		case <-alarm:
//			ev = swarm.Tick{}
//		case <-ctx.Done():
//			return
//		}
//		for _, a := range core.Step(now(), ev, nil) {
//			carryOut(a) // never blocks; what comes of it is an event in the inbox
//		}
//	}
//
// The driver names a peer by Member before it hands over anything from it, tells Held before the first message
// about a blob that its store has, verifies each piece against its attested hash before PieceArrived, and has
// stored a piece before it says so.
//
// # What it decides
//
// A blob is cut into pieces by a pure function of its size (LayoutOf). A session goes through discovery, swarming,
// the check of the whole, and serving.
//
// Every byte leaves the origin once and enters each zone once because whoever brings a unit in holds a lease on it.
// Units are stripes of 16 MiB at the origin and single pieces at the border of a zone. The lease is kept by the
// unit's arbiter: the node that rendezvous hashing puts first among a small set which everybody who knows the same
// members computes alike. For the origin that set is the seeds, without seeds three nodes of a small mesh or three
// relays of a large one; for a zone, three of its nodes, all drawn by the digest. An arbiter schedules nothing: it says
// yes to the first who asks and no to the others, and names the holder. It is soft state: a lease ends by release, by
// the loss of its holder or without renewal for Config.Lease; an arbiter that dies, is isolated or is silent is
// replaced by the next in rank, and holders tell it what they hold before anybody asks it (Config.Handover). The same
// nodes answer Join with members of the swarm.
//
// The seeds share the stripes of a blob by rendezvous hashing, each takes its own in order and then, from the end,
// those of slower ones. Without a willing seed those that want the blob do the same. A node that sees no
// progress asks its neighbours for a sign of life and leaves the silent ones out; the last resort is to go without a
// lease.
//
// A blob whose size the origin does not tell has one when all of it has been read, by one node, and no piece before that.
// That an arbiter names who holds the lease counts as progress for the others, for Config.Unsized; see unsized.go.
//
// Inside a zone a node asks the neighbour that is least busy for the rarest of the pieces that it has, ties by lot; the piece at
// which a local reader is blocked goes first. All links are full when as many pieces come in everywhere as go out, so the
// provider is chosen before the piece, as many pieces flow into a node as out of it, and only few requests wait
// for their turn; others are refused with a time to come back. Copies grow fastest when one upload goes at a time, so
// another one starts no sooner than the uplink could carry it (uploads). What nobody else nearby has goes first,
// and to one at a time, to whom the others that asked for it are sent; then what another zone asks for; then the rest. A seed that nobody reads from leaves the links to
// those who read until it has brought in what is its to bring.
//
// Between zones a few nodes of each import, those that rendezvous hashing puts first among the ones that want the blob;
// they know each other. A pipe between zones may be all that counts, so a piece leaves a zone once if it can: each piece
// has an order of the zones, the first takes it from where it is, the others from those that got it, and never
// from the zone that has most, where all would wait. A window for each zone lets no more imports go at a time than its pipe
// brings in a short time. See import.go.
//
// A node chooses half of its neighbours, by lot from what the rendezvous nodes name; the other half choose it. Who has no room
// says so.
//
// What the store cannot take is for the local readers alone: Unkept begins that, Window bounds it. Others are not told of such
// pieces, no lease is taken for them, and the origin is read only for what nobody else has or is about to bring in. See
// unkept.go.
//
// # Trust
//
// A piece comes with the signed word of the node that read it from the origin (its attester). Bytes that do not match
// it convict the sender. Who sends wrong bytes, none, or has not what it says is asked for nothing for a while, and
// what it says it has does not count; it is served, and is the arbiter that it was, for what one node found out must not
// change what all have to agree on. What it brought in, one of those that complain brings in again. A blob of matching pieces that fails as a whole is fetched again from others, and the
// attesters whose hashes differ from the proven ones are isolated. When others give the same wrong bytes, or repairs run out, the
// node believes nobody and reads the origin itself: only when that is wrong is the blob corrupt. See verify.go.
//
// Who sends drop by drop what others send quickly is disbelieved too: see drip.go.
//
// The rules and their constants are from the project's distribution algorithm; the fluid bounds behind them from
// Kumar and Ross, "Peer-Assisted File Distribution: The Minimum Distribution Time" (2006), rendezvous hashing
// from Thaler and Ravishankar (1998).
package swarm
