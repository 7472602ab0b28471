package notify

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/hashicorp/golang-lru/v2/simplelru"
	logging "github.com/ipfs/go-log/v2"

	"github.com/meshd-project/meshd/seed/preheat"
)

var log = logging.Logger("meshd/notify")

// What was dealt with is remembered for a time, and so many of it at most.
const (
	memoryTime = 10 * time.Minute
	memorySize = 4096
)

// Jobs is what makes preheats: *preheat.Manager.
type Jobs interface {
	Create(r preheat.Request) (preheat.Job, error)
	Get(ctx context.Context, id preheat.ID) (preheat.Job, error)
}

// Config says what is done about pushes.
type Config struct {
	// Rules: the first that fits counts. Without any rule everything goes to the seeds; with some, what none fits is left.
	Rules []Rule
	// Platforms of images whose rule names none; none: the node's own.
	Platforms []string
	// Registry returns the name of the configured registry that answers at HOST[:PORT]. Callable concurrently.
	Registry func(host string) (string, bool)
}

// Notifier makes jobs of events.
type Notifier struct {
	cfg  Config
	jobs Jobs

	mu     sync.Mutex
	memory *simplelru.LRU[string, done]
}

// done is an event that was dealt with.
type done struct {
	id preheat.ID
	at time.Time
}

// New returns a Notifier.
func New(cfg Config, jobs Jobs) *Notifier {
	memory, err := simplelru.NewLRU[string, done](memorySize, nil)
	if err != nil {
		panic(err) // the size is not positive
	}
	return &Notifier{cfg: cfg, jobs: jobs, memory: memory}
}

// Result says what became of some events.
type Result struct {
	Preheats []preheat.ID `json:"preheats"` // jobs, also those that there were already
	Ignored  int          `json:"ignored"`  // events that no rule sends anywhere
	Refused  int          `json:"refused"`  // events of registries or of names that are not allowed
}

// Notify deals with events. It returns preheat.ErrBusy with those that fitted: the sender may repeat them all. err also names, wrapped,
// the last one refused; what can be done is done all the same.
func (n *Notifier) Notify(ctx context.Context, events []Event) (Result, error) {
	res := Result{Preheats: []preheat.ID{}}
	var last error
	for _, e := range events {
		image, err := n.image(e)
		if err == nil {
			err = n.one(ctx, image, &res)
		}
		if errors.Is(err, preheat.ErrBusy) || errors.Is(err, preheat.ErrClosed) {
			return res, err
		}
		if err != nil {
			res.Refused++
			last = err
			log.Infow("news of a push refused", "origin", clip(e.Host), "ref", clip(e.Repository), "err", err)
		}
	}
	return res, last
}

// NotifyImage deals with an image that was pushed; its tag counts for the rules.
func (n *Notifier) NotifyImage(ctx context.Context, i preheat.Image) (Result, error) {
	res := Result{Preheats: []preheat.ID{}}
	return res, n.one(ctx, i, &res)
}

// clip bounds what strangers have logged.
func clip(s string) string { return fmt.Sprintf("%.200q", s) }

// image is what an event is about.
func (n *Notifier) image(e Event) (preheat.Image, error) {
	registry, ok := n.cfg.Registry(e.Host)
	if !ok {
		return preheat.Image{}, fmt.Errorf("%w: no registry of this node's configuration answers at %.100q", preheat.ErrUnlisted, e.Host)
	}
	text := registry + "/" + e.Repository + ":" + e.Tag
	if e.Digest != "" {
		text += "@" + e.Digest.String()
	}
	i, err := preheat.ParseImage(text, registry)
	if err == nil && i.Name != e.Repository {
		err = fmt.Errorf("%w: repository %.100q", preheat.ErrInvalid, e.Repository)
	}
	return i, err
}

// one makes a job for one image, unless there was one a short time ago.
func (n *Notifier) one(ctx context.Context, i preheat.Image, res *Result) error {
	r, ok := n.request(i)
	if !ok {
		res.Ignored++
		return nil
	}
	key := fmt.Sprintf("%s %s %v", i, r.Scope, r.Platforms)
	if id, ok := n.lately(ctx, key, i); ok {
		res.Preheats = append(res.Preheats, id)
		return nil
	}
	job, err := n.jobs.Create(r)
	if err != nil {
		return err
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	n.memory.Add(key, done{job.ID, time.Now()})
	res.Preheats = append(res.Preheats, job.ID)
	return nil
}

// request is what the rules make of an image; false: nothing.
func (n *Notifier) request(i preheat.Image) (preheat.Request, bool) {
	r := preheat.Request{Image: i, Scope: preheat.ScopeSeeds, Platforms: n.cfg.Platforms}
	if len(n.cfg.Rules) == 0 {
		return r, true
	}
	for _, rule := range n.cfg.Rules {
		if !rule.Fits(i) {
			continue
		}
		r.Scope = rule.Scope
		if len(rule.Platforms) > 0 {
			r.Platforms = rule.Platforms
		}
		return r, rule.Scope != ScopeNone
	}
	return r, false
}

// lately returns the job that was made of the same news, unless it has failed. A tag without a digest may have moved.
func (n *Notifier) lately(ctx context.Context, key string, i preheat.Image) (preheat.ID, bool) {
	n.mu.Lock()
	was, ok := n.memory.Get(key)
	n.mu.Unlock()
	if !ok || i.Digest == "" || time.Since(was.at) > memoryTime {
		return 0, false
	}
	job, err := n.jobs.Get(ctx, was.id)
	return was.id, err == nil && job.State != preheat.Failed && job.State != preheat.Cancelled
}
