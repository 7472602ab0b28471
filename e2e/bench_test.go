package e2e

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/meshd-project/meshd/e2e/table"
)

// The benchmarks report ratios to a direct pull in the same run: absolute times say more about the machine. Each round
// measures both sides; `make bench` does three, and the median counts.

const gib = 1 << 30

// curl fetches a URL to nowhere and returns the seconds that it took. by is a command that runs it, if not its own.
func curl(b *testing.B, url string, by ...string) float64 {
	b.Helper()
	args := append(by, "curl", "-sS", "--fail", "-o", "/dev/null", "-w", "%{time_total}", url)
	out, err := command(args[0], args[1:]...)
	must(b, err)
	seconds, err := strconv.ParseFloat(strings.TrimSpace(out), 64)
	must(b, err)
	return seconds
}

func median(values []float64) float64 {
	slices.Sort(values)
	return values[len(values)/2]
}

// standalone starts one node on its own that reads from the given address of the registry.
func standalone(b *testing.B, r *registry, origin string, n network, host int) *node {
	b.Helper()
	m := &mesh{net: network{prefix: n.prefix}, registry: r, origin: "http://" + origin, dir: b.TempDir(), alone: true}
	node := &node{mesh: m, host: n.host(host), zone: "bench", dir: filepath.Join(m.dir, "node")}
	node.start(b)
	return node
}

// cpuSeconds is the processor time so far of a process and those that it has started.
func (p *process) cpuSeconds(t testing.TB) float64 {
	t.Helper()
	var sum float64
	for _, pid := range p.tree(t) {
		data, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
		if err != nil && pid != p.cmd.Process.Pid {
			continue // it has ended
		}
		must(t, err)
		sum += statSeconds(t, string(data))
	}
	return sum
}

// statSeconds reads the processor time in a line of /proc/PID/stat.
func statSeconds(t testing.TB, line string) float64 {
	t.Helper()
	fields := strings.Fields(line[strings.LastIndexByte(line, ')')+1:])
	user, err := strconv.ParseFloat(fields[11], 64)
	must(t, err)
	system, err := strconv.ParseFloat(fields[12], 64)
	must(t, err)
	return (user + system) / 100 // USER_HZ is 100 on every Linux that Go runs on
}

// memory is a line of /proc/PID/status in MiB: VmHWM is the peak, VmRSS what is resident now.
func (p *process) memory(t testing.TB, key string) float64 {
	t.Helper()
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", p.cmd.Process.Pid))
	must(t, err)
	for line := range strings.Lines(string(data)) {
		if rest, ok := strings.CutPrefix(line, key+":"); ok {
			kib, err := strconv.ParseFloat(strings.Fields(rest)[0], 64)
			must(t, err)
			return kib / 1024
		}
	}
	t.Fatalf("no %s", key)
	return 0
}

// A cold pull of 1 GiB through one node against curl straight from the registry, all on this machine: both sides
// take what processor there is, and meshd also hashes twice and writes to disk. Goals: 1.1x, 120 MiB.
func BenchmarkCold1GiB(b *testing.B) {
	need(b, "docker-registry", "curl")
	n := newNetwork(b)
	r := startRegistry(b, n)
	coldGiB(b, n, r, r.addr)
}

// The same with a registry that sends 125 MB/s, as over a network card of 1 Gbit/s.
func BenchmarkCold1GiBAtGigabit(b *testing.B) {
	need(b, "docker-registry", "curl")
	n := newNetwork(b)
	r := startRegistry(b, n)
	r.proxy.behave(b, behaviour{Rate: 125e6})
	coldGiB(b, n, r, r.proxy.addr)
}

func coldGiB(b *testing.B, n network, r *registry, origin string) {
	x := r.pushBlob(b, "library/cold", 20, gib)
	path := "/v2/" + x.repo + "/blobs/" + x.hash.String()
	x.data = nil
	curl(b, "http://"+r.addr+path) // the page cache is warm for both sides
	var direct, through, cpu, peak []float64
	host := 1
	for b.Loop() {
		direct = append(direct, curl(b, "http://"+origin+path))
		node := standalone(b, r, origin, n, host)
		host++
		before := node.cpuSeconds(b)
		through = append(through, curl(b, "http://"+node.mirror()+path))
		cpu = append(cpu, node.cpuSeconds(b)-before)
		peak = append(peak, node.memory(b, "VmHWM"))
		node.kill()
		must(b, os.RemoveAll(node.dir))
	}
	b.Logf("direct %.2f s, through meshd %.2f s", direct, through)
	b.ReportMetric(median(direct), "direct-s")
	b.ReportMetric(median(through), "meshd-s")
	b.ReportMetric(median(through)/median(direct), "x-direct")
	b.ReportMetric(median(cpu), "cpu-s")
	b.ReportMetric(slices.Max(peak), "peak-MiB")
	table.Add(table.Row{
		What: b.Name()[len("Benchmark"):] + ", time", Unit: "s", Ours: table.Median(through), Reference: table.Median(direct), ReferenceName: "curl from the registry",
	})
}

// A warm pull of 1 GiB against nginx with the same file, server and client on cores of their own, and on one (cores_test.go).
func BenchmarkWarm1GiB(b *testing.B) {
	need(b, "docker-registry", "curl", "nginx", "taskset")
	n := newNetwork(b)
	r := startRegistry(b, n)
	x := r.pushBlob(b, "library/warm", 21, gib)
	dir := b.TempDir()
	must(b, os.Chmod(dir, 0o755))
	must(b, os.WriteFile(filepath.Join(dir, "blob"), x.data, 0o644))
	x.data = nil
	nginx, server := startNginx(b, n.host(210)+":8080", dir)
	node := standalone(b, r, r.addr, n, 1)
	sides := []warmSide{
		{node.process, "http://" + node.mirror() + "/v2/" + x.repo + "/blobs/" + x.hash.String()},
		{server, "http://" + nginx + "/blob"},
	}
	for _, s := range sides {
		curl(b, s.url)
	}
	all := cores(b)
	places := map[string][2]int{"on one core": {all[0], all[0]}}
	if len(all) > 1 {
		places["on cores of their own"] = [2]int{all[0], all[1]}
	}
	took, cpu := make(map[string][2][]float64), make(map[string][2][]float64)
	for b.Loop() {
		for name, at := range places {
			t, c := took[name], cpu[name]
			for i, s := range sides {
				seconds, used := s.pull(b, at[0], at[1])
				t[i], c[i] = append(t[i], seconds), append(c[i], used)
			}
			took[name], cpu[name] = t, c
		}
	}
	b.ReportMetric(0, "ns/op")
	for name := range places {
		t, c := took[name], cpu[name]
		b.Logf("%s: meshd %.2f s, CPU %.3f s; nginx %.2f s, CPU %.3f s", name, t[0], c[0], t[1], c[1])
		table.Add(table.Row{
			What: "warm pull, speed, server and client " + name, Unit: "MB/s", Ours: gib / 1e6 / table.Median(t[0]),
			Reference: gib / 1e6 / table.Median(t[1]), ReferenceName: "nginx", Goal: table.Goal{AtLeast: 1},
		})
		table.Add(table.Row{
			What: "warm pull, CPU of the server, server and client " + name, Unit: "s/GiB", Ours: table.Median(c[0]),
			Reference: table.Median(c[1]), ReferenceName: "nginx", Goal: table.Goal{AtMost: 1.1},
		})
	}
}

// warmSide is a server that has a GiB at a URL.
type warmSide struct {
	*process
	url string
}

// pull fetches it to nowhere, with server and client on the given cores, and returns the seconds that one takes and the
// server's processor time. It fetches some, because the kernel counts that in steps of 10 ms.
func (s warmSide) pull(b *testing.B, server, client int) (seconds, cpu float64) {
	b.Helper()
	const pulls = 3
	pids := s.tree(b)
	pin(b, []int{server}, pids...)
	defer pin(b, cores(b), pids...)
	before := s.cpuSeconds(b)
	for range pulls {
		seconds += curl(b, s.url, "taskset", "-c", strconv.Itoa(client))
	}
	return seconds / pulls, (s.cpuSeconds(b) - before) / pulls
}

func startNginx(b *testing.B, addr, root string) (string, *process) {
	b.Helper()
	dir := b.TempDir()
	config := filepath.Join(dir, "nginx.conf")
	text := fmt.Sprintf("daemon off; pid %[1]s/pid; error_log stderr; user root;\nevents {}\nhttp { access_log off; sendfile on; tcp_nopush on;\n"+
		"client_body_temp_path %[1]s/b; proxy_temp_path %[1]s/p; fastcgi_temp_path %[1]s/f; uwsgi_temp_path %[1]s/u; scgi_temp_path %[1]s/s;\n"+
		"server { listen %[2]s; root %[3]s; } }\n", dir, addr, root)
	must(b, os.WriteFile(config, []byte(text), 0o644))
	p := startProcess(b, "nginx", exec.Command("nginx", "-c", config))
	b.Cleanup(func() { p.terminate(b, 10*time.Second) }) // or its workers stay
	p.waitFor(b, "answer", 10*time.Second, func() error {
		resp, err := httpClient.Head("http://" + addr + "/blob")
		if err == nil {
			resp.Body.Close()
		}
		return err
	})
	return addr, p
}

// An image of 121 small blobs cold, as a client pulls it: the manifest, then three blobs at a time, against the same
// from the registry itself. Goal: 1.5x.
func BenchmarkColdSmallBlobs(b *testing.B) {
	need(b, "docker-registry")
	n := newNetwork(b)
	r := startRegistry(b, n)
	var sizes []int64
	for i := range int64(120) {
		sizes = append(sizes, 1<<10+i*i*8)
	}
	img := r.pushImage(b, "library/small", 1000, sizes...)
	pull := func(addr string) float64 {
		start := time.Now()
		base := "http://" + addr + "/v2/" + img.repo
		_, err := httpGet(context.Background(), base+"/manifests/"+img.tag, img.digest)
		must(b, err)
		var g errgroup.Group
		g.SetLimit(3)
		for _, x := range img.blobs() {
			g.Go(func() error {
				_, err := httpGet(context.Background(), base+"/blobs/"+x.Digest.String(), x.Digest)
				return err
			})
		}
		must(b, g.Wait())
		return time.Since(start).Seconds()
	}
	pull(r.addr)
	var direct, through []float64
	host := 1
	for b.Loop() {
		node := standalone(b, r, r.addr, n, host)
		host++
		direct = append(direct, pull(r.addr))
		through = append(through, pull(node.mirror()))
		node.kill()
	}
	b.Logf("direct %.3f s, through meshd %.3f s", direct, through)
	b.ReportMetric(1000*median(direct), "direct-ms")
	b.ReportMetric(1000*median(through), "meshd-ms")
	b.ReportMetric(median(through)/median(direct), "x-direct")
}

// A cold blob of 1 KiB: what meshd adds. Goal: 15 ms.
func BenchmarkColdKiB(b *testing.B) {
	need(b, "docker-registry")
	n := newNetwork(b)
	r := startRegistry(b, n)
	node := standalone(b, r, r.addr, n, 1)
	get := func(addr string, x blob) float64 {
		start := time.Now()
		_, err := httpGet(context.Background(), "http://"+addr+"/v2/"+x.repo+"/blobs/"+x.hash.String(), x.hash)
		must(b, err)
		return 1000 * time.Since(start).Seconds()
	}
	var direct, through []float64
	seed := int64(5000)
	for b.Loop() {
		for range 30 {
			seed++
			x := r.pushBlob(b, "library/tiny", seed, 1<<10)
			direct = append(direct, get(r.addr, x))
			through = append(through, get(node.mirror(), x))
		}
	}
	b.ReportMetric(median(direct), "direct-ms")
	b.ReportMetric(median(through), "meshd-ms")
	b.ReportMetric(median(through)-median(direct), "added-ms")
	b.ReportMetric(through[len(through)*9/10]-direct[len(direct)*9/10], "added-p90-ms")
}

// A node with nothing to do. Goal: 50 MiB.
func BenchmarkIdle(b *testing.B) {
	n := newNetwork(b)
	m := &mesh{net: n, origin: "http://" + n.host(200) + ":5000", dir: b.TempDir()}
	for b.Loop() {
		m.nodes = nil
		m.start(b, nodeSpec{zone: "idle"})
		node := m.nodes[0]
		before := node.cpuSeconds(b)
		time.Sleep(10 * time.Second) // what is measured is that nothing happens
		b.ReportMetric(node.memory(b, "VmRSS"), "rss-MiB")
		b.ReportMetric(node.memory(b, "RssAnon"), "own-MiB") // without what the kernel keeps of the binary's file
		b.ReportMetric(node.metric(b, "go_goroutines"), "goroutines")
		b.ReportMetric((node.cpuSeconds(b)-before)/10*100, "cpu-percent")
		node.kill()
	}
}

// BenchmarkGate measures what the gate adds in front of a private blob that is on disk: cold, when it has to ask the registry
// and its auth service for credentials that it has not seen; warm, under an earlier yes. One question of the registry with a
// token at hand stands beside.
func BenchmarkGate(b *testing.B) {
	users := map[string]string{}
	for i := range 1000 {
		users[fmt.Sprint("user", i)] = password
	}
	m, auth := guardedMesh(b, users, []string{"team/app"}, nodeSpec{"east", true})
	img := byPath(m.registry.pushImage(b, "team/app", 1, 1*mib))
	layer := img.manifest.Layers[0].Digest.String()
	scope := "repository:team/app:pull"
	direct, err := auth.sign("", []any{map[string]any{"type": "repository", "name": "team/app", "actions": []string{"pull"}}})
	must(b, err)
	get := func(method, url, authorization string) float64 {
		start := time.Now()
		req, err := http.NewRequest(method, url, nil)
		must(b, err)
		req.Header.Set("Authorization", authorization)
		req.Header.Set("Range", "bytes=0-0")
		resp, err := httpClient.Do(req)
		must(b, err)
		_, _ = io.Copy(io.Discard, resp.Body)
		resp.Body.Close()
		if resp.StatusCode >= 300 {
			b.Fatalf("%s: %s", url, resp.Status)
		}
		return time.Since(start).Seconds() * 1000
	}
	mirror := "http://" + m.nodes[0].mirror()
	blob := mirror + "/v2/" + img.repo + "/blobs/" + layer
	var cold, warm, origin []float64
	i := 0
	for b.Loop() {
		for range 10 {
			req, err := http.NewRequest(http.MethodGet, mirror+"/v2/token?scope="+strings.Replace(scope, "team/", guardedHost+"/team/", 1), nil)
			must(b, err)
			req.SetBasicAuth(fmt.Sprint("user", i%len(users)), password)
			i++
			resp, err := httpClient.Do(req)
			must(b, err)
			var answer struct{ Token string }
			must(b, json.NewDecoder(resp.Body).Decode(&answer))
			resp.Body.Close()
			cold = append(cold, get(http.MethodGet, blob, "Bearer "+answer.Token))
			warm = append(warm, get(http.MethodGet, blob, "Bearer "+answer.Token))
			origin = append(origin, get(http.MethodHead, m.guarded.url()+"/v2/team/app/blobs/"+layer, "Bearer "+direct))
		}
	}
	b.ReportMetric(median(cold[1:]), "cold-ms") // the first has the blob fetched
	b.ReportMetric(median(warm), "warm-ms")
	b.ReportMetric(median(origin), "question-ms")
}
