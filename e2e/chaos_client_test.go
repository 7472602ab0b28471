package e2e

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"time"
)

// errWrong is the one thing that must never happen: other bytes than asked for, and a clean ending.
var errWrong = errors.New("WRONG BYTES")

// trouble is an excuse: from and to when a node, or everybody, had no living path.
type trouble struct {
	node     int // -1: everybody
	why      string
	from, to time.Time // to is zero while it lasts
}

// excuses are all troubles of a run.
type excuses struct {
	mu  sync.Mutex
	all []*trouble
}

// begin notes that a trouble begins. The function returned ends it after a grace.
func (e *excuses) begin(node int, why string, grace time.Duration) (end func()) {
	e.mu.Lock()
	defer e.mu.Unlock()
	one := &trouble{node: node, why: why, from: time.Now()}
	e.all = append(e.all, one)
	return sync.OnceFunc(func() {
		e.mu.Lock()
		defer e.mu.Unlock()
		one.to = time.Now().Add(grace)
	})
}

// troublePasses is how long after a trouble's end a pull may still fail for it: a node lets a client wait 20 s for a byte, and
// asks a registry again that closed the connection.
const troublePasses = 30 * time.Second

// inexcusable are answers that say more than "not now": no trouble of a process, a network or a registry makes a blob unknown,
// a client unwelcome, a request bad, or a node fail inside.
var inexcusable = regexp.MustCompile(`(?i)(status|code|error):? (400|401|403|404|405|416|500)\b|_UNKNOWN|_INVALID|DENIED|UNAUTHORIZED|UNSUPPORTED`)

// of returns why a pull at a node that began at a time may have failed now, "" if there is no excuse.
func (e *excuses) of(node int, began time.Time, failure error) string {
	if failure == nil {
		return ""
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	if strings.Contains(failure.Error(), "is not this node's") && e.lives(node, began) > 2 {
		return "two ends in a pull" // tokens end with their process, and clients ask for a new one once
	}
	if inexcusable.MatchString(failure.Error()) {
		return ""
	}
	for _, o := range e.all {
		if (o.node == node || o.node < 0) && (o.to.IsZero() || o.to.After(began) && time.Since(o.to) < troublePasses) {
			return o.why
		}
	}
	return ""
}

// endings are the faults that end a process.
var endings = []faultKind{faultKill, faultRestart, faultDamage, faultWipe}

// lives counts the processes that a node has had since a time. e.mu is held.
func (e *excuses) lives(node int, since time.Time) int {
	n := 1
	for _, o := range e.all {
		if o.node == node && o.from.After(since) && slices.Contains(endings, faultKind(o.why)) {
			n++
		}
	}
	return n
}

// chaosImage is an image whose bytes the clients know.
type chaosImage struct {
	*image
	layers [][]byte
}

// pull is one thing that a client wants, as its seed says.
type pull struct {
	node  int
	image *chaosImage
	how   string
	rate  int64 // bytes a second that the client takes
	pick  uint64
}

// pullCounts is what came of all pulls.
type pullCounts struct {
	mu             sync.Mutex
	right, retries int
	late           int // answers of 504 without an excuse, of pulls that ended right later
	bytes          int64
	wrong, failed  []string
	slowest        time.Duration
	slowestWas     string
	byHow          map[string]int
	excused        map[string]int
}

func (c *pullCounts) note(f func()) {
	c.mu.Lock()
	defer c.mu.Unlock()
	f()
}

// client pulls one thing after another until stop is closed, and the last one to its end.
func (r *chaosRun) client(ctx context.Context, i int, stop <-chan struct{}) {
	rng := rand.New(rand.NewPCG(r.seed, 100+uint64(i)))
	for {
		select {
		case <-stop:
			return
		case <-ctx.Done():
			return
		default:
		}
		r.pullUntilRight(ctx, pull{
			node: rng.IntN(len(r.nodes)), image: r.images[rng.IntN(len(r.images))],
			how:  []string{"http", "http", "http", "curl", "crane", "range"}[rng.IntN(6)],
			rate: 1*mib + rng.Int64N(6*mib), pick: rng.Uint64(),
		})
	}
}

// pullUntilRight tries as a patient client does. A failure for which there is no excuse counts against the mesh, and so
// does a pull that has not ended right pullPatience after the end of all faults.
//
// A node answers 504 when not a byte came within 20 s, which a slow day may bring; three times in a row is a failure.
func (r *chaosRun) pullUntilRight(ctx context.Context, p pull) {
	late := 0
	for {
		began := time.Now()
		attempt, cancel := context.WithTimeout(ctx, attemptLimit)
		n, err := r.attempt(attempt, p)
		cancel()
		took := time.Since(began)
		what := fmt.Sprintf("%s of %s at node-%d, after %.1fs and %d bytes, %.1fs into the run", p.how, p.image.repo, p.node+1, took.Seconds(), n, time.Since(r.began).Seconds())
		excuse := r.excuses.of(p.node, began, err)
		again := false
		if err != nil && excuse == "" && strings.Contains(err.Error(), "504") {
			late++
		} else {
			late = 0
		}
		r.pulls.note(func() {
			c := &r.pulls
			c.bytes += n
			switch {
			case err == nil:
				c.right++
				c.byHow[p.how]++
				if took > c.slowest {
					c.slowest, c.slowestWas = took, what
				}
			case errors.Is(err, errWrong):
				c.wrong = append(c.wrong, what+": "+err.Error())
			case ctx.Err() != nil:
				c.failed = append(c.failed, "NEVER RIGHT: "+what+": "+err.Error())
			case late > 0 && late < 3:
				c.late++
				again = true
			case excuse == "":
				c.failed = append(c.failed, what+": "+err.Error())
				again = true
			default:
				c.excused[excuse]++
				again = true
			}
			if again {
				c.retries++
			}
		})
		if !again {
			return
		}
		select {
		case <-time.After(300 * time.Millisecond):
		case <-ctx.Done():
		}
	}
}

// attempt pulls once and returns the bytes that came.
func (r *chaosRun) attempt(ctx context.Context, p pull) (int64, error) {
	mirror := r.field.spots[p.node].addr + ":65001"
	switch p.how {
	case "curl":
		return curlBlob(ctx, mirror, p)
	case "crane":
		return p.image.size, r.craneImage(ctx, mirror, p)
	case "range":
		return rangeOfBlob(ctx, mirror, p)
	}
	return wholeImage(ctx, mirror, p)
}

// wholeImage takes manifest, config and layers, at the client's rate.
func wholeImage(ctx context.Context, mirror string, p pull) (int64, error) {
	base := "http://" + mirror + "/v2/" + p.image.repo
	sum, err := chaosGet(ctx, base+"/manifests/"+p.image.tag, "", p.rate, p.image.digest.Hex)
	for _, b := range p.image.blobs() {
		if err != nil {
			break
		}
		var n int64
		n, err = chaosGet(ctx, base+"/blobs/"+b.Digest.String(), "", p.rate, b.Digest.Hex)
		sum += n
	}
	return sum, err
}

// rangeOfBlob takes a part of a layer and compares it.
func rangeOfBlob(ctx context.Context, mirror string, p pull) (int64, error) {
	layer := p.image.layers[int(p.pick%uint64(len(p.image.layers)))]
	first := int64(p.pick>>8) & (1<<40 - 1) % int64(len(layer))
	last := min(first+256<<10, int64(len(layer))-1)
	sum := sha256.Sum256(layer[first : last+1])
	whole := sha256.Sum256(layer)
	url := "http://" + mirror + "/v2/" + p.image.repo + "/blobs/sha256:" + hex.EncodeToString(whole[:])
	return chaosGet(ctx, url, fmt.Sprintf("bytes=%d-%d", first, last), p.rate, hex.EncodeToString(sum[:]))
}

// chaosGet reads an answer at a rate and compares its SHA-256 if it ends cleanly.
func chaosGet(ctx context.Context, url, ranges string, rate int64, want string) (int64, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return 0, err
	}
	req.Header.Set("Accept", "application/vnd.oci.image.manifest.v1+json, */*")
	status := http.StatusOK
	if ranges != "" {
		req.Header.Set("Range", ranges)
		status = http.StatusPartialContent
	}
	resp, err := httpClient.Do(req)
	if err != nil {
		return 0, err
	}
	defer resp.Body.Close()
	if resp.StatusCode != status {
		body, _ := io.ReadAll(io.LimitReader(resp.Body, 300))
		return 0, fmt.Errorf("%w: %s: %s", errStatus, resp.Status, bytes.TrimSpace(body))
	}
	h := sha256.New()
	n, err := copyAt(ctx, h, resp.Body, rate)
	if err != nil {
		return n, fmt.Errorf("after %d bytes of %s: %w", n, url, err)
	}
	if got := hex.EncodeToString(h.Sum(nil)); got != want {
		return n, fmt.Errorf("%w: %d bytes of %s %s have sha256:%s", errWrong, n, url, ranges, got)
	}
	return n, nil
}

// copyAt copies at a rate, as a client that unpacks what it gets.
func copyAt(ctx context.Context, w io.Writer, r io.Reader, rate int64) (n int64, err error) {
	began := time.Now()
	for {
		m, err := io.CopyN(w, r, 256<<10)
		n += m
		if errors.Is(err, io.EOF) {
			return n, nil
		}
		if err != nil {
			return n, err
		}
		select {
		case <-time.After(time.Until(began.Add(time.Duration(n * int64(time.Second) / rate)))):
		case <-ctx.Done():
			return n, ctx.Err()
		}
	}
}

// curlBlob takes a layer with curl.
func curlBlob(ctx context.Context, mirror string, p pull) (int64, error) {
	layers := p.image.manifest.Layers
	b := layers[int(p.pick%uint64(len(layers)))]
	cmd := exec.CommandContext(ctx, "curl", "-sSf", "--limit-rate", fmt.Sprint(p.rate), "http://"+mirror+"/v2/"+p.image.repo+"/blobs/"+b.Digest.String())
	h := sha256.New()
	var complaint strings.Builder
	counted := &countWriter{w: h}
	cmd.Stdout, cmd.Stderr = counted, &complaint
	if err := cmd.Run(); err != nil {
		return counted.n, fmt.Errorf("%w: %s", err, complaint.String())
	}
	if got := hex.EncodeToString(h.Sum(nil)); got != b.Digest.Hex {
		return counted.n, fmt.Errorf("%w: curl got %d bytes of sha256:%s, want %v", errWrong, counted.n, got, b.Digest)
	}
	return counted.n, nil
}

type countWriter struct {
	w io.Writer
	n int64
}

func (c *countWriter) Write(b []byte) (int, error) {
	n, err := c.w.Write(b)
	c.n += int64(n)
	return n, err
}

// craneImage pulls with crane, which checks digests itself; what it wrote is checked again.
func (r *chaosRun) craneImage(ctx context.Context, mirror string, p pull) error {
	dir, err := os.MkdirTemp(r.dir, "crane-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	out, err := exec.CommandContext(ctx, r.crane, "pull", "--insecure", "--format=oci", mirror+"/"+p.image.repo+":"+p.image.tag, dir).CombinedOutput()
	switch {
	case strings.Contains(string(out), "error verifying"):
		return fmt.Errorf("%w: crane: %s", errWrong, out)
	case err != nil:
		return fmt.Errorf("%w: %s", err, out)
	}
	for _, b := range p.image.blobs() {
		if err := checkFile(filepath.Join(dir, "blobs", "sha256", b.Digest.Hex), b.Digest); err != nil {
			return fmt.Errorf("%w: crane: %w", errWrong, err)
		}
	}
	return nil
}

// counts of a map, for people.
func listCounts(m map[string]int) string {
	var parts []string
	for k, n := range m {
		parts = append(parts, fmt.Sprintf("%s %d", k, n))
	}
	slices.Sort(parts)
	return strings.Join(parts, ", ")
}
