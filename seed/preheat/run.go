package preheat

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"
)

// errTimeout is why a job ended that took too long.
var errTimeout = errors.New("it took longer than its time-out")

// run carries a job out. When ctx ends before it, the job stays as it is on disk: queued.
func (m *Manager) run(ctx context.Context, j *job) {
	own, cancel := context.WithCancel(ctx)
	defer cancel()
	m.mu.Lock()
	if j.state.Ended() {
		m.mu.Unlock()
		return
	}
	j.state, j.updated, j.cancel = Running, time.Now().UTC(), cancel
	timeout := j.request.Timeout
	m.mu.Unlock()
	started := time.Now()
	bounded, release := context.WithTimeoutCause(own, timeout, errTimeout)
	defer release()
	err := m.carryOut(bounded, j)
	if ctx.Err() != nil {
		return
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	switch {
	case j.asked:
		j.settle(Cancelled, "cancelled")
		m.end(j, Cancelled, "cancelled")
	case bounded.Err() != nil:
		j.settle(Failed, errTimeout.Error())
		m.end(j, Failed, fmt.Sprintf("%v of %v", errTimeout, timeout))
	case err != nil:
		m.end(j, Failed, err.Error())
	default:
		j.settle(Failed, "the node ended its part without having all of it")
		state, reason := j.outcome()
		m.end(j, state, reason)
	}
	log.Infow("preheat ended", "job", j.id, "ref", j.text, "state", string(j.state), "err", j.reason, "nodes", len(j.nodes), "dur", time.Since(started))
}

// settle ends what is still under way. The caller holds m.mu.
func (j *job) settle(s State, reason string) {
	for _, t := range j.nodes {
		for i := range t.layers {
			if !t.layers[i].state.Ended() {
				t.layers[i].state, t.layers[i].reason = s, reason
			}
		}
		if !t.state.Ended() {
			t.state, t.reason = s, reason
		}
	}
}

// outcome is what the nodes' parts make of the job. The caller holds m.mu.
func (j *job) outcome() (State, string) {
	failed, first := 0, ""
	for _, t := range j.nodes {
		if t.state != Succeeded {
			failed++
			if first == "" {
				first = fmt.Sprintf("%s (%s): %s", t.member.ID, t.member.Name, t.reason)
			}
		}
	}
	if failed == 0 {
		return Succeeded, ""
	}
	return Failed, fmt.Sprintf("%d of %d nodes do not have all of it, the first of them %s", failed, len(j.nodes), first)
}

// carryOut finds out what the image is made of and has the nodes of the scope fetch it.
func (m *Manager) carryOut(ctx context.Context, j *job) error {
	r := j.request
	c, authorization, err := m.resolve(ctx, r)
	if err != nil {
		return err
	}
	if !c.Private {
		authorization = ""
	}
	chosen, err := r.Scope.choose(m.cfg.Self, m.cfg.Members())
	if err != nil {
		return err
	}
	if here := slices.ContainsFunc(chosen, func(n Member) bool { return n.ID == m.cfg.Self.ID }); c.Private && !here {
		// The others may have no credentials: they get it from this node.
		chosen = slices.Insert(chosen, 0, m.cfg.Self)
	}
	tasks := m.assign(j, c, chosen)
	o := order{Repository: r.Image.Repository, Private: c.Private, Layers: c.Layers}
	if !c.Private {
		o.Documents = slices.DeleteFunc(slices.Clone(c.Documents), func(d Document) bool { return !d.valid() })
	}
	slots := make(chan struct{}, maxAsked)
	var all sync.WaitGroup
	for _, t := range tasks {
		select {
		case slots <- struct{}{}:
		case <-ctx.Done():
			all.Wait()
			return ctx.Err()
		}
		all.Go(func() {
			defer func() { <-slots }()
			m.finish(j, t, m.execute(ctx, j, t, o, authorization))
		})
	}
	all.Wait()
	return nil
}

// Resolve asks the registry what an image is made of, as a job of this request would. Errors as Create, and ErrUnknown, ErrDenied,
// ErrPlatform, or the registry's.
func (m *Manager) Resolve(ctx context.Context, r Request) (Contents, error) {
	r, err := m.check(r)
	if err != nil {
		return Contents{}, err
	}
	c, _, err := m.resolve(ctx, r)
	return c, err
}

// resolve also returns what the registry was asked with.
func (m *Manager) resolve(ctx context.Context, r Request) (c Contents, authorization string, err error) {
	platforms, err := parsePlatforms(r.Platforms)
	if err != nil {
		return c, "", err
	}
	if authorization, err = m.authorization(ctx, r); err != nil {
		return c, "", err
	}
	c, err = resolve(ctx, m.origin, r.Image, platforms, authorization)
	return c, authorization, err
}

// authorization is what the registry is asked with.
func (m *Manager) authorization(ctx context.Context, r Request) (string, error) {
	if r.Authorization != "" {
		return r.Authorization, nil
	}
	return m.origin.Authorization(ctx, r.Image.Registry)
}

// assign gives each node its part of a job.
func (m *Manager) assign(j *job, c Contents, chosen []Member) []*task {
	m.mu.Lock()
	defer m.mu.Unlock()
	j.contents = c
	for _, n := range chosen {
		t := &task{member: n, state: Queued, layers: make([]layerState, len(c.Layers))}
		for i := range t.layers {
			t.layers[i].state = Queued
		}
		j.nodes = append(j.nodes, t)
	}
	return slices.Clone(j.nodes)
}

// execute has one node do its part.
func (m *Manager) execute(ctx context.Context, j *job, t *task, o order, authorization string) error {
	report := func(layer int, s layerState) { m.report(j, t, layer, s) }
	if t.member.ID == m.cfg.Self.ID {
		m.work(ctx, o, authorization, report)
		return nil
	}
	return m.ask(ctx, t.member, o, report)
}

// report notes how far a blob is at a node.
func (m *Manager) report(j *job, t *task, layer int, s layerState) {
	m.mu.Lock()
	defer m.mu.Unlock()
	j.updated = time.Now().UTC()
	if t.state == Queued {
		t.state = Running
	}
	t.layers[layer] = s
}

// finish ends a node's part: err is why it could not be asked to the end.
func (m *Manager) finish(j *job, t *task, err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	j.updated = time.Now().UTC()
	if errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) {
		return // as below
	}
	missing := slices.IndexFunc(t.layers, func(l layerState) bool { return l.state != Succeeded })
	failed := slices.IndexFunc(t.layers, func(l layerState) bool { return l.state == Failed })
	switch {
	case missing < 0:
		t.state, t.layers = Succeeded, nil
	case err != nil:
		t.state, t.reason = Failed, clip(err.Error())
	case failed >= 0:
		t.state, t.reason = Failed, t.layers[failed].reason
	}
	// Else it was cut short with the job, and run says why.
}
