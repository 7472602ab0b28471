package preheat

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/google/go-containerregistry/pkg/v1/types"
	"github.com/libp2p/go-libp2p/core/host"
	"github.com/opencontainers/go-digest"

	"github.com/meshd-project/meshd/dht/hosttest"
)

// registry is an Origin in memory: r.example is listed, its repositories of names in private want credentials.
type registry struct {
	mu        sync.Mutex
	manifests map[string]Document // by repository, a colon and a tag or digest
	private   map[string]string   // repository: the header that opens it
	own       map[string]string   // registry: the operator's own header
	asked     []string
}

func newRegistry() *registry {
	return &registry{manifests: map[string]Document{}, private: map[string]string{}, own: map[string]string{}}
}

func (r *registry) Listed(registry string) bool { return registry == "r.example" }

func (r *registry) Authorization(_ context.Context, registry string) (string, error) {
	return r.own[registry], nil
}

func (r *registry) Manifest(_ context.Context, repo Repository, reference, authorization string) (Document, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.asked = append(r.asked, repo.Name+":"+reference)
	if want := r.private[repo.Name]; want != "" && authorization != want {
		return Document{}, fmt.Errorf("%s: %w", repo, ErrDenied)
	}
	d, ok := r.manifests[repo.Name+":"+reference]
	if !ok {
		return Document{}, fmt.Errorf("%s:%s: %w", repo, reference, ErrUnknown)
	}
	return d, nil
}

func (r *registry) Public(_ context.Context, repo Repository, _ digest.Digest) bool {
	return r.private[repo.Name] == ""
}

// push puts a document under its digest and perhaps a tag.
func (r *registry) push(repo, tag string, mediaType types.MediaType, value any) Document {
	data, err := json.Marshal(value)
	if err != nil {
		panic(err)
	}
	d := Document{Digest: digest.FromBytes(data), MediaType: string(mediaType), Data: data}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.manifests[repo+":"+d.Digest.String()] = d
	if tag != "" {
		r.manifests[repo+":"+tag] = d
	}
	return d
}

type descriptor map[string]any

func blobOf(text string) descriptor {
	return descriptor{"mediaType": types.OCILayer, "digest": digest.FromString(text), "size": len(text)}
}

// pushImage pushes an image of the given layers; its configuration says the name.
func (r *registry) pushImage(repo, tag string, layers ...string) Document {
	m := descriptor{"schemaVersion": 2, "mediaType": types.OCIManifestSchema1, "config": blobOf("config of " + repo + tag)}
	var list []descriptor
	for _, l := range layers {
		list = append(list, blobOf(l))
	}
	m["layers"] = list
	return r.push(repo, tag, types.OCIManifestSchema1, m)
}

// pushIndex pushes an image for each platform, and an index of them.
func (r *registry) pushIndex(repo, tag string, platforms ...string) Document {
	var list []descriptor
	for _, p := range platforms {
		ps, err := parsePlatforms([]string{p})
		if err != nil {
			panic(err)
		}
		d := r.pushImage(repo, "", "layer of "+p)
		list = append(list, descriptor{"mediaType": d.MediaType, "digest": d.Digest, "size": len(d.Data), "platform": ps[0]})
	}
	return r.push(repo, tag, types.OCIImageIndex, descriptor{"schemaVersion": 2, "mediaType": types.OCIImageIndex, "manifests": list})
}

// disk is Blobs in memory. Every fetch takes a second, in two steps, or waits for hold.
type disk struct {
	mu        sync.Mutex
	here      map[digest.Digest]bool
	kept      []digest.Digest
	wants     []Want
	now, most int // fetches at a time
	fail      func(w Want, try int) error
	hold      chan struct{}
	step      time.Duration // 0: half a second
}

func (d *disk) Keep(_ Repository, doc Document) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.kept = append(d.kept, doc.Digest)
	return nil
}

func (d *disk) Fetch(ctx context.Context, w Want, progress func(int64)) error {
	if d.begin(w) {
		progress(w.Size)
		return nil
	}
	defer func() {
		d.mu.Lock()
		defer d.mu.Unlock()
		d.now--
	}()
	d.mu.Lock()
	try := 0
	for _, o := range d.wants {
		if o.Digest == w.Digest {
			try++
		}
	}
	fail, hold := d.fail, d.hold
	d.mu.Unlock()
	if fail != nil {
		if err := fail(w, try); err != nil {
			return err
		}
	}
	if hold != nil {
		select {
		case <-hold:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	for _, n := range []int64{w.Size / 2, w.Size} {
		if !pause(ctx, cmp.Or(d.step, time.Second/2)) {
			return ctx.Err()
		}
		progress(n)
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.here[w.Digest] = true
	return nil
}

// begin notes a fetch and reports whether the blob is here.
func (d *disk) begin(w Want) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.wants = append(d.wants, w)
	if d.here[w.Digest] {
		return true
	}
	d.now++
	d.most = max(d.most, d.now)
	return false
}

func (d *disk) has(text string) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.here[digest.FromString(text)]
}

// busy is the fetches under way.
func (d *disk) busy() int {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.now
}

func (d *disk) count() int {
	d.mu.Lock()
	defer d.mu.Unlock()
	return len(d.wants)
}

// station is a node of a test.
type station struct {
	*Manager
	member   Member
	host     host.Host
	dir      string
	disk     *disk
	registry *registry
	others   func() []Member
	stop     func()
}

// start runs the node, for the first time or again.
func (s *station) start(t *testing.T) {
	t.Helper()
	m, err := New(Config{Dir: s.dir, Self: s.member, Members: s.others}, s.host, s.registry, s.disk)
	if err != nil {
		t.Fatal(err)
	}
	s.Manager = m
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- m.Run(ctx) }()
	s.stop = sync.OnceFunc(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}

// spec is what differs between nodes.
type spec struct {
	zone string
	seed bool
}

// stations starts nodes that know each other; call it within a synctest bubble. All have r as their registry.
func stations(t *testing.T, r *registry, specs ...spec) []*station {
	t.Helper()
	hosts, closeNetwork := hosttest.New(t, len(specs), 100, time.Millisecond)
	var all []Member
	for i, h := range hosts {
		all = append(all, Member{ID: h.ID(), Name: fmt.Sprint("n", i), Zone: specs[i].zone, Seed: specs[i].seed, Addrs: h.Addrs()})
	}
	var out []*station
	for i, h := range hosts {
		s := &station{host: h, member: all[i], dir: t.TempDir(), disk: &disk{here: map[digest.Digest]bool{}}, registry: r}
		s.others = func() []Member { return slices.Delete(slices.Clone(all), i, i+1) }
		s.start(t)
		out = append(out, s)
	}
	t.Cleanup(func() {
		for _, s := range out {
			s.stop()
			s.host.Close()
		}
		closeNetwork()
	})
	return out
}

// await returns a job once it has ended; call it within a synctest bubble.
func (s *station) await(t *testing.T, id ID) Job {
	t.Helper()
	for range 36000 {
		j, err := s.Get(t.Context(), id)
		if err != nil {
			t.Fatal(err)
		}
		if j.State.Ended() {
			return j
		}
		time.Sleep(100 * time.Millisecond)
	}
	t.Fatalf("job %s does not end", id)
	return Job{}
}

func (s *station) create(t *testing.T, r Request) Job {
	t.Helper()
	j, err := s.Create(r)
	if err != nil {
		t.Fatal(err)
	}
	return j
}

func image(t *testing.T, s string) Image {
	t.Helper()
	i, err := ParseImage(s, "r.example")
	if err != nil {
		t.Fatal(err)
	}
	return i
}
