package preheat

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
)

// ask has another node do its part of a job. It tries again when the node cannot be reached, is busy or falls silent; what
// it has by then it says at once.
func (m *Manager) ask(ctx context.Context, to Member, o order, tell func(int, layerState)) error {
	for try := 1; ; try++ {
		err := m.askOnce(ctx, to, o, tell)
		switch {
		case err == nil:
			return nil
		case ctx.Err() != nil:
			return ctx.Err()
		case try == maxTries, errors.Is(err, ErrUnlisted), errors.Is(err, ErrInvalid):
			return err
		}
		log.Debugw("node asked again", "peer", to.ID, "err", err)
		if !pause(ctx, firstWait<<(try-1)) {
			return ctx.Err()
		}
	}
}

func (m *Manager) askOnce(ctx context.Context, to Member, o order, tell func(int, layerState)) error {
	s, end, err := m.open(ctx, to, opening{Fetch: &o})
	if err != nil {
		return err
	}
	defer end()
	in := bufio.NewScanner(s)
	in.Buffer(make([]byte, 0, 4<<10), maxAnswer)
	for {
		_ = s.SetReadDeadline(time.Now().Add(aliveWait))
		if !in.Scan() {
			return fmt.Errorf("it fell silent: %w", errOr(in.Err(), io.ErrUnexpectedEOF))
		}
		a, err := parseReport(in.Bytes(), len(o.Layers))
		switch {
		case err != nil:
			return fmt.Errorf("its answer makes no sense: %w", err)
		case a.Refuse != "":
			return refusal(a, o.Registry)
		case a.Report != nil:
			tell(a.Report.Layer, layerState{state: a.Report.State, bytes: a.Report.Bytes, reason: a.Report.Reason})
		case a.Done:
			return nil
		}
	}
}

func errOr(err, other error) error {
	if err != nil {
		return err
	}
	return other
}

// refusal is the error that another node's no stands for.
func refusal(a answer, registry string) error {
	switch a.Refuse {
	case refusedBusy:
		return fmt.Errorf("%w on that node", ErrBusy)
	case refusedUnlisted:
		return fmt.Errorf("%w on that node: start it with --registry %s=https://%s", ErrUnlisted, registry, registry)
	case refusedUnknown:
		return ErrNotFound
	}
	return fmt.Errorf("%w: that node refuses: %s", ErrInvalid, a.Reason)
}

// open opens a stream to a member and says what it is for. end gives it back; the end of ctx ends it too.
func (m *Manager) open(ctx context.Context, to Member, o opening) (s network.Stream, end func(), err error) {
	if m.host == nil {
		return nil, nil, errors.New("this node is alone")
	}
	dial, cancel := context.WithTimeout(ctx, openWait)
	defer cancel()
	err = m.host.Connect(dial, peer.AddrInfo{ID: to.ID, Addrs: to.Addrs})
	if err == nil {
		s, err = m.host.NewStream(dial, to.ID, Protocol)
	}
	if err != nil {
		return nil, nil, fmt.Errorf("it cannot be reached: %w", err)
	}
	stop := context.AfterFunc(ctx, func() { _ = s.Reset() })
	end = func() { stop(); _ = s.Reset() }
	data, err := json.Marshal(o)
	if err == nil {
		_ = s.SetWriteDeadline(time.Now().Add(openWait))
		_, err = s.Write(data)
	}
	if err != nil {
		end()
		return nil, nil, fmt.Errorf("it cannot be told: %w", err)
	}
	return s, end, nil
}

// ownersKept is how long the owner of jobs is remembered after it was a member last; ownersEvery how often they are noted.
const (
	ownersKept  = 30 * time.Minute
	ownersEvery = 30 * time.Second
)

// watchOwners remembers who could own jobs, until ctx ends.
func (m *Manager) watchOwners(ctx context.Context) {
	tick := time.NewTicker(ownersEvery)
	defer tick.Stop()
	for {
		m.noteOwners(m.cfg.Members())
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
	}
}

func (m *Manager) noteOwners(members []Member) {
	m.mu.Lock()
	defer m.mu.Unlock()
	now := time.Now()
	for tag, seen := range m.owners {
		if now.Sub(seen) > ownersKept {
			delete(m.owners, tag)
		}
	}
	for _, n := range members {
		m.owners[tagOf(n.ID)] = now
	}
}

// elsewhere asks the owner of a job for it.
func (m *Manager) elsewhere(ctx context.Context, q inquiry) (Job, error) {
	members := m.cfg.Members()
	m.noteOwners(members)
	away := false
	for _, n := range members {
		if tagOf(n.ID) != q.ID.tag() {
			continue
		}
		job, err := m.inquire(ctx, n, q)
		if err == nil {
			return job, nil
		}
		if !errors.Is(err, ErrNotFound) {
			log.Infow("owner of a preheat not reached", "job", q.ID, "peer", n.ID, "err", err)
			away = true
		}
	}
	m.mu.Lock()
	_, known := m.owners[q.ID.tag()]
	m.mu.Unlock()
	present := false
	for _, n := range members {
		present = present || tagOf(n.ID) == q.ID.tag()
	}
	if away || known && !present {
		return Job{}, fmt.Errorf("%w: job %s", ErrAway, q.ID)
	}
	return Job{}, fmt.Errorf("%w: %s", ErrNotFound, q.ID)
}

// inquire asks one member for a job.
func (m *Manager) inquire(ctx context.Context, n Member, q inquiry) (Job, error) {
	ctx, cancel := context.WithTimeout(ctx, openWait)
	defer cancel()
	s, end, err := m.open(ctx, n, opening{Job: &q})
	if err != nil {
		return Job{}, err
	}
	defer end()
	var a answer
	if err := json.NewDecoder(io.LimitReader(s, maxFound)).Decode(&a); err != nil {
		return Job{}, err
	}
	switch {
	case a.Refuse != "":
		return Job{}, refusal(a, "")
	case a.Found == nil || a.Found.ID != q.ID:
		return Job{}, fmt.Errorf("%w: answered for another job", ErrInvalid)
	}
	return *a.Found, nil
}
