package e2e

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"
)

// labScenario is two zones of two hosts on links on which an image of 16 MiB takes some seconds. The registry stands in zone a.
const labScenario = `
name: two-by-two
host: {up: 50Mbit/s, down: 50Mbit/s}
seed_host: {up: 50Mbit/s, down: 50Mbit/s}
network: {overhead: 4.6%}
wan: {rtt: 20ms, out: 50Mbit/s, in: 50Mbit/s}
origin: {egress: 100Mbit/s, rtt: 10ms}
zones:
  - {name: a, hosts: 1, seeds: 1, rtt: 100us}
  - {name: b, hosts: 1, seeds: 1, rtt: 100us}
layers: [{size: 8MiB, count: 2}]
`

// needLab skips or fails a test that may not make network namespaces.
func needLab(t *testing.T) {
	t.Helper()
	long(t)
	if os.Geteuid() != 0 {
		missing(t, "the lab needs root")
	}
	if _, err := os.Stat("/dev/net/tun"); err != nil {
		missing(t, "the lab needs TUN devices: "+err.Error())
	}
	if out, err := exec.Command("unshare", "-n", "true").CombinedOutput(); err != nil {
		missing(t, "the lab needs network namespaces: "+string(out))
	}
}

// labRun is a `meshd sim lab` and what must not be there when it has ended.
type labRun struct {
	*exec.Cmd
	tmp   string
	links []string
}

func newLabRun(t *testing.T, scenario string, args ...string) *labRun {
	t.Helper()
	file := filepath.Join(t.TempDir(), "two.yaml")
	must(t, os.WriteFile(file, []byte(scenario), 0o600))
	r := &labRun{Cmd: exec.Command(meshdBinary(t), append(append([]string{"sim", "lab"}, args...), file)...), tmp: t.TempDir(), links: links(t)}
	r.Env = append(os.Environ(), "TMPDIR="+r.tmp)
	return r
}

func links(t *testing.T) []string {
	t.Helper()
	all, err := net.Interfaces()
	must(t, err)
	var names []string
	for _, i := range all {
		names = append(names, i.Name)
	}
	return names
}

// checkGone reports processes, links and, unless the lab was killed, files that stayed.
func (r *labRun) checkGone(t *testing.T, files bool) {
	t.Helper()
	deadline := time.Now().Add(time.Minute) // children of a killed parent take a moment to die
	for len(mentioning(r.Path)) > 0 && time.Now().Before(deadline) {
		time.Sleep(20 * time.Millisecond)
	}
	if left := mentioning(r.Path); len(left) > 0 {
		t.Errorf("processes left behind: %v", left)
	}
	if now := links(t); !slices.Equal(now, r.links) {
		t.Errorf("links are %v, were %v", now, r.links)
	}
	if entries, err := os.ReadDir(r.tmp); files && (err != nil || len(entries) > 0) {
		t.Errorf("files left behind: %v, %v", entries, err)
	}
}

// mentioning finds processes by a text in their command line.
func mentioning(text string) []string {
	var found []string
	files, _ := filepath.Glob("/proc/[0-9]*/cmdline")
	for _, f := range files {
		if data, err := os.ReadFile(f); err == nil && bytes.Contains(data, []byte(text)) {
			found = append(found, f)
		}
	}
	return found
}

// labResult is what the test reads of a pair of results.
type labResult struct {
	Lab struct {
		System       string             `json:"system"`
		Completed    int                `json:"completed"`
		Failed       int                `json:"failed"`
		Killed       int                `json:"killed"`
		WrongBytes   int64              `json:"wrong_bytes"`
		LastS        float64            `json:"last_s"`
		BoundS       float64            `json:"bound_s"`
		OriginCopies float64            `json:"origin_copies"`
		IntoZone     map[string]float64 `json:"into_zone"`
		Wire         map[string]float64 `json:"into_zone_wire"`
		Congestion   string             `json:"tcp_congestion_control"`
	} `json:"lab"`
	Simulator struct {
		OriginCopies float64 `json:"origin_copies"`
		LastS        float64 `json:"last_s"`
	} `json:"simulator"`
}

// Real processes on a shaped network: the registry sends each byte once, the other zone takes each in once, no link is
// faster than it is set to, and nothing is left behind.
func TestLab(t *testing.T) {
	needLab(t)
	r := newLabRun(t, labScenario, "--json", "--sims", "1")
	var errs bytes.Buffer
	r.Stderr = &errs
	out, err := r.Output()
	if err != nil {
		t.Fatalf("%v\n%s", err, &errs)
	}
	var got labResult
	must(t, json.Unmarshal(out, &got))
	l := got.Lab
	t.Logf("last %.2f s, bound %.2f s, simulated %.2f s, origin %.4f, into b %.3f, with headers %.3f",
		l.LastS, l.BoundS, got.Simulator.LastS, l.OriginCopies, l.IntoZone["b"], l.Wire["b"])
	if l.System != "lab" || l.Completed != 2 || l.Failed != 0 || l.WrongBytes != 0 || l.Congestion != "cubic" {
		t.Errorf("got %+v", l)
	}
	if l.OriginCopies < 1 || l.OriginCopies > maxCopies {
		t.Errorf("the registry sent %.4f copies", l.OriginCopies)
	}
	// Pieces, and at most 5 % of control messages, TLS and what TCP sent twice; then IP and TCP headers.
	if in, wire := l.IntoZone["b"], l.Wire["b"]; in < 1 || in > 1.05 || wire < in*1.03 || wire > 1.15 {
		t.Errorf("%.3f copies came into zone b, %.3f with headers", in, wire)
	}
	if l.LastS < l.BoundS { // the bound is what the slowest link needs for the bytes alone
		t.Errorf("the last host had it after %.2f s, the bound is %.2f s: links are not shaped", l.LastS, l.BoundS)
	}
	r.checkGone(t, true)
}

// A host is killed, a zone is cut off for a moment and a seed stops: the others end well, and so does the lab.
func TestLabFaults(t *testing.T) {
	needLab(t)
	faults := strings.Replace(labScenario, "b, hosts: 1", "b, hosts: 2", 1) + `
faults:
  - {at: 500ms, kill_hosts: 1}
  - {at: 1s, cut: b, for: 1s}
  - {at: 1s, stop_seeds: 1, for: 1s}
`
	r := newLabRun(t, faults, "--json", "--sims", "1")
	var errs bytes.Buffer
	r.Stderr = &errs
	out, err := r.Output()
	if err != nil {
		t.Fatalf("%v\n%s", err, &errs)
	}
	var got labResult
	must(t, json.Unmarshal(out, &got))
	if l := got.Lab; l.Completed != 2 || l.Killed != 1 || l.Failed != 0 || l.WrongBytes != 0 || l.OriginCopies > 1.5 {
		t.Errorf("got %+v\n%s", l, &errs)
	}
	r.checkGone(t, true)
}

// Ctrl-C ends a lab while it starts and while it pulls, and nothing stays; nor do processes and links if it is killed.
func TestLabInterrupted(t *testing.T) {
	needLab(t)
	slow := strings.ReplaceAll(labScenario, "50Mbit", "1Mbit")
	for _, row := range []struct {
		name, sign string
		signal     syscall.Signal
	}{
		{"Ctrl-C while it starts", "starting a registry", syscall.SIGINT},
		{"Ctrl-C while it pulls", "pulling", syscall.SIGINT},
		{"killed while it pulls", "pulling", syscall.SIGKILL},
	} {
		t.Run(row.name, func(t *testing.T) {
			r := newLabRun(t, slow, "--sims", "1")
			progress, err := r.StderrPipe()
			must(t, err)
			must(t, r.Start())
			guard := time.AfterFunc(2*time.Minute, func() { _ = r.Process.Kill() })
			defer guard.Stop()
			var text strings.Builder
			for lines := bufio.NewScanner(progress); lines.Scan(); {
				text.WriteString(lines.Text() + "\n")
				if row.sign != "" && strings.Contains(lines.Text(), row.sign) {
					row.sign = ""
					must(t, r.Process.Signal(row.signal))
				}
			}
			var exit *exec.ExitError
			if err := r.Wait(); row.sign != "" || !errors.As(err, &exit) {
				t.Errorf("exit: %v\n%s", err, &text)
			}
			if row.signal == syscall.SIGINT && !strings.Contains(text.String(), "two-by-two: interrupted") {
				t.Errorf("it said\n%s", &text)
			}
			r.checkGone(t, row.signal != syscall.SIGKILL)
		})
	}
}
