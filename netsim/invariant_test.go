package netsim

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/meshd-project/meshd/exchange/swarm"
)

// checked is a-1, which knows a-2, a-3 and a-4 but not the last host of zone b, in a world in which nothing happens, to
// feed its checker. It has the first of the 8 pieces of the one blob.
func checked(t *testing.T) (h *host, stranger int32) {
	t.Helper()
	w, err := newWorld(parse(t, "zones: [{name: a, hosts: 4}, {name: b, hosts: 400}]\nlayers: [{size: 4MiB}]\nmesh: {relays: 0}"))
	if err != nil {
		t.Fatal(err)
	}
	h = w.hosts[0]
	h.out = &outbox{}
	h.now = swarm.Time(10 * time.Second)
	h.keep(0, 0, -1, false)
	stranger = int32(len(w.hosts) - 1)
	if h.knows(stranger) {
		t.Fatal("everybody knows everybody")
	}
	return h, stranger
}

// What happens between the steps of a test.
type between func(h *host)

func later(d time.Duration) between { return func(h *host) { h.now = h.now.Add(d) } }

// all puts every piece on the disk.
func all(h *host) {
	for i := range h.pulls[0].have.Len() {
		h.keep(0, swarm.PieceIndex(i), -1, false)
	}
}

func uploading(piece swarm.PieceIndex) between {
	return func(h *host) { h.uploads = append(h.uploads, upload{xfer: 7, to: 1, piece: piece}) }
}

func TestCheckerCatches(t *testing.T) {
	h, stranger := checked(t)
	names := h.w.t.names
	d, floor := h.w.layers.list[0].digest, h.w.cfg.HedgeFloor
	peer := func(i int) swarm.PeerID { return names[i].ID }
	request := func(to int, piece swarm.PieceIndex) swarm.RequestPiece {
		return swarm.RequestPiece{To: peer(to), Digest: d, Piece: piece, Timeout: time.Minute}
	}
	fetch := func(id uint64, first swarm.PieceIndex, count uint32) swarm.FetchOrigin {
		return swarm.FetchOrigin{Digest: d, Fetch: id, First: first, Count: count}
	}
	type step any // a swarm.Event or a swarm.Action for the checker, or a between
	for _, tc := range []struct {
		name   string
		steps  []step
		breaks string // in the last step; empty: nothing does
	}{
		{"a request", []step{request(1, 1)}, ""},
		{"of a piece that is stored", []step{request(1, 0)}, "requests piece 0 of "},
		{"of a piece beyond the end", []step{request(1, 8)}, "beyond the end"},
		{"a hedge", []step{request(1, 1), later(floor), request(2, 1)}, ""},
		{"a hedge too soon", []step{request(1, 1), later(floor - 1), request(2, 1)}, "a second time after"},
		{"twice of one peer", []step{request(1, 1), later(floor), request(1, 1)}, "twice of a-2"},
		{"three times", []step{request(1, 1), later(floor), request(2, 1), later(floor), request(3, 1)}, "a third time"},
		{"again after a cancel", []step{request(1, 1), swarm.CancelPiece{To: peer(1), Digest: d, Piece: 1}, request(2, 1)}, ""},
		{"two of one peer", []step{request(1, 1), request(1, 2)}, ""},
		{"three of one peer", []step{request(1, 1), request(1, 2), request(1, 3)}, "has 2 requests at a-2"},
		{"of itself", []step{request(0, 1)}, "itself"},
		{"of nobody", []step{swarm.RequestPiece{To: "nobody", Digest: d, Piece: 1}}, "a peer that there is not"},
		{"of another blob", []step{swarm.RequestPiece{To: peer(1), Digest: "sha256:0", Piece: 1}}, "a blob that there is not"},

		{"a message to a known peer", []step{swarm.Send{To: peer(1)}}, ""},
		{"to a stranger", []step{swarm.Send{To: names[stranger].ID}}, "of which it was not told"},
		{"to one whom a message named", []step{
			swarm.Received{From: names[1].ID, Msg: swarm.Members{Digest: d, Peers: names[stranger:]}}, swarm.Send{To: names[stranger].ID},
		}, ""},
		{"to one whom a verdict named", []step{
			swarm.Received{From: names[1].ID, Msg: swarm.Verdict{Digest: d, Denied: []swarm.Denial{{Holder: names[stranger].ID}}}},
			swarm.Send{To: names[stranger].ID},
		}, ""},
		{"to one whom discovery named", []step{
			swarm.ProvidersFound{Digest: d, Peers: names[stranger:]}, swarm.Send{To: names[stranger].ID},
		}, ""},
		{"to one who was named and lost", []step{
			swarm.ProvidersFound{Digest: d, Peers: names[stranger:]},
			swarm.MemberLost{ID: names[stranger].ID},
			swarm.Send{To: names[stranger].ID},
		}, "of which it was not told"},

		{"a fetch", []step{fetch(1, 0, 4), fetch(2, 4, 4)}, ""},
		{"fetches that overlap", []step{fetch(1, 0, 4), fetch(2, 3, 4)}, "while 0 to 3 are on their way"},
		{"a fetch of the rest", []step{fetch(1, 2, 0), fetch(2, 7, 1)}, "while 2 to 7"},
		{"a fetch behind one that moved on", []step{fetch(1, 0, 4), swarm.OriginPiece{Digest: d, Fetch: 1, Piece: 0}, fetch(2, 0, 1)}, ""},
		{"after one that ended", []step{fetch(1, 0, 4), swarm.OriginDone{Digest: d, Fetch: 1}, fetch(2, 0, 4)}, ""},
		{"after one that failed", []step{fetch(1, 0, 4), swarm.OriginFailed{Digest: d, Fetch: 1}, fetch(2, 0, 4)}, ""},
		{"after one that was stopped", []step{fetch(1, 0, 4), swarm.StopOrigin{Digest: d, Fetch: 1}, fetch(2, 0, 4)}, ""},
		{"beside one that brings all", []step{fetch(1, 0, 4), swarm.OriginSized{Digest: d, Fetch: 1, Size: 4 << 20}, fetch(2, 4, 4)}, "while 0 to 7"},
		{"of a size unknown", []step{swarm.FetchOrigin{Digest: d, Fetch: 1, Bytes: 2 << 20}, fetch(2, 4, 4), fetch(3, 3, 1)}, "while 0 to 3"},
		{"beyond the end", []step{fetch(1, 8, 1)}, "beyond the end"},

		{"a piece that is not stored", []step{swarm.PieceArrived{Digest: d, Piece: 1}}, "told and not stored"},
		{"one from the origin", []step{swarm.OriginPiece{Digest: d, Piece: 1}}, "told and not stored"},
		{"a reader at what is stored", []step{swarm.Reading{Digest: d, Off: 512 << 10}}, ""},
		{"a reader beyond", []step{swarm.Reading{Digest: d, Off: 512<<10 + 1}}, "got past piece 1, which is not stored"},
		{"a reader at the last piece", []step{between(all), swarm.Reading{Digest: d, Off: 7 * 512 << 10}}, ""},
		{"a reader that has all, unverified", []step{between(all), swarm.Reading{Digest: d, Off: 4 << 20}}, "before the whole was verified"},
		{"a reader that has all", []step{between(all), between(func(h *host) { h.pulls[0].done = h.now }), swarm.Reading{Digest: d, Off: 4 << 20}}, ""},
		{"verified in part", []step{swarm.Verified{Digest: d}}, "counts as verified with 1 of 8"},
		{"to be verified in part", []step{swarm.Verify{Digest: d}}, "which is not complete"},

		{"an upload", []step{uploading(0), swarm.ServePiece{Xfer: 7}}, ""},
		{"of what is not stored", []step{uploading(1), swarm.ServePiece{Xfer: 7}}, "serves piece 1"},
		{"of what nobody asked for", []step{swarm.ServePiece{Xfer: 7}}, "nobody asked for"},
		{"twice", []step{uploading(0), swarm.ServePiece{Xfer: 7}, swarm.ServePiece{Xfer: 7}}, "twice"},
		{"refused to nobody", []step{swarm.RefusePiece{Xfer: 7}}, "nobody asked for"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			h, _ := checked(t)
			for i, s := range tc.steps {
				switch s := s.(type) {
				case between:
					s(h)
				case swarm.Event:
					h.told(s)
				case swarm.Action:
					if h.decided(s) {
						h.act(s)
					}
				}
				if broken := h.check.broken; broken != nil && (i < len(tc.steps)-1 || tc.breaks == "") {
					t.Fatalf("step %d: %v", i, broken)
				}
			}
			if tc.breaks == "" {
				return
			}
			e := h.check.broken
			if e == nil || !strings.Contains(e.What, tc.breaks) || e.Host != "a-1" || e.At != time.Duration(h.now) || !h.w.breached.Load() {
				t.Errorf("broken: %v, want … %s …", e, tc.breaks)
			}
		})
	}
}

// What breaks a rule first ends the run: by time, then by node.
func TestFirstBreachEndsTheRun(t *testing.T) {
	s := parse(t, "zones: [{name: a, hosts: 4}]\nlayers: [{size: 4MiB}]")
	w, err := newWorld(s)
	if err != nil {
		t.Fatal(err)
	}
	w.at(begin, func(now swarm.Time) {
		for i, after := range []time.Duration{time.Second, time.Millisecond, time.Millisecond} {
			h := w.hosts[i+1]
			h.now = now.Add(after)
			h.decided(swarm.Send{To: h.peer(h.id)})
		}
	})
	err = w.play(context.Background(), Options{})
	var broken *InvariantError
	if !errors.As(err, &broken) || broken.Host != "a-3" || !strings.Contains(err.Error(), "a-3 broke a rule at 11ms: names itself") {
		t.Errorf("error = %v", err)
	}
}

// A pull may end badly only if there was no source.
func TestHowPullsEnd(t *testing.T) {
	for _, tc := range []struct {
		name   string
		change func(w *world, h *host)
		breaks string
	}{
		{"well", func(_ *world, h *host) { all(h); h.pulls[0].done = h.now }, ""},
		{"well without a piece", func(_ *world, h *host) { h.pulls[0].done = h.now }, "ended well with 0 of 8"},
		{"well and unverified", func(_ *world, h *host) { all(h) }, "ended well with 8 of 8"},
		{"well with a wrong piece", func(_ *world, h *host) {
			h.keep(0, 3, 1, true)
			all(h)
			h.pulls[0].done = h.now
		}, "1 wrong pieces"},
		{"badly", func(_ *world, h *host) { h.pulls[0].reason = swarm.GaveUpOrigin }, "although the origin had it"},
		{"badly, and the origin was away", func(w *world, h *host) {
			w.down = h.now - 1
			h.pulls[0].reason = swarm.GaveUpOrigin
		}, ""},
		{"badly, and the zone was cut off", func(w *world, h *host) {
			w.cut[1] = h.now - 1
			h.pulls[0].reason = swarm.GaveUpOrigin
		}, ""},
		{"badly, and the zone was cut off long ago", func(w *world, h *host) {
			w.cut[1] = 1
			h.pulls[0].reason = swarm.GaveUpOrigin
		}, "although the origin had it"},
		{"badly, with a complete copy in the zone", func(w *world, h *host) {
			w.down = never
			all(w.hosts[2])
			w.hosts[2].pulls[0].done = 1
			h.pulls[0].reason = swarm.GaveUpOrigin
		}, "although b-2 had it"},
		{"badly, with a copy of a dead host", func(w *world, h *host) {
			w.down = never
			all(w.hosts[2])
			w.hosts[2].pulls[0].done = 1
			w.hosts[2].dead = true
			h.pulls[0].reason = swarm.GaveUpOrigin
		}, ""},
	} {
		t.Run(tc.name, func(t *testing.T) {
			w, err := newWorld(parse(t, "zones: [{name: a, hosts: 1}, {name: b, hosts: 2}]\nlayers: [{size: 4MiB}]"))
			if err != nil {
				t.Fatal(err)
			}
			h := w.hosts[1]
			h.now = swarm.Time(5 * time.Minute)
			tc.change(w, h)
			w.ended(1)
			switch e := h.check.broken; {
			case tc.breaks == "" && e != nil:
				t.Error(e)
			case tc.breaks != "" && (e == nil || !strings.Contains(e.What, tc.breaks)):
				t.Errorf("broken: %v, want … %s …", e, tc.breaks)
			}
		})
	}
}
