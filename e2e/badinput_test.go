package e2e

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// raw sends bytes as they are and reads one answer: clients of net/http would clean the path.
func raw(addr, request string) (status int, header http.Header, body string, err error) {
	conn, err := net.DialTimeout("tcp", addr, time.Minute)
	if err != nil {
		return 0, nil, "", err
	}
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(60 * time.Second))
	if _, err := io.WriteString(conn, request); err != nil {
		return 0, nil, "", err
	}
	method, _, _ := strings.Cut(request, " ")
	resp, err := http.ReadResponse(bufio.NewReader(conn), &http.Request{Method: method})
	if err != nil {
		return 0, nil, "", err
	}
	defer resp.Body.Close()
	data, err := io.ReadAll(resp.Body)
	return resp.StatusCode, resp.Header, string(data), err
}

func getRaw(addr, path string, headers ...string) (int, http.Header, string, error) {
	request := "GET " + path + " HTTP/1.1\r\nHost: mirror\r\nConnection: close\r\n"
	for _, h := range headers {
		request += h + "\r\n"
	}
	return raw(addr, request+"\r\n")
}

// ociCode is the first code of an OCI error body.
func ociCode(body string) (string, error) {
	var e struct {
		Errors []struct{ Code, Message string }
	}
	if err := json.Unmarshal([]byte(body), &e); err != nil {
		return "", err
	}
	if len(e.Errors) == 0 || e.Errors[0].Code == "" {
		return "", errors.New("no code")
	}
	return e.Errors[0].Code, nil
}

// Whatever a client sends, it gets a 4xx with an OCI body, and the node lives on.
func TestMalformedRequests(t *testing.T) {
	m := newMesh(t, nodeSpec{"east", true})
	n := m.nodes[0]
	b := m.registry.pushBlob(t, "library/one", 7, 100_000)
	good := b.hash.Hex
	long := strings.Repeat("a", 10_000)
	for _, row := range []struct {
		name, path string
		status     []int
		headers    []string
	}{
		{"upper-case name", "/v2/library/ONE/manifests/latest", []int{400, 404}, nil},
		{"name with a dot first", "/v2/.x/manifests/latest", []int{400, 404}, nil},
		{"name with two slashes", "/v2/library//one/manifests/latest", []int{400, 404}, nil},
		{"traversal", "/v2/../../../etc/passwd", []int{400, 404}, nil},
		{"traversal in the name", "/v2/library/../../one/manifests/latest", []int{400, 404}, nil},
		{"escaped traversal", "/v2/library/..%2f..%2fone/manifests/latest", []int{400, 404}, nil},
		{"escaped slash in the digest", "/v2/library/one/blobs/sha256%3A" + good[:60] + "%2f..", []int{400, 404}, nil},
		{"NUL", "/v2/library/one%00/manifests/latest", []int{400, 404}, nil},
		{"bad escape", "/v2/library/%zz/manifests/latest", []int{400}, nil},
		{"short digest", "/v2/library/one/blobs/sha256:" + good[:63], []int{400, 404}, nil},
		{"long digest", "/v2/library/one/blobs/sha256:" + good + "0", []int{400, 404}, nil},
		{"upper-case digest", "/v2/library/one/blobs/sha256:" + strings.ToUpper(good), []int{400, 404}, nil},
		{"unknown algorithm", "/v2/library/one/blobs/md5:d41d8cd98f00b204e9800998ecf8427e", []int{400, 404}, nil},
		{"no digest", "/v2/library/one/blobs/", []int{400, 404}, nil},
		{"unknown digest", "/v2/library/one/blobs/sha256:" + strings.Repeat("0", 64), []int{404}, nil},
		{"unknown tag", "/v2/library/one/manifests/absent", []int{404}, nil},
		{"bad tag", "/v2/library/one/manifests/-x", []int{400, 404}, nil},
		{"long tag", "/v2/library/one/manifests/" + strings.Repeat("t", 129), []int{400, 404}, nil},
		{"long name", "/v2/library/" + long + "/manifests/latest", []int{400, 404, 414}, nil},
		{"long path", "/v2/" + strings.Repeat("a/", 5000) + "manifests/latest", []int{400, 404, 414}, nil},
		{"unknown endpoint", "/v2/library/one/nothing/latest", []int{400, 404}, nil},
		{"range past the end", "/v2/library/one/blobs/sha256:" + good, []int{416}, []string{"Range: bytes=100000-"}},
		{"ns is a URL", "/v2/library/one/manifests/latest?ns=http://169.254.169.254/", []int{400, 404}, nil},
		{"ns with userinfo", "/v2/library/one/manifests/latest?ns=user@host", []int{400, 404}, nil},
	} {
		t.Run(row.name, func(t *testing.T) {
			status, _, body, err := getRaw(n.mirror(), row.path, row.headers...)
			must(t, err)
			ok := false
			for _, s := range row.status {
				ok = ok || s == status
			}
			if !ok {
				t.Errorf("status %d, want one of %v: %.200s", status, row.status, body)
			}
			if row.name == "bad escape" { // net/http answers this before the mirror sees it
				return
			}
			if _, err := ociCode(body); err != nil {
				t.Errorf("status %d without an OCI body (%v): %.200q", status, err, body)
			}
		})
	}
	for _, method := range []string{"GET", "PUT", "PATCH", "DELETE", "BREW"} {
		status, _, body, err := raw(n.mirror(), method+" /v2/library/one/blobs/uploads/ HTTP/1.1\r\nHost: m\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
		must(t, err)
		if code, _ := ociCode(body); status != http.StatusMethodNotAllowed || code != "UNSUPPORTED" {
			t.Errorf("%s: status %d, body %.200q, want 405 UNSUPPORTED", method, status, body)
		}
	}
	if strings.Contains(n.output(), "panic") {
		t.Error("the node's log has a panic")
	}
}

// Registries that nobody configured are not reached on this machine or its link, however that is spelled, and the answer
// says how to allow it. No proxy request leads there either.
func TestNothingInsideIsReached(t *testing.T) {
	m := newMesh(t, nodeSpec{"east", true})
	n := m.nodes[0]
	for _, host := range []string{
		"localhost:65002", n.admin(), n.mirror(), "127.0.0.1:65003", "169.254.169.254", "[::1]:65002", "[::ffff:127.0.0.1]:65002",
		"0.0.0.0:65002", "100.100.100.200", "[64:ff9b::a9fe:a9fe]:80",
	} {
		for _, path := range []string{"/v2/" + host + "/x/manifests/latest", "/v2/x/tags/list?ns=" + host} {
			status, _, body, err := getRaw(n.mirror(), path)
			must(t, err)
			if status != http.StatusBadGateway || !strings.Contains(body, "refused to go there") || !strings.Contains(body, "name the registry") {
				t.Errorf("%s: %d %s", path, status, body)
			}
		}
	}
	for _, request := range []string{
		"CONNECT " + n.admin(), "CONNECT 127.0.0.1:443", "CONNECT 169.254.169.254:443", "CONNECT [::ffff:127.0.0.1]:443", "CONNECT localhost:443",
		"GET http://" + n.admin() + "/v1/status", "GET http://169.254.169.254/latest/meta-data/", "GET http://localhost/", "GET http://0.0.0.0/",
	} {
		status, _, body, err := raw(n.mirror(), request+" HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
		must(t, err)
		if status != http.StatusForbidden && status != http.StatusBadGateway || !strings.HasPrefix(body, "meshd: ") {
			t.Errorf("%s: %d %s", request, status, body)
		}
	}
}

// A syntactically bad Range is ignored (RFC 9110) or refused; a good one gives these bytes.
func TestRanges(t *testing.T) {
	m := newMesh(t, nodeSpec{"east", true})
	b := m.registry.pushBlob(t, "library/one", 8, 3*mib+17)
	path := "/v2/library/one/blobs/" + b.hash.String()
	size := len(b.data)
	for _, state := range []string{"cold", "warm"} {
		for _, row := range []struct {
			header     string
			from, to   int // to is exclusive
			statusGood int
		}{
			{"bytes=0-0", 0, 1, 206},
			{"bytes=10-19", 10, 20, 206},
			{fmt.Sprintf("bytes=%d-", size-5), size - 5, size, 206},
			{"bytes=-7", size - 7, size, 206},
			{fmt.Sprintf("bytes=1-%d", size+100), 1, size, 206},
			{"bytes=5-2", 0, size, 200},
			{"bytes=x-y", 0, size, 200},
			{"lines=1-2", 0, size, 200},
		} {
			status, header, body, err := getRaw(m.nodes[0].mirror(), path, "Range: "+row.header)
			must(t, err)
			refused := row.statusGood == 200 && (status == 416 || status == 400)
			if !refused && (status != row.statusGood || body != string(b.data[row.from:row.to])) {
				t.Errorf("%s, %s: status %d with %d bytes (%s), want %d with bytes %d to %d", state, row.header,
					status, len(body), header.Get("Content-Range"), row.statusGood, row.from, row.to)
			}
			want := fmt.Sprintf("bytes %d-%d/%d", row.from, row.to-1, size)
			if status == 206 && header.Get("Content-Range") != want {
				t.Errorf("%s, %s: Content-Range %q, want %q", state, row.header, header.Get("Content-Range"), want)
			}
		}
		_, err := httpGet(context.Background(), "http://"+m.nodes[0].mirror()+path, b.hash)
		must(t, err)
	}
}

// A registry that sends a wrong blob: no client gets it with a clean ending, nothing of it is kept, and the log names the
// registry and the digest. When the registry is well again, so is the pull.
func TestCorruptOrigin(t *testing.T) {
	for _, row := range []struct {
		name string
		size int64
	}{{"one piece", 64 << 10}, {"many pieces", 24 * mib}} {
		t.Run(row.name, func(t *testing.T) {
			m := newMesh(t, nodeSpec{"east", true})
			n := m.nodes[0]
			b := m.registry.pushBlob(t, "library/corrupt", 9, row.size)
			m.registry.proxy.behave(t, behaviour{Corrupt: b.hash.String()})
			url := "http://" + n.mirror() + "/v2/" + b.repo + "/blobs/" + b.hash.String()
			for range 2 {
				ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
				got, err := httpGet(ctx, url, b.hash)
				cancel()
				switch {
				case err == nil:
					t.Fatal("the corrupt blob came through: the proxy is not doing its part")
				case strings.Contains(err.Error(), "clean ending"):
					t.Errorf("the client got a wrong blob with a clean ending: %v", err)
				case errors.Is(err, context.DeadlineExceeded):
					t.Errorf("no answer within a minute: %v", err)
				default:
					t.Logf("after %d bytes: %v", got, err)
				}
			}
			if s := n.status(t); s.Pulls.n > 0 {
				t.Logf("still pulling: %d", s.Pulls.n)
			}
			log := n.output()
			if !strings.Contains(log, b.hash.String()) || !strings.Contains(log, registryHost) {
				t.Errorf("the log does not name %s and %s", registryHost, b.hash)
			}
			for path, size := range n.files(t) {
				if filepath.Base(path) == b.hash.Hex && size == row.size && checkFile(path, b.hash) != nil && !strings.Contains(path, "partial") {
					t.Errorf("the wrong blob is kept: %s", path)
				}
			}
			m.registry.proxy.behave(t, behaviour{})
			n.waitFor(t, "a right blob", 90*time.Second, func() error {
				_, err := httpGet(context.Background(), url, b.hash)
				return err
			})
		})
	}
}

// An origin that is not there or never answers gives a 502 or 504 in bounded time.
func TestOriginDownAndHanging(t *testing.T) {
	m := newMesh(t, nodeSpec{"east", true})
	n := m.nodes[0]
	b := m.registry.pushBlob(t, "library/one", 10, 1*mib)
	paths := []string{"/v2/library/one/manifests/latest", "/v2/library/one/blobs/" + b.hash.String()}
	check := func(what string, limit time.Duration) {
		t.Helper()
		for _, path := range paths {
			start := time.Now()
			status, _, body, err := getRaw(n.mirror(), path)
			must(t, err)
			took := time.Since(start)
			t.Logf("%s: %s: %d after %v", what, path[:30], status, took.Round(time.Millisecond))
			if status != http.StatusBadGateway && status != http.StatusGatewayTimeout || took > limit {
				t.Errorf("%s: GET %s: %d after %v, want 502 or 504 within %v", what, path, status, took, limit)
			}
			if _, err := ociCode(body); err != nil {
				t.Errorf("%s: no OCI body (%v): %.200q", what, err, body)
			}
		}
	}
	m.registry.proxy.behave(t, behaviour{Hang: true})
	check("hanging", 40*time.Second) // dockerd itself gives up after 45 s and more
	m.registry.proxy.kill()
	check("down", 40*time.Second)
}

// 300 half-sent requests are closed in bounded time, and real clients are served meanwhile.
func TestHalfSentRequests(t *testing.T) {
	long(t)
	m := newMesh(t, nodeSpec{"east", true})
	n := m.nodes[0]
	var conns []net.Conn
	for i := range 300 {
		conn, err := net.Dial("tcp", n.mirror())
		must(t, err)
		defer conn.Close()
		half := "GET /v2/ HTTP/1.1\r\nHost: m\r\nX-Slow: "
		_, err = io.WriteString(conn, half[:10+i%(len(half)-10)])
		must(t, err)
		conns = append(conns, conn)
	}
	if status, _, _, err := getRaw(n.mirror(), "/v2/"); err != nil || status != 401 {
		t.Errorf("beside 300 half-sent requests: %d, %v", status, err)
	}
	deadline := time.Now().Add(60 * time.Second)
	for i, conn := range conns {
		_ = conn.SetReadDeadline(deadline)
		if _, err := io.Copy(io.Discard, conn); errors.Is(err, context.DeadlineExceeded) || isTimeout(err) {
			t.Fatalf("half-sent request %d is still open after 60 s", i)
		}
	}
}

func isTimeout(err error) bool {
	var ne net.Error
	return errors.As(err, &ne) && ne.Timeout()
}

// 100 clients that hang up in the middle of a pull leave nothing behind.
func TestHangUps(t *testing.T) {
	long(t)
	m := newMesh(t, nodeSpec{"east", true})
	n := m.nodes[0]
	b := m.registry.pushBlob(t, "library/hang", 11, 32*mib)
	m.registry.proxy.behave(t, behaviour{Rate: 8 * mib})
	url := "http://" + n.mirror() + "/v2/" + b.repo + "/blobs/" + b.hash.String()
	goroutines, fds := n.metric(t, "go_goroutines"), n.descriptors(t)
	hangUps := make([]func() error, 0, 100)
	for i := range 100 {
		hangUps = append(hangUps, func() error {
			resp, err := http.Get(url) // its own connections: Close in the middle closes them
			if err != nil {
				return err
			}
			defer resp.Body.Close()
			_, err = io.CopyN(io.Discard, resp.Body, int64(1+i*1000))
			return err
		})
	}
	atOnce(t, hangUps...)
	m.registry.proxy.behave(t, behaviour{})
	// The fetch that they shared may go on to its end; a client that stays gets the blob.
	_, err := httpGet(context.Background(), url, b.hash)
	must(t, err)
	m.checkCopies(t, int64(len(b.data)), maxCopies)
	httpClient.CloseIdleConnections()
	n.waitFor(t, "return to the goroutines and descriptors before", 2*time.Minute, func() error {
		g, f := n.metric(t, "go_goroutines"), n.descriptors(t)
		if g > goroutines+8 || f > fds+4 {
			return fmt.Errorf("%v goroutines (%v before), %d descriptors (%d before)", g, goroutines, f, fds)
		}
		return nil
	})
	for path := range n.files(t) {
		if name := filepath.Base(path); !strings.HasPrefix(name, b.hash.Hex) && name != "lock" {
			t.Errorf("left behind: %s", path)
		}
	}
}

// The fetch that a client started goes on for the others when that client hangs up.
func TestCutReaderDoesNotStopFetch(t *testing.T) {
	m := newMesh(t, nodeSpec{"east", true})
	n := m.nodes[0]
	b := m.registry.pushBlob(t, "library/cut", 12, 16*mib)
	m.registry.proxy.behave(t, behaviour{Rate: 8 * mib})
	url := "http://" + n.mirror() + "/v2/" + b.repo + "/blobs/" + b.hash.String()
	ctx, cut := context.WithCancel(context.Background())
	defer cut()
	go func() { _, _ = httpGet(ctx, url, b.hash) }()
	must(t, m.waitSent(context.Background(), t, 2*mib))
	second := make(chan error, 1)
	go func() {
		_, err := httpGet(context.Background(), url, b.hash)
		second <- err
	}()
	must(t, m.waitSent(context.Background(), t, 4*mib))
	cut()
	must(t, <-second)
	m.checkCopies(t, int64(len(b.data)), maxCopies)
}
