package e2e

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

// liarKinds are the lies of e2e/liar. told says that the liar counts the times that it told one; make test plays those that
// are brief by themselves, make chaos all of them.
var liarKinds = []struct {
	name        string
	told, brief bool
}{
	{"wrong-bytes", true, true},
	{"late-bytes", true, false},
	{"slow-bytes", true, false},
	{"wrong-hashes", true, true},
	{"false-haves", true, true},
	{"endless", true, false},
	{"absurd-lengths", true, false},
	{"garbage", true, false},
	{"gossip-flood", false, false},
	{"dht-flood", false, false},
}

// honestNodes are seven nodes in two zones; with three liars they are 70 % of the mesh.
var honestNodes = []nodeSpec{
	{"east", true}, {"east", false}, {"east", false}, {"east", false}, {"west", true}, {"west", false}, {"west", false},
}

// What a node may have in use while liars are at it. Bounds, not goals: a node at rest has 60 MiB.
const (
	liarRSS         = 350 * mib
	liarDescriptors = 600
	liarGoroutines  = 4000
	liarRounds      = 8 // of pulls, until liars have been believed
	liarTries       = 5 // of a client
)

// liarMesh is a mesh with a registry and honest nodes, among which liars come and go.
type liarMesh struct {
	*mesh
	blobs string // the directory with the truth
	seed  int64
	next  int // host of the next liar
}

// Three of ten members lie, in every way of e2e/liar by itself and in all together. Every pull through an honest node ends right,
// as clients pull: one that broke off is tried again, five times like docker does. (A client that was already given bytes
// under a hash that somebody signed cannot be served but by breaking off.) No honest node is convicted of a lie, and memory,
// descriptors and goroutines stay bounded.
func TestLiars(t *testing.T) {
	long(t)
	m := &liarMesh{mesh: newMesh(t, honestNodes...), blobs: t.TempDir(), seed: 7000, next: 100}
	var all []string
	for _, kind := range liarKinds {
		if kind.name != "slow-bytes" { // they break no rule: with others they would do no more than make the test long
			all = append(all, kind.name)
		}
		if !kind.brief && os.Getenv("MESHD_CHAOS_TIME") == "" {
			continue
		}
		t.Run(kind.name, func(t *testing.T) { m.liars(t, kind.told, kind.name) })
	}
	t.Run("all", func(t *testing.T) { m.liars(t, true, all...) })
}

// liars lets three liars join and honest nodes pull.
func (m *liarMesh) liars(t *testing.T, told bool, kinds ...string) {
	liars := m.join(t, []nodeSpec{{"east", true}, {"east", false}, {"west", false}}, kinds...)
	began := time.Now()
	rounds := 0
	var again atomic.Int64
	for rounds == 0 || told && lies(liars) == 0 && rounds < liarRounds {
		rounds++
		m.pullAll(t, &again)
	}
	t.Logf("%d rounds of %d pulls took %v; lies told: %d; tried again: %d", rounds, 2*len(m.nodes), time.Since(began).Round(time.Millisecond), lies(liars), again.Load())
	if told && lies(liars) == 0 {
		t.Errorf("nobody believed a liar in %d rounds: nothing was tested", liarRounds)
	}
	m.checkHonest(t)
	for _, l := range liars {
		if !l.running() {
			t.Errorf("%s ended: %v\n%s", l.name, l.err, l.tail(1000))
		}
		l.kill()
	}
}

// join starts liars and waits until every honest node knows them.
func (m *liarMesh) join(t *testing.T, specs []nodeSpec, kinds ...string) (liars []*process) {
	t.Helper()
	for i, s := range specs {
		args := []string{"--mesh-key", filepath.Join(m.dir, "mesh.key"), "--addr", m.net.host(m.next), "--zone", s.zone, "--blobs", m.blobs, "--lies", strings.Join(kinds, ",")}
		if s.seed {
			args = append(args, "--seed")
		}
		m.next++
		cmd := exec.Command(program(t, "github.com/meshd-project/meshd/e2e/liar"), append(args, m.ways(t)...)...)
		liars = append(liars, startProcess(t, fmt.Sprint("liar-", i+1), cmd))
	}
	for _, n := range m.nodes {
		n.waitFor(t, "liars among its peers", time.Minute, func() error {
			s, err := n.tryStatus()
			if err == nil && s.Peers.n < len(m.nodes)-1+len(liars) {
				err = fmt.Errorf("%d peers", s.Peers.n)
			}
			return err
		})
	}
	return liars
}

// lies counts what liars say that they did to those who asked them.
func lies(liars []*process) (n int) {
	for _, l := range liars {
		n += strings.Count(l.output(), "lie ")
	}
	return n
}

// ways are the addresses of all honest nodes.
func (m *liarMesh) ways(t *testing.T) (out []string) {
	for _, n := range m.nodes {
		addr, err := os.ReadFile(filepath.Join(n.dir, "peer.addr"))
		must(t, err)
		out = append(out, strings.TrimSpace(string(addr)))
	}
	return out
}

// pullAll has all honest nodes pull two new blobs at once, one of many pieces and one of one.
func (m *liarMesh) pullAll(t *testing.T, again *atomic.Int64) {
	t.Helper()
	var pulls []func() error
	for _, size := range []int64{6*mib + 123, 200_000} {
		m.seed++
		b := m.registry.pushBlob(t, "library/truth", m.seed, size)
		must(t, os.WriteFile(filepath.Join(m.blobs, b.hash.Hex), b.data, 0o600))
		for _, n := range m.nodes {
			pulls = append(pulls, func() error { return n.pullPatiently(t, b, again) })
		}
	}
	atOnce(t, pulls...)
}

// pullPatiently tries again what broke off or failed, with docker's pauses, but never what ended cleanly and wrong.
func (n *node) pullPatiently(t *testing.T, b blob, again *atomic.Int64) error {
	ctx, cancel := context.WithTimeout(context.Background(), clientTimeout)
	defer cancel()
	for try := 1; ; try++ {
		_, err := chaosGet(ctx, "http://"+n.mirror()+"/v2/"+b.repo+"/blobs/"+b.hash.String(), "", 1<<40, b.hash.Hex)
		switch {
		case err == nil:
			return nil
		case errors.Is(err, errWrong) || try == liarTries:
			return fmt.Errorf("%s, try %d: %w", n.name, try, err)
		}
		t.Logf("%s, try %d: %v", n.name, try, err)
		again.Add(1)
		select {
		case <-time.After(time.Duration(try) * 5 * time.Second):
		case <-ctx.Done():
		}
	}
}

// convictions are reasons for a quarantine that no honest node gives, however slow the machine is.
var convictions = []string{"signed hashes proved wrong", "bytes do not match their attested hash", "protocol broken"}

// quarantined is whom the node leaves alone, and why.
func (n *node) quarantined(t testing.TB) (out []struct{ Peer, Why string }) {
	t.Helper()
	var s struct {
		Quarantined []struct{ Peer, Why string }
	}
	must(t, getJSON("http://"+n.admin()+"/v1/status", &s))
	return s.Quarantined
}

// convicted are the peers that the node takes for liars.
func (n *node) convicted(t testing.TB) (peers []string) {
	t.Helper()
	for _, q := range n.quarantined(t) {
		if slices.Contains(convictions, q.Why) {
			peers = append(peers, q.Peer)
		}
	}
	return peers
}

// checkHonest looks the honest nodes over.
func (m *liarMesh) checkHonest(t *testing.T) {
	honest := map[string]string{}
	for _, n := range m.nodes {
		honest[n.status(t).PeerID] = n.name
	}
	blamed := map[string]int{}
	for _, n := range m.nodes {
		var s struct {
			Quarantined []struct{ Peer, Why string }
			DHT         struct{ Records int }
		}
		must(t, getJSON("http://"+n.admin()+"/v1/status", &s))
		for _, q := range s.Quarantined {
			blamed[q.Why]++
			switch who := honest[q.Peer]; {
			case who == "":
			case slices.Contains(convictions, q.Why):
				t.Errorf("%s takes %s for a liar: %s", n.name, who, q.Why)
			default: // what it met with itself, for half a minute
				t.Logf("%s leaves %s alone: %s", n.name, who, q.Why)
			}
		}
		v, err := vitalsOf(n.cmd.Process.Pid)
		must(t, err)
		v.goroutines = int(n.metric(t, "go_goroutines"))
		t.Logf("%s: %v, %d provider records", n.name, v, s.DHT.Records)
		if v.peak > liarRSS || v.descriptors > liarDescriptors || v.goroutines > liarGoroutines {
			t.Errorf("%s: %v, want at most %d MiB, %d descriptors and %d goroutines", n.name, v, liarRSS/mib, liarDescriptors, liarGoroutines)
		}
		if out := n.output(); strings.Contains(out, "panic:") {
			t.Errorf("%s panicked:\n%s", n.name, n.tail(4000))
		}
	}
	for _, why := range slices.Sorted(maps.Keys(blamed)) {
		t.Logf("in quarantine for %q: %d times", why, blamed[why])
	}
}
