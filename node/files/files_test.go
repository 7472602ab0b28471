package files

import (
	"bytes"
	"context"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	stdlog "log"
	"maps"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/libp2p/go-libp2p"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/opencontainers/go-digest"
	"go.uber.org/goleak"

	"github.com/meshd-project/meshd/exchange"
	"github.com/meshd-project/meshd/exchange/pace"
	"github.com/meshd-project/meshd/exchange/store"
	"github.com/meshd-project/meshd/exchange/swarm"
	"github.com/meshd-project/meshd/mirror/gateway"
	"github.com/meshd-project/meshd/seed/file"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// newFiles is a node's files, without an exchange; members are those that it asks.
func newFiles(t testing.TB, allow string, members ...*Files) *Files {
	t.Helper()
	h, err := libp2p.New(libp2p.ListenAddrStrings("/ip4/127.0.0.1/tcp/0"), libp2p.ResourceManager(&network.NullResourceManager{}), libp2p.DisableRelay(), libp2p.DisableMetrics())
	if err != nil {
		t.Fatal(err)
	}
	c := Config{MeshKey: func() []byte { return []byte("key") }, Limits: new(pace.Limits), Members: func() []peer.ID {
		var ids []peer.ID
		for _, m := range members {
			ids = append(ids, m.host.ID())
		}
		return ids
	}}
	if allow != "" {
		host, err := file.ParseHost(allow)
		if err != nil {
			t.Fatal(err)
		}
		c.Allow = file.Hosts{host}
	}
	f, err := New(c, h)
	if err != nil {
		t.Fatal(err)
	}
	f.open = func(context.Context, exchange.Want) (*exchange.Handle, error) { return nil, exchange.ErrClosed }
	t.Cleanup(func() {
		if err := errors.Join(f.Close(), h.Close()); err != nil {
			t.Error(err)
		}
	})
	for _, m := range members {
		if err := h.Connect(t.Context(), peer.AddrInfo{ID: m.host.ID(), Addrs: m.host.Addrs()}); err != nil {
			t.Fatal(err)
		}
	}
	return f
}

func request(t testing.TB, raw string, headers ...string) file.Request {
	t.Helper()
	h := http.Header{}
	for i := 0; i < len(headers); i += 2 {
		h.Set(headers[i], headers[i+1])
	}
	r, err := file.Parse(raw, h, []string{"sig"})
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// A node that is told where a file is believes it only of a listed host and only if it is that very file; and tells only
// what it lists and nobody's headers are for.
func TestWhere(t *testing.T) {
	v := file.Version{ETag: `"v"`, Size: 7}
	knower := newFiles(t, "a.example")
	seed := newFiles(t, "a.example", knower)
	stranger := newFiles(t, "b.example", knower)
	nobody := newFiles(t, "", knower)
	name := func(r file.Request) digest.Digest { return store.File(r.Identity(v, knower.key())) }

	good := request(t, "http://a.example/x?sig=1")
	knower.keep(name(good), known{client: knower.client, request: good, version: v})
	k, err := seed.find(t.Context(), knower.place(), name(good))
	if err != nil || k.request.URL.String() != "http://a.example/x?sig=1" || k.version != v || k.request.Hosts == nil {
		t.Errorf("%+v, %v", k, err)
	}
	for who, f := range map[string]*Files{"who lists another host": stranger, "who lists none": nobody} {
		if _, err := f.find(t.Context(), knower.place(), name(good)); err == nil {
			t.Errorf("%s reads it", who)
		} else if kind, _, ok := Kinds(err); !ok || kind != swarm.OriginRefused {
			t.Errorf("%s: %v", who, err)
		}
	}
	private := request(t, "http://a.example/y", "Authorization", "x")
	unlisted := request(t, "http://c.example/z")
	knower.keep(name(private), known{request: private, version: v})
	knower.keep(name(unlisted), known{request: unlisted, version: v})
	for _, n := range []digest.Digest{name(private), name(unlisted), store.File([]byte("unknown")), digest.FromString("x")} {
		if p := knower.tell(n); p.URL != "" {
			t.Errorf("tells %+v", p)
		}
		if _, err := seed.find(t.Context(), knower.place(), n); !errors.Is(err, errUnknown) {
			t.Errorf("%v", err)
		}
	}
	for _, o := range []swarm.OriginRef{{}, {Registry: Registry, Repository: "zz"}, {Registry: Registry, Repository: "00"}, seed.place()} {
		if _, err := seed.find(t.Context(), o, store.File([]byte("other"))); !errors.Is(err, errUnknown) {
			t.Errorf("%v: %v", o, err)
		}
	}
	for what, p := range map[string]place{
		"another file":    {URL: "http://a.example/other", ETag: v.ETag, Size: v.Size},
		"another version": {URL: "http://a.example/x", ETag: `"w"`, Size: v.Size},
		"no version":      {URL: "http://a.example/x", Size: v.Size},
		"another host":    {URL: "http://169.254.169.254/", ETag: v.ETag, Size: v.Size},
		"a password":      {URL: "http://u:p@a.example/x", ETag: v.ETag, Size: v.Size},
		"no URL":          {URL: "file:///etc/passwd", ETag: v.ETag, Size: v.Size},
		"a header":        {URL: "http://a.example/x", ETag: "\"a\"\r\nX: y", Size: v.Size},
	} {
		if k, err := seed.believe(name(good), p); err == nil {
			t.Errorf("%s: believed %+v", what, k)
		}
	}
}

func TestHeadersAreForgotten(t *testing.T) {
	f := newFiles(t, "a.example")
	for raw, stays := range map[string]bool{"http://a.example/x": true, "http://b.example/x": false, "http://u:p@a.example/x": false} {
		name := store.File([]byte(raw))
		f.keep(name, known{request: request(t, raw)})
		f.keep(name, known{request: request(t, raw)})
		f.release(name)
		if !f.known.Contains(name) {
			t.Errorf("%s: forgotten while in use", raw)
		}
		f.release(name)
		if f.known.Contains(name) != stays {
			t.Errorf("%s: kept %v", raw, !stays)
		}
	}
}

// The first root of a file counts, for everybody.
func TestSeal(t *testing.T) {
	a := newFiles(t, "")
	b := newFiles(t, "", a)
	name := store.File([]byte("x"))
	if err := a.Seal(t.Context(), name, store.Hash{1}); err != nil {
		t.Fatal(err)
	}
	if err := b.Seal(t.Context(), name, store.Hash{1}); err != nil {
		t.Errorf("the same: %v", err)
	}
	if err := b.Seal(t.Context(), name, store.Hash{2}); !errors.Is(err, exchange.ErrSealed) {
		t.Errorf("another: %v", err)
	}
	if err := b.failed(name, fmt.Errorf("x: %w", exchange.ErrSealed)); !b.split.Contains(name) {
		t.Errorf("not remembered: %v", err)
	}
	_ = a.host.Network().ClosePeer(b.host.ID())
	if err := b.Seal(t.Context(), store.File([]byte("y")), store.Hash{1}); err != nil {
		t.Errorf("a witness that is gone: %v", err)
	}
}

// What is passed on is whole or cut, whatever HEAD says of its length: a digest that was given is checked before the last bytes
// go out.
func TestPassedOn(t *testing.T) {
	data := make([]byte, 3*pace.MaxChunk+100)
	_, _ = rand.NewChaCha8([32]byte{1}).Read(data)
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		head := map[string]int{"/says-nothing": 0, "/says-little": 1000, "/says-much": 2 * len(data)}
		switch n, lies := head[r.URL.Path]; {
		case lies && r.Method == http.MethodHead:
			w.Header().Set("Content-Length", fmt.Sprint(n))
		case !strings.HasPrefix(r.URL.Path, "/chunked"):
			w.Header().Set("Content-Length", fmt.Sprint(len(data)))
		}
		w.WriteHeader(http.StatusOK)
		w.(http.Flusher).Flush()
		if r.Method == http.MethodHead {
			return
		}
		part := data
		if strings.HasSuffix(r.URL.Path, "cut") {
			part = data[:len(data)-1000]
		}
		w.Write(part) //nolint:errcheck // the client has gone
		if len(part) < len(data) {
			w.(http.Flusher).Flush()
			panic(http.ErrAbortHandler)
		}
	}))
	defer s.Close()
	f := newFiles(t, "")
	right, wrong := digest.FromBytes(data), digest.FromString("wrong")
	for _, row := range []struct {
		path   string
		digest digest.Digest
		err    error
	}{
		{"/a", "", nil},
		{"/chunked", "", nil},
		{"/a", right, nil},
		{"/chunked", right, nil},
		{"/a", wrong, exchange.ErrCorruptOrigin},
		{"/chunked", wrong, exchange.ErrCorruptOrigin},
		{"/a-cut", "", file.ErrUnreachable},
		{"/chunked-cut", "", file.ErrUnreachable},
		{"/says-nothing", "", nil},
		{"/says-little", "", nil},
		{"/says-much", "", nil},
		{"/says-little", wrong, exchange.ErrCorruptOrigin},
	} {
		got, err := f.Stat(t.Context(), gateway.Ask{URL: s.URL + row.path})
		if err != nil {
			t.Fatal(err)
		}
		got.(*version).digest = row.digest
		c, err := got.Open(t.Context(), 0, -1)
		if err != nil {
			t.Fatal(err)
		}
		if size := c.Size(); size != int64(len(data)) && (size >= 0 || !strings.HasPrefix(row.path, "/chunked")) {
			t.Errorf("%s: a size of %d", row.path, size)
		}
		r, err := c.Reader(0, -1)
		if err != nil {
			t.Fatal(err)
		}
		var b bytes.Buffer
		n, err := r.WriteTo(&b)
		if !errors.Is(err, row.err) || (err == nil) != bytes.Equal(b.Bytes(), data) || n != int64(b.Len()) {
			t.Errorf("%s %s: %d of %d bytes, %v", row.path, row.digest, n, len(data), err)
		}
		r.Close()
		c.Close()
	}
	ended, err := f.Stat(t.Context(), gateway.Ask{URL: s.URL + "/a"})
	if err != nil {
		t.Fatal(err)
	}
	c, _ := ended.Open(t.Context(), 0, -1)
	defer c.Close()
	r, _ := c.Reader(0, -1)
	r.Close()
	if n, err := r.WriteTo(io.Discard); err == nil {
		t.Errorf("closed, and %d bytes came", n)
	}
}

// A server with a certificate of an authority of its own is read where that is configured, by any way in, and nowhere else.
func TestOwnAuthority(t *testing.T) {
	s := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		http.ServeContent(w, r, "", time.Time{}, strings.NewReader("text"))
	}))
	s.Config.ErrorLog = stdlog.New(io.Discard, "", 0) // it tells of those that hang up
	s.StartTLS()
	defer s.Close()
	roots := x509.NewCertPool()
	roots.AddCert(s.Certificate())
	listed, err := file.ParseHost(strings.TrimPrefix(s.URL, "https://"))
	if err != nil {
		t.Fatal(err)
	}
	h, err := libp2p.New(libp2p.NoListenAddrs, libp2p.DisableRelay(), libp2p.DisableMetrics())
	if err != nil {
		t.Fatal(err)
	}
	defer h.Close()
	f, err := New(Config{RootCAs: roots, Gateway: file.Hosts{listed}, MeshKey: func() []byte { return nil }}, h)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for _, fromGateway := range []bool{false, true} {
		if _, err := f.Stat(t.Context(), gateway.Ask{URL: s.URL, Listed: fromGateway}); err != nil {
			t.Errorf("gateway %v: %v", fromGateway, err)
		}
		if _, err := newFiles(t, "").Stat(t.Context(), gateway.Ask{URL: s.URL}); !errors.Is(err, file.ErrUnreachable) {
			t.Errorf("unknown authority: %v", err)
		}
	}
}

func TestDigestGiven(t *testing.T) {
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		http.ServeContent(w, r, "", time.Time{}, strings.NewReader("text"))
	}))
	defer s.Close()
	f := newFiles(t, "")
	d := digest.FromString("text")
	stat := func(a gateway.Ask) (*version, error) {
		got, err := f.Stat(t.Context(), a)
		if err != nil {
			return nil, err
		}
		return got.(*version), nil
	}
	public, err := stat(gateway.Ask{URL: s.URL, Digest: d.String()})
	if err != nil || public.name != d || public.origin.Registry != Registry {
		t.Errorf("%+v, %v", public, err)
	}
	private, err := stat(gateway.Ask{URL: s.URL, Digest: d.String(), Header: http.Header{"A": {"b"}}})
	if content, scoped := store.Content(private.name); err != nil || !scoped || content != d || !Mine(private.origin.Registry) {
		t.Errorf("%+v, %v", private, err)
	}
	other, err := stat(gateway.Ask{URL: s.URL, Digest: d.String(), Header: http.Header{"A": {"c"}}})
	if err != nil || other.name == private.name {
		t.Errorf("other headers, the same name %s, %v", other.name, err)
	}
	for _, bad := range []string{"x", "sha256:x", "md5:d41d8cd98f00b204e9800998ecf8427e", store.File(nil).String()} {
		var e *gateway.Error
		if _, err := stat(gateway.Ask{URL: s.URL, Digest: bad}); !errors.As(err, &e) || e.Code != gateway.BadRequest {
			t.Errorf("%s: %v", bad, err)
		}
	}
}

// FuzzQuestion: whatever a peer asks, it gets an answer that is one, or none.
func FuzzQuestion(f *testing.F) {
	files := newFiles(f, "a.example")
	f.Add([]byte(`{"where":"sha256:` + strings.Repeat("0", 64) + `"}`))
	f.Add([]byte(`{"seal":"` + store.File(nil).String() + `","root":"` + strings.Repeat("0", 64) + `"}`))
	f.Add([]byte(`{"seal":"x","where":"y"}`))
	f.Fuzz(func(t *testing.T, raw []byte) {
		var q question
		if readMessage(bytes.NewReader(raw), &q) != nil {
			return
		}
		a, err := files.reply(q)
		if err != nil {
			return
		}
		if out, err := json.Marshal(a); err != nil || len(out) > maxMessage {
			t.Fatalf("%q: %s, %v", raw, out, err)
		}
	})
}

// Only what members are told too has a name for people, and that without its query.
func TestNames(t *testing.T) {
	f := newFiles(t, "files.example")
	names := map[string]digest.Digest{}
	for _, row := range []struct {
		url    string
		header http.Header
	}{
		{"http://files.example/a?signature=secret", nil},
		{"http://files.example/b", http.Header{"X-Token": {"secret"}}},
		{"http://other.example/c", nil},
	} {
		r, err := file.Parse(row.url, row.header, nil)
		if err != nil {
			t.Fatal(err)
		}
		names[row.url] = digest.FromString(row.url)
		f.keep(names[row.url], known{request: r})
	}
	want := map[digest.Digest]string{names["http://files.example/a?signature=secret"]: "http://files.example/a"}
	if got := f.Names(); !maps.Equal(got, want) {
		t.Errorf("%v", got)
	}
}

// What is told of a file that does not come yet: who reads it to its end, and how much this node has.
func TestWaiting(t *testing.T) {
	f := newFiles(t, "")
	f.cfg.Address = func(id peer.ID) string { return "of " + string(id) }
	v := &version{files: f, name: digest.FromString("f")}
	for _, row := range []struct {
		name string
		pull *exchange.Pull
		want gateway.Waiting
	}{
		{"not under way", nil, gateway.Waiting{}},
		{"nobody yet", &exchange.Pull{Size: -1}, gateway.Waiting{}},
		{"this node", &exchange.Pull{Size: -1, Spooled: 7, BytesIn: exchange.Sources{Origin: 70}}, gateway.Waiting{Read: 7, Reader: gateway.Here}},
		{"another, after this one", &exchange.Pull{Size: -1, Reader: "x", Spooled: 7}, gateway.Waiting{Reader: peer.ID("x").String(), Address: "of x"}},
		{"of known length", &exchange.Pull{Size: 10, BytesIn: exchange.Sources{Disk: 1, Zone: 2, OtherZone: 3, Origin: 4}}, gateway.Waiting{Read: 9}},
	} {
		f.pull = func(name digest.Digest) (exchange.Pull, bool) {
			if name != v.name || row.pull == nil {
				return exchange.Pull{}, false
			}
			return *row.pull, true
		}
		if got := v.Waiting(); got != row.want {
			t.Errorf("%s: %+v", row.name, got)
		}
	}
}
