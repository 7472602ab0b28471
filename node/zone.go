package node

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"os"
	"strings"
	"time"

	"github.com/meshd-project/meshd/dht/gossip"
	"github.com/meshd-project/meshd/exchange"
	"github.com/meshd-project/meshd/node/topology"
)

// zone is the zone in effect and where it comes from. It does not change while the parts of a node live.
type zone struct {
	name    string
	source  string // flag, file, aws, gcp, azure, inferred, or none
	problem string // why --zone-from gave none
}

// inferred reports whether nobody gave the node its zone.
func (z zone) inferred() bool { return z.source == "inferred" || z.source == "none" }

// doubt says what speaks against a zone that the node was told, "" if nothing does. A zone that it found itself it
// changes itself.
func (z zone) doubt(zones []topology.Zone) string {
	mine, other, doubted := topology.Doubt(z.name, zones)
	if z.inferred() || !doubted {
		return ""
	}
	return fmt.Sprintf("this node is told to be in %s, but those are %v away (median of %d) and those of %s %v (of %d): its label or theirs is wrong",
		mine.Name, mine.Median.Round(100*time.Microsecond), mine.Measured,
		other.Name, other.Median.Round(10*time.Microsecond), other.Measured)
}

// openZone takes the zone from --zone, else --zone-from, else what an earlier run found out. A source that does not
// answer keeps no node from starting: it goes on as if there were none, and says so.
func (n *node) openZone() error {
	n.zone = zone{name: n.cfg.Zone, source: "flag"}
	if n.zone.name != "" {
		return nil
	}
	if spec := n.cfg.ZoneFrom; spec != "" {
		name, err := zoneFrom(context.Background(), spec, newMetadata(metadataURL, metadataTimeout))
		if err == nil {
			n.zone.name = name
			n.zone.source, _, _ = strings.Cut(spec, ":")
			return nil
		}
		n.zone.problem = fmt.Sprintf("--zone-from %s: %v", spec, err)
		log.Warnw("no zone from its source: it is found out by RTT", "err", err)
	}
	n.zone.name, n.zone.source = topology.Undecided, "none"
	switch name, err := readZone(n.path(ZoneFile)); {
	case err == nil:
		n.zone.name, n.zone.source = name, "inferred"
	case !errors.Is(err, fs.ErrNotExist):
		log.Warnw("zone of an earlier run not read", "err", err)
	}
	return nil
}

// readZone reads the name that a run wrote down.
func readZone(path string) (string, error) {
	f, err := os.Open(path)
	if err != nil {
		return "", err
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, 256))
	if err != nil {
		return "", err
	}
	name := strings.TrimSpace(string(text))
	if !gossip.ValidZone(name) || name == topology.Undecided {
		return "", fmt.Errorf("%s: %.80q names no zone (remove the file to have it found out again)", path, name)
	}
	return name, nil
}

// moved notes the zone that this node should be in and has it come back there. Topology calls it.
func (n *node) moved(name string) {
	n.nextZone.Store(&name)
	if err := writeFile(n.path(ZoneFile), []byte(name+"\n"), 0o600); err != nil {
		log.Warnw("zone found but not written down: the node stays where it is", "zone", name, "err", err)
		return
	}
	log.Infow("zone found", "zone", name, "now", n.zone.name)
	select {
	case n.zoneMoved <- struct{}{}:
	default:
	}
}

const (
	idlePoll = 2 * time.Second
	idleFor  = 3                // polls for which a node has to be idle
	moveWait = 30 * time.Second // at most, by chance, so that a place does not leave the mesh as one
)

// comeBack ends this life of the node when its zone has changed and it is idle. One that is never idle keeps its zone
// until it is restarted.
func (n *node) comeBack(ctx context.Context) error {
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-n.zoneMoved:
		}
		if n.waitIdle(ctx) && *n.nextZone.Load() != n.zone.name {
			n.goAgain()
			return nil
		}
	}
}

// waitIdle returns true when nobody has been served for a while, false when ctx is done.
func (n *node) waitIdle(ctx context.Context) bool {
	timer := time.NewTimer(rand.N(n.moveWait))
	defer timer.Stop()
	out := exchange.Sources{}
	for idle := 0; idle < idleFor; {
		select {
		case <-ctx.Done():
			return false
		case <-timer.C:
		}
		s := n.exchange.Status()
		if n.answering.none() && len(s.Pulls) == 0 && s.BytesOut == out {
			idle++
		} else {
			idle, out = 0, s.BytesOut
		}
		timer.Reset(n.idlePoll)
	}
	return true
}

// goAgain ends this life of the node; the next one begins at once.
func (n *node) goAgain() {
	n.again.Store(true)
	n.endLife()
}

// findPlace returns when the mesh has been found, or not in time. A node that does not know its zone yet may find
// then that it stands among others that do: it comes back in their zone before it serves anybody.
func (n *node) findPlace(ctx context.Context) {
	defer close(n.settled)
	if !n.mayFind() {
		return
	}
	if n.zone.source != "none" {
		settle(ctx, n.topology.Members)
		return
	}
	settle(ctx, func() []topology.Member { return measured(n.topology.Members()) })
	if ctx.Err() != nil {
		return
	}
	if name := n.topology.LookAround(); name != "" {
		n.moved(name)
		n.goAgain()
	}
}
