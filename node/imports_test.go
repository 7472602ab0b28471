package node

import (
	"os/exec"
	"slices"
	"strings"
	"testing"
)

const module = "github.com/meshd-project/meshd"

// allowed lists, for each package, the packages of this module that it may import. Imports run downwards only:
// cmd -> node -> {mirror, seed, dht, exchange} -> exchange/{swarm, wire, store}. Packages that are missing here,
// those of the tests aside, fail the test: say where a new one stands.
var allowed = map[string][]string{
	"cmd/meshd":                {"cmd/meshd/demo", "cmd/meshd/get", "cmd/meshd/setup", "cmd/meshd/sim", "node", "node/admin", "node/admin/client", "node/trust", "exchange", "exchange/store", "seed/file", "seed/origin"},
	"cmd/meshd/get":            {"mirror/gateway", "node", "seed/file"},
	"cmd/meshd/demo":           {"netsim/testbed", "node"},
	"cmd/meshd/setup":          {"node"},
	"cmd/meshd/sim":            {"netsim", "netsim/lab"},
	"node":                     {"node/admin", "node/catalog", "node/files", "node/topology", "node/trust", "mirror", "mirror/gateway", "mirror/proxy", "seed", "seed/file", "seed/harbor", "seed/notify", "seed/origin", "seed/preheat", "seed/storage", "dht", "dht/gossip", "exchange", "exchange/pace", "exchange/store", "exchange/swarm"},
	"node/files":               {"exchange", "exchange/pace", "exchange/store", "exchange/swarm", "mirror/gateway", "seed/file"},
	"node/catalog":             {"exchange/store"},
	"node/topology":            {"dht/gossip"},
	"node/admin":               {},
	"node/trust":               {},
	"node/admin/client":        {"node/admin"},
	"mirror":                   {},
	"mirror/gateway":           {},
	"mirror/proxy":             {"mirror"},
	"seed":                     {"exchange", "exchange/store"},
	"seed/origin":              {},
	"seed/storage":             {"exchange", "exchange/store", "exchange/swarm"},
	"seed/file":                {"seed/origin"},
	"seed/harbor":              {"seed/notify", "seed/preheat"},
	"seed/notify":              {"seed/preheat"},
	"seed/preheat":             {"exchange/swarm", "exchange/wire"},
	"dht":                      {},
	"dht/gossip":               {},
	"dht/hosttest":             {},
	"exchange":                 {"exchange/pace", "exchange/swarm", "exchange/wire", "exchange/store"},
	"exchange/pace":            {"exchange/swarm"},
	"exchange/wire":            {"exchange/swarm"},
	"exchange/store":           {},
	"exchange/store/storetest": {"exchange/store"},
	"exchange/swarm":           {},
	"exchange/swarm/swarmtest": {"exchange/swarm"},
	"netsim":                   {"exchange/swarm", "exchange/swarm/swarmtest"},
	"netsim/lab":               {"netsim", "netsim/testbed"},
	"netsim/testbed":           {},
	"e2e":                      {},
	"e2e/liar":                 {"dht", "dht/gossip", "exchange", "exchange/swarm", "exchange/wire"},
	"e2e/table":                {},
	"e2e/testlog":              {},
}

// cidUsers are the only packages that may name content by CID.
var cidUsers = []string{"dht"}

func TestImportsRunDownwards(t *testing.T) {
	out, err := exec.CommandContext(t.Context(), "go", "list", "-f", `{{.ImportPath}}{{range .Imports}} {{.}}{{end}}`, module+"/...").Output()
	if err != nil {
		t.Fatalf("go list: %v", err)
	}
	for line := range strings.Lines(string(out)) {
		fields := strings.Fields(line)
		pkg := strings.TrimPrefix(fields[0], module+"/")
		may, ok := allowed[pkg]
		if !ok {
			t.Errorf("%s is not in the table", pkg)
			continue
		}
		for _, imp := range fields[1:] {
			inner, ours := strings.CutPrefix(imp, module+"/")
			if ours && !slices.Contains(may, inner) {
				t.Errorf("%s must not import %s", pkg, inner)
			}
			if imp == "github.com/ipfs/go-cid" && !slices.Contains(cidUsers, pkg) {
				t.Errorf("%s must not import go-cid: content has digests there", pkg)
			}
		}
	}
}
