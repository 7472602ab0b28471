package preheat

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	logging "github.com/ipfs/go-log/v2"
	"github.com/libp2p/go-libp2p/core/host"
	"github.com/opencontainers/go-digest"
)

var log = logging.Logger("meshd/preheat")

// Bounds of what a node takes on.
const (
	maxRunning = 4    // jobs of its own at a time
	maxQueued  = 1024 // jobs that wait for those
	maxKept    = 1000 // jobs that have ended, the newest
	maxAsked   = 256  // nodes that a job has at work at a time
	maxInbound = 64   // requests of other nodes at a time
	maxFetches = 4    // blobs brought in at a time, for all of them together
)

// Config is what a Manager needs to know. All functions may be called concurrently.
type Config struct {
	Dir  string // keeps the jobs; made if missing
	Self Member
	// Members are the other nodes known, from the nearest.
	Members func() []Member
	// Settled is closed when the mesh has been found, or will not be soon. Jobs wait for it. nil: they do not.
	Settled <-chan struct{}
}

// Manager runs jobs: its own, and other nodes' share of theirs on this node.
type Manager struct {
	cfg    Config
	tag    uint32
	host   host.Host // nil: a node alone
	origin Origin
	blobs  Blobs
	book   book

	queue   chan *job
	inbound chan struct{}  // a slot for each request of another node
	fetches chan struct{}  // a slot for each blob
	workers sync.WaitGroup // of inbound requests

	mu     sync.Mutex // guards the rest and all jobs
	closed bool
	jobs   map[ID]*job
	order  []*job // by age
	count  uint32 // of the id given last
	owners map[uint32]time.Time
}

// New reads the jobs of an earlier run, which go on with Run. h may be nil. Close the host after Run has returned.
func New(cfg Config, h host.Host, o Origin, b Blobs) (*Manager, error) {
	m := &Manager{
		cfg: cfg, tag: tagOf(cfg.Self.ID), host: h, origin: o, blobs: b,
		queue:   make(chan *job, maxQueued),
		inbound: make(chan struct{}, maxInbound),
		fetches: make(chan struct{}, maxFetches),
		jobs:    make(map[ID]*job),
		owners:  make(map[uint32]time.Time),
	}
	var err error
	if m.book, err = openBook(cfg.Dir); err != nil {
		return nil, fmt.Errorf("preheat: %w", err)
	}
	jobs, err := m.book.read(m.tag)
	if err != nil {
		return nil, fmt.Errorf("preheat: read the jobs of an earlier run: %w", err)
	}
	slices.SortFunc(jobs, func(a, b *job) int { return cmp.Or(a.created.Compare(b.created), cmp.Compare(a.id, b.id)) })
	for _, j := range jobs {
		m.jobs[j.id], m.order = j, append(m.order, j)
		m.count = j.id.count() // the newest counts
		if j.state == Queued && !m.enqueue(j) {
			j.state, j.reason = Failed, ErrBusy.Error()
		}
	}
	m.forget()
	return m, nil
}

func (m *Manager) enqueue(j *job) bool {
	select {
	case m.queue <- j:
		return true
	default:
		return false
	}
}

// Run works until ctx ends and returns when everything that it started has ended. Jobs that have not ended go on with the
// next Manager of this directory. It may be called once.
func (m *Manager) Run(ctx context.Context) error {
	stop := m.listen(ctx)
	var running sync.WaitGroup
	for range maxRunning {
		running.Go(func() { m.runJobs(ctx) })
	}
	m.watchOwners(ctx)
	m.mu.Lock()
	m.closed = true
	m.mu.Unlock()
	stop()
	running.Wait()
	m.workers.Wait()
	return nil
}

func (m *Manager) runJobs(ctx context.Context) {
	if m.cfg.Settled != nil {
		select {
		case <-m.cfg.Settled:
		case <-ctx.Done():
			return
		}
	}
	for {
		select {
		case <-ctx.Done():
			return
		case j := <-m.queue:
			m.run(ctx, j)
		}
	}
}

// Create queues a job and returns it as it stands; of one that is queued or running already, that one. When it returns the
// job is on disk. Errors: ErrInvalid, ErrUnlisted, ErrBusy, ErrClosed.
func (m *Manager) Create(r Request) (Job, error) {
	r, err := m.check(r)
	if err != nil {
		return Job{}, err
	}
	j, err := m.add(r)
	if err != nil {
		return Job{}, err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	return j.view(), nil
}

// check fills in the defaults of a request and refuses what is not to be done.
func (m *Manager) check(r Request) (Request, error) {
	r, err := r.normal()
	if name := r.Image.Registry; err == nil && !m.origin.Listed(name) {
		err = fmt.Errorf("%w: %s is not in this node's configuration: start it with --registry %s=https://%s", ErrUnlisted, name, name, name)
	}
	return r, err
}

// add makes a job of a request, or finds the one that is the same.
func (m *Manager) add(r Request) (*job, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, j := range m.order {
		if !j.state.Ended() && !j.asked && j.request.same(r) {
			return j, nil
		}
	}
	if len(m.queue) == cap(m.queue) {
		m.dropCancelled()
	}
	switch {
	case m.closed:
		return nil, ErrClosed
	case len(m.queue) == cap(m.queue):
		return nil, fmt.Errorf("%w: %d wait already", ErrBusy, maxQueued)
	}
	now := time.Now().UTC()
	j := &job{id: m.nextID(), request: r, text: r.Image.String(), state: Queued, created: now, updated: now}
	if err := m.book.write(record{j.view(), r.Timeout}); err != nil {
		return nil, fmt.Errorf("preheat: keep the job: %w", err)
	}
	m.jobs[j.id], m.order = j, append(m.order, j)
	m.enqueue(j) // there is room: only callers that hold m.mu add
	m.forget()
	return j, nil
}

// dropCancelled takes jobs that were cancelled before they began out of the queue. The caller holds m.mu.
func (m *Manager) dropCancelled() {
	for range len(m.queue) {
		select {
		case j := <-m.queue:
			if !j.state.Ended() {
				m.enqueue(j)
			}
		default: // taken by those that run them
			return
		}
	}
}

// nextID returns an id that no job kept has. The caller holds m.mu.
func (m *Manager) nextID() ID {
	for {
		if m.count++; m.count > maxCount {
			m.count = 1
		}
		if id := newID(m.tag, m.count); m.jobs[id] == nil {
			return id
		}
	}
}

// forget drops the oldest of the jobs that have ended, beyond maxKept. The caller holds m.mu, or is New.
func (m *Manager) forget() {
	excess := -maxKept
	for _, j := range m.order {
		if j.state.Ended() {
			excess++
		}
	}
	m.order = slices.DeleteFunc(m.order, func(j *job) bool {
		if excess <= 0 || !j.state.Ended() {
			return false
		}
		excess--
		delete(m.jobs, j.id)
		if err := m.book.remove(j.id); err != nil {
			log.Warnw("file of a preheat not removed", "job", j.id, "err", err)
		}
		return true
	})
}

// List returns this node's jobs without their parts, the newest first.
func (m *Manager) List() []Job {
	m.mu.Lock()
	defer m.mu.Unlock()
	out := make([]Job, 0, len(m.order))
	for _, j := range slices.Backward(m.order) {
		out = append(out, j.view().summary())
	}
	return out
}

// Holding is an image that a job of this node has put on this node.
type Holding struct {
	Image    string
	Registry string
	Digest   digest.Digest
	Layers   []Layer
	Private  bool
}

// Here returns the images of this node's own jobs in which it had a part itself and that succeeded, the newest first.
func (m *Manager) Here() []Holding {
	m.mu.Lock()
	defer m.mu.Unlock()
	var out []Holding
	for _, j := range slices.Backward(m.order) {
		self := slices.ContainsFunc(j.nodes, func(t *task) bool { return t.member.ID == m.cfg.Self.ID && t.state == Succeeded })
		if self {
			out = append(out, Holding{j.text, j.request.Image.Registry, j.contents.Digest, j.contents.Layers, j.contents.Private})
		}
	}
	return out
}

// Get returns a job, from its owner if that is another node. ErrNotFound if there is none, ErrAway if its owner was a
// member a short time ago and does not answer now.
func (m *Manager) Get(ctx context.Context, id ID) (Job, error) {
	m.mu.Lock()
	j := m.jobs[id]
	if j != nil {
		defer m.mu.Unlock()
		return j.view(), nil
	}
	m.mu.Unlock()
	return m.elsewhere(ctx, inquiry{ID: id})
}

// Cancel ends a job and returns it; one that has ended stays as it is. What the nodes have brought in so far stays there.
// Errors as Get.
func (m *Manager) Cancel(ctx context.Context, id ID) (Job, error) {
	job, err := m.cancel(id)
	if errors.Is(err, ErrNotFound) {
		return m.elsewhere(ctx, inquiry{ID: id, Cancel: true})
	}
	return job, err
}

// cancel ends a job of this node.
func (m *Manager) cancel(id ID) (Job, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	j := m.jobs[id]
	switch {
	case j == nil:
		return Job{}, fmt.Errorf("%w: %s", ErrNotFound, id)
	case j.state.Ended():
	case j.cancel != nil:
		j.asked = true
		j.cancel() // run ends it
	default:
		j.asked = true
		m.end(j, Cancelled, "cancelled before it began")
	}
	return j.view(), nil
}

// end ends a job and keeps its record. The caller holds m.mu.
func (m *Manager) end(j *job, s State, reason string) {
	j.state, j.reason, j.updated, j.cancel = s, reason, time.Now().UTC(), nil
	j.request.Authorization = ""
	j.contents.Documents = nil
	if err := m.book.write(record{j.view(), j.request.Timeout}); err != nil {
		log.Warnw("end of a preheat not kept: after a restart it is done again", "job", j.id, "err", err)
	}
	m.forget()
}
