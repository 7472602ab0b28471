package e2e

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// vitals are what a leak shows in.
type vitals struct {
	goroutines, descriptors int
	rss, peak               int64 // bytes
}

func (v vitals) String() string {
	return fmt.Sprintf("%d goroutines, %d descriptors, %d MiB (peak %d)", v.goroutines, v.descriptors, v.rss/mib, v.peak/mib)
}

// vitals reads those of the node's present life.
func (n *chaosNode) vitals() (v vitals, err error) {
	resp, err := n.get("/metrics")
	if err != nil {
		return v, err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode != http.StatusOK {
		return v, fmt.Errorf("/metrics: %s: %w", resp.Status, err)
	}
	for line := range strings.Lines(string(body)) {
		var f float64
		if _, err := fmt.Sscanf(line, "go_goroutines %g", &f); err == nil {
			v.goroutines = int(f)
		}
	}
	of, err := vitalsOf(n.cmd.Process.Pid)
	of.goroutines = v.goroutines
	return of, err
}

// vitalsOf reads what the kernel knows of a process.
func vitalsOf(pid int) (v vitals, err error) {
	proc := fmt.Sprintf("/proc/%d", pid)
	entries, err := os.ReadDir(proc + "/fd")
	if err != nil {
		return v, err
	}
	v.descriptors = len(entries)
	status, err := os.ReadFile(proc + "/status")
	for line := range strings.Lines(string(status)) {
		var kib int64
		if _, err := fmt.Sscanf(line, "VmRSS: %d kB", &kib); err == nil {
			v.rss = kib << 10
		}
		if _, err := fmt.Sscanf(line, "VmHWM: %d kB", &kib); err == nil {
			v.peak = kib << 10
		}
	}
	return v, err
}

// status is /v1/status.
func (n *chaosNode) status() (s nodeStatus, quarantined []struct{ Peer, Why string }, err error) {
	resp, err := n.get("/v1/status")
	if err != nil {
		return s, nil, err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		return s, nil, err
	}
	var q struct {
		Quarantined []struct {
			Peer string `json:"peer"`
			Why  string `json:"why"`
		} `json:"quarantined"`
	}
	if err := json.Unmarshal(body, &q); err != nil {
		return s, nil, err
	}
	for _, one := range q.Quarantined {
		quarantined = append(quarantined, struct{ Peer, Why string }{one.Peer, one.Why})
	}
	return s, quarantined, json.Unmarshal(body, &s)
}

// measure returns the most that any node has of anything, while nobody pulls.
func (r *chaosRun) measure() (most vitals) {
	for _, n := range r.nodes {
		v, err := n.vitals()
		must(r.t, err)
		most.goroutines = max(most.goroutines, v.goroutines)
		most.descriptors = max(most.descriptors, v.descriptors)
		most.rss, most.peak = max(most.rss, v.rss), max(most.peak, v.peak)
	}
	return most
}

// until polls each node until check says nil, and notes what it says after limit.
func (r *chaosRun) until(limit time.Duration, check func(*chaosNode) error) {
	deadline := time.Now().Add(limit)
	for _, n := range r.nodes {
		for {
			err := check(n)
			if err == nil {
				break
			}
			if !n.running() || time.Now().After(deadline) {
				r.breaks("%s: %v", n.name, err)
				break
			}
			time.Sleep(200 * time.Millisecond)
		}
	}
}

// awaitWhole waits until everybody is connected with everybody.
func (r *chaosRun) awaitWhole() {
	r.until(2*time.Minute, func(n *chaosNode) error {
		s, _, err := n.status()
		if err == nil && s.Peers.n < len(r.nodes)-1 {
			err = fmt.Errorf("has %d peers of %d", s.Peers.n, len(r.nodes)-1)
		}
		return err
	})
}

// checkPulls is the main thing: what came of the clients' pulls.
func (r *chaosRun) checkPulls() {
	for _, what := range slices.Concat(r.pulls.wrong, r.pulls.failed) {
		r.breaks("%s", what)
	}
	if r.pulls.right == 0 {
		r.breaks("no pull ended right: nothing was tested")
	}
}

// checkHealth looks the mesh over when all is over.
func (r *chaosRun) checkHealth(before vitals) {
	r.awaitWhole()
	for i, n := range r.nodes {
		for k := range 3 {
			img := r.images[(i+4*k)%len(r.images)]
			ctx, cancel := context.WithTimeout(r.t.Context(), attemptLimit)
			if _, err := wholeImage(ctx, n.spot.addr+":65001", pull{image: img, rate: 1 << 40}); err != nil {
				r.breaks("after all: %s of %s: %v", img.repo, n.name, err)
			}
			cancel()
		}
	}
	httpClient.CloseIdleConnections()
	r.until(2*time.Minute, func(n *chaosNode) error {
		s, quarantined, err := n.status()
		if err != nil {
			return err
		}
		if s.Pulls.n > 0 {
			return fmt.Errorf("still has %d pulls", s.Pulls.n)
		}
		for _, q := range quarantined { // nobody here lies
			r.tell("in quarantine at %s: %s: %s", n.name, q.Peer, q.Why)
		}
		v, err := n.vitals()
		if err != nil {
			return err
		}
		if v.goroutines > before.goroutines+150 || v.descriptors > before.descriptors+60 || v.rss > before.rss+250*mib {
			return fmt.Errorf("%v, before %v", v, before)
		}
		r.tell("%s at the end: %v (the most at the start: %v)", n.name, v, before)
		return nil
	})
	for _, n := range r.nodes {
		r.checkLog(n)
	}
	r.until(time.Minute, checkFiles)
}

// checkLog looks for what no honest mesh says.
func (r *chaosRun) checkLog(n *chaosNode) {
	data, err := os.ReadFile(n.log)
	must(r.t, err)
	for line := range strings.Lines(string(data)) {
		for _, bad := range []string{"panic:", "fatal error:", "DATA RACE", "piece rejected", "attested"} {
			if strings.Contains(line, bad) {
				r.breaks("%s says: %s", n.name, strings.TrimSpace(line))
			}
		}
	}
}

// checkFiles looks for what is left behind, and more than there should be. A node that keeps its small files up to date has
// one of either for a moment.
func checkFiles(n *chaosNode) error {
	var bytes int64
	var left []string
	data := filepath.Join(n.spot.dir, "data")
	err := filepath.WalkDir(data, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		name := d.Name()
		if strings.HasPrefix(name, ".") || strings.HasSuffix(name, ".tmp") || strings.Contains(path, "/trash/") || strings.Contains(name, "spool") {
			left = append(left, path)
		}
		if info, err := d.Info(); err == nil && strings.Contains(path, "/blobs/") {
			bytes += info.Size()
		}
		return nil
	})
	switch {
	case err != nil:
		return err
	case len(left) > 0:
		return fmt.Errorf("left behind: %v", left)
	case bytes > (chaosCacheMiB+1)<<20:
		return fmt.Errorf("keeps %d bytes of blobs, --cache-size is %d MiB", bytes, chaosCacheMiB)
	}
	return nil
}

// report prints the figures, and on failure the story.
func (r *chaosRun) report() {
	c := r.registry.proxy.counts(r.t)
	var content int64
	for _, img := range r.images {
		content += img.size
	}
	p := &r.pulls
	r.t.Logf("pulls %d (%s), %d MiB to clients; wrong bytes = %d; failures without an excuse = %d; answers of 504 without one %d; retries %d (excused: %s)",
		p.right, listCounts(p.byHow), p.bytes/mib, len(p.wrong), len(p.failed), p.late, p.retries, listCounts(p.excused))
	r.t.Logf("slowest pull: %s", p.slowestWas)
	r.t.Logf("origin: %d MiB of blobs in %d requests, %.1f copies of %d MiB of content", c.BlobBytes/mib, c.BlobRequests, float64(c.BlobBytes)/float64(content), content/mib)
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, what := range r.broken {
		r.t.Error(what)
	}
	if r.t.Failed() {
		r.t.Logf("replay with: make chaos CHAOS_SEED=%d CHAOS_TIME=%v\n%s", r.seed, r.length, strings.Join(r.story, "\n"))
	}
}

// showLogs shows the end of each node's log.
func (r *chaosRun) showLogs() {
	if dir := os.Getenv(logsEnv); dir != "" {
		must(r.t, os.MkdirAll(dir, 0o755))
		for _, n := range r.nodes {
			data, _ := os.ReadFile(n.log)
			must(r.t, os.WriteFile(filepath.Join(dir, filepath.Base(n.log)), data, 0o600))
		}
		must(r.t, os.WriteFile(filepath.Join(dir, "story"), []byte(strings.Join(r.story, "\n")), 0o600))
		r.t.Logf("logs are in %s", dir)
		return
	}
	for _, n := range r.nodes {
		r.t.Logf("--- end of the log of %s\n%s", n.name, n.tail(3000))
	}
}
