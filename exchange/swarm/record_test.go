package swarm

import (
	"fmt"
	"testing"
	"time"
)

// recordCore is a core with one other member, and the time as a cursor.
func recordCore() (*Core, func(after time.Duration, ev Event) []Action) {
	cfg := DefaultConfig()
	cfg.Self, cfg.Zone = "me", "a"
	c := New(cfg, 1)
	var now Time
	step := func(after time.Duration, ev Event) []Action {
		now = now.Add(after)
		return c.Step(now, ev, nil)
	}
	step(time.Second, Member{ID: "liar", Zone: "a"})
	return c, step
}

// A peer in quarantine does not get out of it by coming back, and does as its time is over.
func TestQuarantineSurvivesReconnect(t *testing.T) {
	for _, why := range []Failure{FailedProtocol, FailedHash} {
		c, step := recordCore()
		c.penalise("liar", why)
		out := func() (useless, isolated bool) { return c.hopeless("liar"), c.shunned("liar") }
		useless, isolated := out()
		if !useless {
			t.Fatalf("%v: not in quarantine", why)
		}
		step(time.Second, MemberLost{ID: "liar"})
		step(time.Second, Member{ID: "liar", Zone: "a"})
		if u, i := out(); u != useless || i != isolated {
			t.Errorf("%v: after a reconnect useless %v, isolated %v; before %v, %v", why, u, i, useless, isolated)
		}
		step(time.Minute, Tick{})
		if u, i := out(); u || i {
			t.Errorf("%v: quarantine does not end", why)
		}
	}
}

// Points add up over reconnects, and strikes double the next quarantine; both decay.
func TestPenaltySurvivesReconnect(t *testing.T) {
	c, step := recordCore()
	again := func(after time.Duration) {
		step(0, MemberLost{ID: "liar"})
		step(after, Member{ID: "liar", Zone: "a"})
	}
	for range 3 {
		c.penalise("liar", FailedReset)
		again(time.Second)
	}
	if c.hopeless("liar") {
		t.Fatal("three points and out")
	}
	c.penalise("liar", FailedReset)
	c.penalise("liar", FailedReset)
	if !c.hopeless("liar") {
		t.Fatal("points are forgotten by a reconnect")
	}
	again(31 * time.Second)
	if c.hopeless("liar") {
		t.Fatal("the first quarantine is 30 s")
	}
	c.penalise("liar", FailedHash)
	again(31 * time.Second)
	if !c.hopeless("liar") {
		t.Error("the second quarantine is a minute, with a reconnect or without")
	}
	again(2 * time.Hour)
	c.penalise("liar", FailedHash)
	again(31 * time.Second)
	if c.hopeless("liar") {
		t.Error("after two hours it begins anew")
	}
}

// However many come and go, the records are bounded, and what has lapsed takes no room.
func TestRecordsAreBounded(t *testing.T) {
	c, step := recordCore()
	for i := range maxRecords + 10 {
		id := PeerID(fmt.Sprint("p", i))
		step(0, Member{ID: id, Zone: "a"})
		c.penalise(id, FailedProtocol)
		step(0, MemberLost{ID: id})
	}
	if len(c.past) != maxRecords || c.past[maxRecords-1].id != PeerID(fmt.Sprint("p", maxRecords+9)) {
		t.Errorf("%d records", len(c.past))
	}
	step(3*time.Hour, Member{ID: "x", Zone: "a"})
	step(0, MemberLost{ID: "x"})
	if len(c.past) != 0 {
		t.Errorf("%d records of what has lapsed", len(c.past))
	}
}
