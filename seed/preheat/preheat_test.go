package preheat

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/opencontainers/go-digest"
)

var twoZones = []spec{{"east", true}, {"east", false}, {"west", true}, {"west", false}}

func TestScopes(t *testing.T) {
	for _, row := range []struct {
		scope Scope
		have  []int // nodes that hold the image in the end
	}{
		{"", []int{0, 2}},
		{ScopeSeed, []int{0}},
		{ScopeSeeds, []int{0, 2}},
		{"zone=west", []int{2, 3}},
		{ScopeAll, []int{0, 1, 2, 3}},
	} {
		t.Run(string(row.scope), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := newRegistry()
				doc := r.pushImage("app", "1", "one", "two")
				ns := stations(t, r, twoZones...)
				j := ns[0].await(t, ns[0].create(t, Request{Image: image(t, "app:1"), Scope: row.scope}).ID)
				if j.State != Succeeded || j.Digest != doc.Digest || len(j.Layers) != 3 || len(j.Nodes) != len(row.have) || j.Bytes != j.Total || j.Total == 0 {
					t.Fatalf("%+v", j)
				}
				for i, n := range ns {
					if want := slices.Contains(row.have, i); n.disk.has("two") != want || slices.Contains(n.disk.kept, doc.Digest) != want {
						t.Errorf("node %d: holds %v, want %v; manifests %v", i, n.disk.has("two"), want, n.disk.kept)
					}
				}
			})
		})
	}
}

func TestProgressByZoneAndNode(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRegistry()
		r.pushImage("app", "1", strings.Repeat("x", 1000))
		ns := stations(t, r, twoZones...)
		id := ns[1].create(t, Request{Image: image(t, "app:1"), Scope: ScopeAll}).ID
		time.Sleep(800 * time.Millisecond) // half of each blob has come
		j, err := ns[1].Get(t.Context(), id)
		if err != nil || j.State != Running || len(j.Zones) != 2 || len(j.Nodes) != 4 {
			t.Fatalf("%+v, %v", j, err)
		}
		for _, z := range j.Zones {
			if z.Nodes != 2 || z.Done != 0 || z.Layers[0] != 2*500 {
				t.Errorf("zone %+v, want two halves of 1000 bytes", z)
			}
		}
		j = ns[1].await(t, id)
		for _, z := range j.Zones {
			if z.Done != 2 || z.Failed != 0 || z.Layers[0] != 2*1000 {
				t.Errorf("in the end zone %+v", z)
			}
		}
		if took := j.Updated.Sub(j.Created); took > 2*time.Second {
			t.Errorf("took %v", took)
		}
		// What is there is there at once.
		j = ns[2].await(t, ns[2].create(t, Request{Image: image(t, "app:1"), Scope: ScopeAll}).ID)
		if took := j.Updated.Sub(j.Created); j.State != Succeeded || took > 500*time.Millisecond {
			t.Errorf("again: %s in %v", j.State, took)
		}
	})
}

func TestFailuresHaveReasons(t *testing.T) {
	for _, row := range []struct {
		name, image, reason string
		set                 func(r *registry, ns []*station) Request
	}{
		{"unknown image", "app:2", "no such image", nil},
		{"unknown digest", "app@sha256:" + strings.Repeat("0", 64), "no such image", nil},
		{"platform that is not there", "index:1", "linux/s390x is not in the index, which has linux/amd64, linux/arm64", func(*registry, []*station) Request {
			return Request{Platforms: []string{"linux/amd64", "linux/s390x"}}
		}},
		{"no credentials", "app:1", "refused by the registry", func(r *registry, _ []*station) Request {
			r.private["app"] = "Bearer good"
			return Request{}
		}},
		{"expired token", "app:1", "refused by the registry", func(r *registry, _ []*station) Request {
			r.private["app"] = "Bearer good"
			return Request{Authorization: "Bearer expired"}
		}},
		{"nobody in the zone", "app:1", `no node of zone "north"`, func(*registry, []*station) Request {
			return Request{Scope: "zone=north"}
		}},
		{"no room", "app:1", "no room on the disk", func(_ *registry, ns []*station) Request {
			ns[0].disk.fail = func(Want, int) error { return ErrNoRoom }
			return Request{}
		}},
		{"a node that does not answer", "app:1", "cannot be reached", func(_ *registry, ns []*station) Request {
			ns[2].host.Close()
			return Request{}
		}},
		{"a node that does not know the registry", "app:1", "registry not allowed on that node", func(r *registry, ns []*station) Request {
			ns[2].origin = unlisted{r}
			return Request{}
		}},
		{"too slow", "app:1", "longer than its time-out", func(_ *registry, ns []*station) Request {
			ns[0].disk.hold = make(chan struct{})
			return Request{Timeout: time.Minute}
		}},
	} {
		t.Run(row.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := newRegistry()
				r.pushImage("app", "1", "one")
				r.pushIndex("index", "1", "linux/amd64", "linux/arm64")
				ns := stations(t, r, twoZones...)
				q := Request{}
				if row.set != nil {
					q = row.set(r, ns)
				}
				q.Image = image(t, row.image)
				j := ns[0].await(t, ns[0].create(t, q).ID)
				if j.State != Failed || !strings.Contains(j.Reason, row.reason) {
					t.Errorf("%s: %q, want %q", j.State, j.Reason, row.reason)
				}
				for _, n := range j.Nodes {
					if !n.State.Ended() || n.State == Failed && n.Reason == "" {
						t.Errorf("node %+v", n)
					}
				}
			})
		})
	}
}

// unlisted is a registry that the node's operator has not named.
type unlisted struct{ *registry }

func (unlisted) Listed(string) bool { return false }

func TestRefusedRequests(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := stations(t, newRegistry(), spec{"east", false})[0]
		for _, row := range []struct {
			name string
			r    Request
			want error
		}{
			{"unlisted registry", Request{Image: image(t, "other.example/app:1")}, ErrUnlisted},
			{"scope", Request{Image: image(t, "app:1"), Scope: "everybody"}, ErrInvalid},
			{"zone without a name", Request{Image: image(t, "app:1"), Scope: "zone="}, ErrInvalid},
			{"platform", Request{Image: image(t, "app:1"), Platforms: []string{"amd64"}}, ErrInvalid},
			{"all and more", Request{Image: image(t, "app:1"), Platforms: []string{"all", "linux/amd64"}}, ErrInvalid},
			{"time-out", Request{Image: image(t, "app:1"), Timeout: 25 * time.Hour}, ErrInvalid},
			{"header", Request{Image: image(t, "app:1"), Authorization: strings.Repeat("x", maxAuthorization+1)}, ErrInvalid},
		} {
			if _, err := n.Create(row.r); !errors.Is(err, row.want) {
				t.Errorf("%s: %v, want %v", row.name, err, row.want)
			}
		}
		if len(n.List()) != 0 {
			t.Errorf("left behind: %v", n.List())
		}
	})
}

// Only the platforms asked for are fetched, and the rest not even looked at.
func TestIndexByPlatform(t *testing.T) {
	for _, row := range []struct {
		platforms []string
		want      []string
	}{
		{nil, []string{HostPlatform()}},
		{[]string{"linux/arm64"}, []string{"linux/arm64"}},
		{[]string{"linux/arm64/v8"}, []string{"linux/arm64"}},
		{[]string{"linux/amd64", "linux/arm/v7"}, []string{"linux/amd64", "linux/arm/v7"}},
		{[]string{"all"}, []string{"linux/amd64", "linux/arm64", "linux/arm/v7", "unknown/unknown"}},
	} {
		synctest.Test(t, func(t *testing.T) {
			r := newRegistry()
			r.pushIndex("index", "1", "linux/amd64", "linux/arm64", "linux/arm/v7", "unknown/unknown")
			n := stations(t, r, spec{"east", true})[0]
			j := n.await(t, n.create(t, Request{Image: image(t, "index:1"), Platforms: row.platforms}).ID)
			if j.State != Succeeded || len(r.asked) != 1+len(row.want) {
				t.Errorf("%v: %s %s, asked for %v", row.platforms, j.State, j.Reason, r.asked)
			}
			for _, p := range []string{"linux/amd64", "linux/arm64", "linux/arm/v7", "unknown/unknown"} {
				if want := slices.Contains(row.want, p); n.disk.has("layer of "+p) != want {
					t.Errorf("%v: holds %s: %v, want %v", row.platforms, p, !want, want)
				}
			}
		})
	}
}

// A private image goes by the request's credentials to its owner alone, and by private names to all.
func TestPrivate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRegistry()
		r.pushImage("app", "1", "one")
		r.private["app"] = "Bearer good"
		ns := stations(t, r, twoZones...)
		j := ns[1].await(t, ns[1].create(t, Request{Image: image(t, "app:1"), Authorization: "Bearer good"}).ID)
		if j.State != Succeeded || !j.Private || len(j.Nodes) != 3 {
			t.Fatalf("%+v", j)
		}
		for i, n := range ns[:3] {
			for _, w := range n.disk.wants {
				if want := map[bool]string{true: "Bearer good"}[i == 1]; !w.Private || w.Authorization != want {
					t.Errorf("node %d wants %+v", i, w)
				}
			}
			if len(n.disk.kept) > 0 {
				t.Errorf("node %d keeps the private manifests %v", i, n.disk.kept)
			}
		}
		filesHoldNo(t, "good", ns[0].dir, ns[1].dir, ns[2].dir)
	})
}

// filesHoldNo checks that no file of some directories holds a secret.
func filesHoldNo(t *testing.T, secret string, dirs ...string) {
	t.Helper()
	files := 0
	for _, dir := range dirs {
		entries, err := os.ReadDir(dir)
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range entries {
			files++
			data, err := os.ReadFile(filepath.Join(dir, e.Name()))
			if err != nil || strings.Contains(string(data), secret) {
				t.Errorf("%s: %v, holds a secret: %v", e.Name(), err, err == nil)
			}
		}
	}
	if files == 0 {
		t.Error("no file: nothing was checked")
	}
}

// With its operator's credentials a node reads the registry itself; a public image is read as anybody all the same.
func TestOwnCredentials(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRegistry()
		r.pushImage("app", "1", "one")
		r.pushImage("open", "1", "two")
		r.private["app"], r.own["r.example"] = "Basic own", "Basic own"
		ns := stations(t, r, twoZones...)
		for _, name := range []string{"app:1", "open:1"} {
			if j := ns[0].await(t, ns[0].create(t, Request{Image: image(t, name)}).ID); j.State != Succeeded {
				t.Fatalf("%+v", j)
			}
		}
		for _, w := range append(ns[0].disk.wants, ns[2].disk.wants...) {
			if want := map[bool]string{true: "Basic own"}[w.Repository.Name == "app"]; w.Authorization != want || w.Private != (want != "") {
				t.Errorf("%+v", w)
			}
		}
	})
}

// What fails for a moment is tried again, what fails for good is not.
func TestTriedAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRegistry()
		r.pushImage("app", "1", "one")
		ns := stations(t, r, spec{"east", true})
		ns[0].disk.fail = func(w Want, try int) error {
			if try < 3 {
				return errors.New("the link is down")
			}
			return nil
		}
		j := ns[0].await(t, ns[0].create(t, Request{Image: image(t, "app:1")}).ID)
		if j.State != Succeeded || ns[0].disk.count() != 2*3 {
			t.Errorf("%s %s after %d fetches", j.State, j.Reason, ns[0].disk.count())
		}
		r.pushImage("app", "2", "two")
		ns[0].disk.fail = func(Want, int) error { return fmt.Errorf("read: %w", ErrDenied) }
		before := ns[0].disk.count()
		j = ns[0].await(t, ns[0].create(t, Request{Image: image(t, "app:2")}).ID)
		if j.State != Failed || ns[0].disk.count() != before+2 {
			t.Errorf("%s after %d fetches more", j.State, ns[0].disk.count()-before)
		}
	})
}

// A node that is stopped in the middle of another's job is asked again when it is back.
func TestNodeComesBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRegistry()
		r.pushImage("app", "1", "one")
		ns := stations(t, r, twoZones...)
		ns[2].disk.hold = make(chan struct{})
		id := ns[0].create(t, Request{Image: image(t, "app:1")}).ID
		time.Sleep(3 * time.Second)
		ns[2].stop()
		time.Sleep(2 * time.Second)
		ns[2].disk.hold = nil
		ns[2].start(t)
		if j := ns[0].await(t, id); j.State != Succeeded {
			t.Errorf("%s %s", j.State, j.Reason)
		}
	})
}

func TestCancel(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRegistry()
		r.pushImage("app", "1", "one")
		ns := stations(t, r, twoZones...)
		for _, n := range ns {
			n.disk.hold = make(chan struct{})
		}
		id := ns[0].create(t, Request{Image: image(t, "app:1"), Scope: ScopeAll}).ID
		time.Sleep(time.Second)
		if _, err := ns[3].Cancel(t.Context(), id); err != nil { // through another node
			t.Fatal(err)
		}
		j := ns[0].await(t, id)
		time.Sleep(10 * time.Millisecond) // streams have a latency
		if j.State != Cancelled {
			t.Errorf("%s %s", j.State, j.Reason)
		}
		for i, n := range ns {
			if n.disk.busy() != 0 {
				t.Errorf("node %d goes on", i)
			}
			if s := j.Nodes[i].State; s != Cancelled {
				t.Errorf("node %d: %s", i, s)
			}
		}
		if again, err := ns[0].Cancel(t.Context(), id); err != nil || again.State != Cancelled || again.Updated != j.Updated {
			t.Errorf("again: %+v, %v", again, err)
		}
	})
}

// Jobs of an earlier run are there after a restart, and one that had not ended goes on.
func TestRestart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRegistry()
		r.pushImage("app", "1", "one")
		r.pushImage("app", "2", "two")
		ns := stations(t, r, twoZones...)
		done := ns[0].await(t, ns[0].create(t, Request{Image: image(t, "app:1")}).ID)
		ns[0].disk.hold = make(chan struct{})
		id := ns[0].create(t, Request{Image: image(t, "app:2")}).ID
		time.Sleep(time.Second)
		ns[0].stop()
		if _, err := ns[1].Get(t.Context(), id); !errors.Is(err, ErrAway) {
			t.Errorf("while its owner is away: %v", err)
		}
		ns[0].disk.hold = nil
		ns[0].start(t)
		if j := ns[1].await(t, id); j.State != Succeeded || j.Bytes != j.Total {
			t.Errorf("%+v", j)
		}
		j, err := ns[0].Get(t.Context(), done.ID)
		if err != nil || j.State != Succeeded || j.Digest != done.Digest || j.Total != done.Total || len(j.Nodes) != 2 || !j.Created.Equal(done.Created) {
			t.Errorf("%+v, %v\nbefore %+v", j, err, done)
		}
		if next := ns[0].create(t, Request{Image: image(t, "app:3")}).ID; next == id || next == done.ID {
			t.Errorf("id %s is given again", next)
		}
	})
}

// Any node finds a job by its id, and knows an id that is nobody's.
func TestIDs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRegistry()
		r.pushImage("app", "1", "one")
		ns := stations(t, r, twoZones...)
		id := ns[0].create(t, Request{Image: image(t, "app:1")}).ID
		for _, n := range ns {
			if j := n.await(t, id); j.ID != id || j.State != Succeeded || len(j.Nodes) != 2 {
				t.Errorf("%+v", j)
			}
			for _, id := range []ID{id + 1, 1, maxID, 0} {
				if _, err := n.Get(t.Context(), id); !errors.Is(err, ErrNotFound) {
					t.Errorf("%s: %v", id, err)
				}
			}
		}
		if id > 1<<53 {
			t.Errorf("id %s is no exact integer in JSON everywhere", id)
		}
		for _, s := range []string{"", "0", "-1", "01", "1.0", "1e3", "x", "1048576", "4503599627370496", "99999999999999999999"} {
			if id, err := ParseID(s); !errors.Is(err, ErrNotFound) {
				t.Errorf("%q: %s, %v", s, id, err)
			}
		}
	})
}

// The same request twice is one job; more than fit are refused, and few run and fetch at a time.
func TestBounds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRegistry()
		var layers []string
		for i := range 8 {
			layers = append(layers, fmt.Sprint("layer ", i))
		}
		n := stations(t, r, spec{"east", true})[0]
		n.disk.hold, n.disk.step = make(chan struct{}), time.Millisecond
		accepted := map[ID]bool{}
		busy := 0
		for i := range maxQueued + maxRunning + 100 {
			tag := fmt.Sprint("t", i)
			r.pushImage("app", tag, layers...)
			j, err := n.Create(Request{Image: image(t, "app:"+tag)})
			if err == nil {
				accepted[j.ID] = true
			} else if errors.Is(err, ErrBusy) {
				busy++
			} else {
				t.Fatal(err)
			}
			if i%200 != 0 {
				continue
			}
			synctest.Wait()
			if again, err := n.Create(Request{Image: image(t, "app:t0")}); err != nil || accepted[again.ID] != true {
				t.Fatalf("again: %v, %v", again.ID, err)
			}
		}
		if len(accepted) != maxQueued+maxRunning || busy != 100 {
			t.Errorf("%d accepted, %d refused", len(accepted), busy)
		}
		running, cancelled := 0, 0
		for _, j := range n.List() {
			if j.State == Running {
				running++
			} else if cancelled < 3 {
				cancelled++
				if _, err := n.Cancel(t.Context(), j.ID); err != nil {
					t.Fatal(err)
				}
			}
		}
		for i := range cancelled + 1 { // who was cancelled leaves room
			_, err := n.Create(Request{Image: image(t, fmt.Sprint("app:after", i))})
			if full := i == cancelled; (err != nil) != full || full && !errors.Is(err, ErrBusy) {
				t.Errorf("after %d cancelled, job %d: %v", cancelled, i, err)
			}
		}
		if running != maxRunning {
			t.Errorf("%d run", running)
		}
		close(n.disk.hold)
		for id := range accepted {
			if j, err := n.Get(t.Context(), id); err == nil && !j.State.Ended() {
				n.await(t, id)
			}
		}
		if n.disk.most > maxFetches {
			t.Errorf("%d blobs at a time", n.disk.most)
		}
		entries, err := os.ReadDir(n.dir)
		if err != nil || len(entries) != maxKept || len(n.List()) != maxKept {
			t.Errorf("%d files, %d jobs, want %d; %v", len(entries), len(n.List()), maxKept, err)
		}
	})
}

func TestParseImage(t *testing.T) {
	sum := digest.FromString("x").String()
	for _, row := range []struct{ text, want string }{
		{"alpine", "docker.io/library/alpine:latest"},
		{"docker.io/alpine:3", "docker.io/library/alpine:3"},
		{"index.docker.io/a/b", "docker.io/a/b:latest"},
		{"Harbor.example:8443/a/b:c", "harbor.example:8443/a/b:c"},
		{"localhost:5000/x", "localhost:5000/x:latest"},
		{"r.example/x@" + sum, "r.example/x@" + sum},
		{"r.example/x:y@" + sum, "r.example/x:y@" + sum},
		{"", ""},
		{":tag", ""},
		{"r.example/x:", ""},
		{"r.example/x@", ""},
		{"r.example/x@sha256:12", ""},
		{"r.example/X", ""},
		{"https://r.example/x", ""},
		{"r.example/x?y", ""},
		{"r.example/x y", ""},
		{"../etc/passwd", ""},
		{strings.Repeat("a", maxImage+1), ""},
	} {
		i, err := ParseImage(row.text, "docker.io")
		if row.want == "" {
			if !errors.Is(err, ErrInvalid) {
				t.Errorf("%q: %v, %v", row.text, i, err)
			}
			continue
		}
		if err != nil || i.String() != row.want {
			t.Errorf("%q: %q, %v, want %q", row.text, i, err, row.want)
		}
	}
}
