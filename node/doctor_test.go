package node

import (
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/meshd-project/meshd/node/topology"
	"github.com/meshd-project/meshd/seed/origin"
)

// examine asks a node's admin port.
func (n *testNode) examine(t *testing.T) map[string]Check {
	t.Helper()
	code, body := get(t, n.adminURL("/v1/doctor"))
	var list []Check
	if err := json.Unmarshal(body, &list); code != 200 || err != nil {
		t.Fatalf("%d %s", code, body)
	}
	out := make(map[string]Check)
	for _, c := range list {
		if bad := c.Level == Warn || c.Level == Fail; bad != (c.Do != "") || c.Found == "" {
			t.Errorf("a warning says what to do, and nothing else does: %+v", c)
		}
		if out[c.What].Level != Fail { // the worst of those about the same
			out[c.What] = c
		}
	}
	return out
}

func levels(checks map[string]Check) map[string]Level {
	out := make(map[string]Level)
	for what, c := range checks {
		out[what] = c.Level
	}
	return out
}

// expect compares levels; what is missing in want is OK or Skipped.
func expect(t *testing.T, checks map[string]Check, want map[string]Level) {
	t.Helper()
	for what, c := range checks {
		w := want[what]
		if c.Level != w && (w != "" || c.Level != OK && c.Level != Skipped) {
			t.Errorf("%s: %+v, want %q", what, c, w)
		}
	}
	for what := range want {
		if checks[what].What == "" {
			t.Errorf("%s was not checked: %v", what, levels(checks))
		}
	}
}

func TestDoctorOfTheHealthy(t *testing.T) {
	reg := newRegistry(t)
	key := newKey(t)
	config := func() Config {
		c := testConfig(t, key)
		if err := os.Chmod(c.DataDir, 0o700); err != nil {
			t.Fatal(err)
		}
		c.Mirror.DefaultRegistry = "registry.test"
		c.Origin.Registries = []Registry{{Host: "registry.test", URL: reg.URL}}
		c.Zone = "fra1"
		return c
	}
	c := config()
	c.Seed = true
	a := launch(t, c, nil)
	c = config()
	c.P2P.Bootstrap = []string{a.peerAddr(t)}
	b := launch(t, c, nil)
	eventually(t, "each other", func() bool { return a.topology.Connected() == 1 && b.topology.Connected() == 1 })
	expect(t, a.examine(t), map[string]Level{"p2p port from outside": OK, "data port from outside": Skipped})
	checks := b.examine(t)
	expect(t, checks, map[string]Level{
		"node": OK, "mesh key": OK, "peers": OK, "bootstrap": OK, "ports": OK, "disk": OK, "data dir": OK,
		"zone": OK, "seeds": OK, "registry registry.test": OK, "p2p port from outside": Skipped,
	})
	if got := checks["seeds"].Found; !strings.Contains(got, "1 in fra1") {
		t.Errorf("seeds: %q", got)
	}
}

func TestDoctorOfTheSick(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0") // an address where nobody is
	if err != nil {
		t.Fatal(err)
	}
	nobody := l.Addr().(*net.TCPAddr)
	l.Close()
	c := testConfig(t, newKey(t))
	keyDir := openDir(t)
	if err := os.Rename(c.P2P.MeshKey, filepath.Join(keyDir, "mesh.key")); err != nil {
		t.Fatal(err)
	}
	c.P2P.MeshKey, c.DataDir = filepath.Join(keyDir, "mesh.key"), filepath.Join(keyDir, "data")
	if err := os.Mkdir(c.DataDir, 0o700); err != nil {
		t.Fatal(err)
	}
	c.P2P.Bootstrap = []string{fmt.Sprintf("/ip4/127.0.0.1/tcp/%d", nobody.Port)}
	c.Mirror.DefaultRegistry = "registry.test"
	c.Origin.Registries = []Registry{{Host: "registry.test", URL: "http://" + nobody.String()}}
	c.ZoneFrom = "file:" + filepath.Join(c.DataDir, "none")
	if err := os.WriteFile(filepath.Join(c.DataDir, ZoneFile), []byte("fra1\n"), 0o600); err != nil {
		t.Fatal(err) // so that it does not wait for the mesh
	}
	n := launch(t, c, nil)
	if err := errors.Join(os.Chmod(c.P2P.MeshKey, 0o644), os.Chmod(c.DataDir, 0o777)); err != nil {
		t.Fatal(err)
	}
	checks := n.examine(t)
	expect(t, checks, map[string]Level{
		"mesh key": Fail, "peers": Fail, "bootstrap": Fail, "data dir": Warn, "zone source": Warn, "registry registry.test": Fail,
	})
	if got := checks["bootstrap"].Found; !strings.Contains(got, fmt.Sprint(nobody.Port)) {
		t.Errorf("bootstrap: %q", got)
	}
	if err := os.Remove(n.path(IdentityFile)); err != nil {
		t.Fatal(err)
	}
	if got := n.examine(t)["data dir"]; got.Level != Fail {
		t.Errorf("without an identity: %+v", got)
	}
}

func TestDoctorWithoutAKey(t *testing.T) {
	c := testConfig(t, "")
	c.P2P.Bootstrap = []string{"dns:nowhere.invalid"}
	n := &node{cfg: c}
	if got := n.checkKey(t.Context())[0]; got.Level != Fail {
		t.Errorf("a bootstrap without a key: %+v", got)
	}
	n.cfg.P2P.Bootstrap = nil
	if got := n.checkKey(t.Context())[0]; got.Level != OK {
		t.Errorf("alone: %+v", got)
	}
	n.cfg.P2P.MeshKey = filepath.Join(c.DataDir, "gone")
	if got := n.checkKey(t.Context())[0]; got.Level != Fail {
		t.Errorf("key removed: %+v", got)
	}
	if err := os.WriteFile(n.cfg.P2P.MeshKey, []byte("half a k"), 0o600); err != nil {
		t.Fatal(err)
	}
	if got := n.checkKey(t.Context())[0]; got.Level != Fail {
		t.Errorf("key damaged: %+v", got)
	}
}

func TestFreeDisk(t *testing.T) {
	for _, row := range []struct {
		free, min int64
		want      Level
	}{
		{100 << 30, 1 << 30, OK}, {3 << 30, 1 << 30, Warn}, {1 << 30, 1 << 30, Fail}, {0, 1 << 30, Fail}, {0, -1, OK},
	} {
		if got := checkFree(row.free, row.min, "/d")[0]; got.Level != row.want {
			t.Errorf("%d free of at least %d: %+v, want %s", row.free, row.min, got, row.want)
		}
	}
}

func TestZoneChecks(t *testing.T) {
	far := []topology.Zone{
		{Name: "fra1", Measured: 2, Median: 80 * time.Millisecond}, {Name: "fra2", Measured: 2, Median: time.Millisecond},
	}
	for _, row := range []struct {
		name  string
		z     zone
		next  string
		zones []topology.Zone
		want  string // the levels
		found string
	}{
		{"label", zone{name: "fra2", source: "flag"}, "", far, "[ok]", "fra2 (from: flag)"},
		{"wrong label", zone{name: "fra1", source: "file"}, "", far, "[warn]", "80ms"},
		{"source that failed", zone{name: "fra1", source: "inferred", problem: "no file"}, "", nil, "[warn ok]", "inferred"},
		{"not found yet", zone{name: "default", source: "none"}, "", far, "[ok]", "not found out yet"},
		{"alone", zone{name: "default", source: "none"}, "", nil, "[ok]", "default"},
		{"about to change", zone{name: "default", source: "none"}, "fra2", far, "[ok]", "fra2 once"},
	} {
		t.Run(row.name, func(t *testing.T) {
			got := zoneChecks(row.z, row.next, row.zones)
			var levels []Level
			for _, c := range got {
				levels = append(levels, c.Level)
			}
			if fmt.Sprint(levels) != row.want || !strings.Contains(got[len(got)-1].Found, row.found) {
				t.Errorf("got %+v, want %s, %q", got, row.want, row.found)
			}
		})
	}
}

func TestSeedChecks(t *testing.T) {
	here, there := topology.Zone{Name: "fra1", Seeds: 1}, topology.Zone{Name: "fra2", Seeds: 2}
	for _, row := range []struct {
		name   string
		isSeed bool
		zones  []topology.Zone
		want   Level
	}{
		{"none at all", false, nil, OK},
		{"here", false, []topology.Zone{here, there}, OK},
		{"elsewhere only", false, []topology.Zone{there}, Warn},
		{"this node", true, []topology.Zone{there}, OK},
	} {
		if got := seedChecks("fra1", row.isSeed, row.zones)[0]; got.Level != row.want {
			t.Errorf("%s: %+v, want %s", row.name, got, row.want)
		}
	}
}

func TestRegistryCheck(t *testing.T) {
	for _, row := range []struct {
		err  error
		want Level
	}{
		{nil, OK},
		{&origin.Error{Err: origin.ErrUnauthorized}, OK},
		{&origin.Error{Err: origin.ErrDenied}, OK},
		{&origin.Error{Err: origin.ErrNotFound}, OK},
		{&origin.Error{Err: origin.ErrThrottled}, Warn},
		{&origin.Error{Err: origin.ErrTimeout}, Fail},
		{&origin.Error{Err: origin.ErrInvalid}, Fail},
		{&origin.Error{Err: origin.ErrRefused}, Fail},
	} {
		if got := registryCheck("r", row.err); got.Level != row.want {
			t.Errorf("%v: %+v, want %s", row.err, got, row.want)
		}
	}
}
