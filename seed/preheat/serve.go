package preheat

import (
	"context"
	"encoding/json"
	"errors"
	"sync"
	"time"

	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/protocol"
)

// Protocol is the streams by which nodes have each other fetch.
const Protocol protocol.ID = "/meshd/preheat/1"

// Waits of the two ends of a stream.
const (
	openWait   = 15 * time.Second // for what a stream begins with, or a connection
	aliveEvery = 5 * time.Second  // the longest silence of a node at work
	aliveWait  = 30 * time.Second // before it is given up
	tellEvery  = 250 * time.Millisecond
)

// listen serves other nodes until the returned function is called.
func (m *Manager) listen(ctx context.Context) (stop func()) {
	if m.host == nil {
		return func() {}
	}
	m.host.SetStreamHandler(Protocol, func(s network.Stream) {
		m.mu.Lock()
		closed := m.closed
		if !closed {
			m.workers.Add(1)
		}
		m.mu.Unlock()
		if closed {
			_ = s.Reset()
			return
		}
		defer m.workers.Done()
		m.serve(ctx, s)
	})
	return func() { m.host.RemoveStreamHandler(Protocol) }
}

// serve answers one stream.
func (m *Manager) serve(ctx context.Context, s network.Stream) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(ctx, func() { _ = s.Reset() })()
	out := &lines{s: s, fail: cancel}
	select {
	case m.inbound <- struct{}{}:
		defer func() { <-m.inbound }()
	default:
		out.write(answer{Refuse: refusedBusy})
		_ = s.Close()
		return
	}
	_ = s.SetReadDeadline(time.Now().Add(openWait))
	o, err := readOpening(s)
	switch {
	case err != nil:
		log.Warnw("preheat stream refused", "peer", s.Conn().RemotePeer(), "err", err)
		out.write(answer{Refuse: refusedInvalid, Reason: clip(err.Error())})
	case o.Job != nil:
		m.serveInquiry(*o.Job, out)
	case !m.origin.Listed(o.Fetch.Registry):
		out.write(answer{Refuse: refusedUnlisted})
	default:
		_ = s.SetReadDeadline(time.Time{})
		go func() { // whoever asked says no more: what comes is its end
			_, _ = s.Read(make([]byte, 1))
			cancel()
		}()
		m.serveFetch(ctx, *o.Fetch, out)
	}
	_ = s.CloseWrite()
}

// serveInquiry answers for a job of this node.
func (m *Manager) serveInquiry(q inquiry, out *lines) {
	var job Job
	var err error
	if q.Cancel {
		job, err = m.cancel(q.ID)
	} else {
		m.mu.Lock()
		j := m.jobs[q.ID]
		if j == nil {
			err = ErrNotFound
		} else {
			job = j.view()
		}
		m.mu.Unlock()
	}
	if err != nil {
		out.write(answer{Refuse: refusedUnknown})
		return
	}
	out.write(answer{Found: &job})
}

// serveFetch does a node's part of another's job and tells how it goes.
func (m *Manager) serveFetch(ctx context.Context, o order, out *lines) {
	authorization := ""
	if o.Private {
		var err error
		if authorization, err = m.origin.Authorization(ctx, o.Registry); err != nil {
			log.Warnw("own credentials not read", "origin", o.Registry, "err", err)
		}
	}
	p := progress{states: make([]layerState, len(o.Layers)), told: make([]layerState, len(o.Layers))}
	done := make(chan struct{})
	go func() {
		defer close(done)
		m.work(ctx, o, authorization, p.set)
	}()
	tick := time.NewTicker(tellEvery)
	defer tick.Stop()
	last := time.Now()
	for working := true; working; {
		select {
		case <-done:
			working = false
		case <-tick.C:
		}
		if p.tell(out) {
			last = time.Now()
		} else if time.Since(last) >= aliveEvery {
			last = time.Now()
			out.write(answer{})
		}
	}
	if ctx.Err() == nil {
		out.write(answer{Done: true})
	}
}

// progress is how far the blobs of an order are, and what of it was told.
type progress struct {
	mu     sync.Mutex
	states []layerState
	told   []layerState // of the goroutine that tells
}

func (p *progress) set(i int, s layerState) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.states[i] = s
}

// tell writes what has changed and reports whether anything had.
func (p *progress) tell(out *lines) bool {
	var news []report
	p.mu.Lock()
	for i, s := range p.states {
		if s != p.told[i] {
			p.told[i] = s
			news = append(news, report{Layer: i, State: s.state, Bytes: s.bytes, Reason: s.reason})
		}
	}
	p.mu.Unlock()
	for i := range news {
		out.write(answer{Report: &news[i]})
	}
	return len(news) > 0
}

// lines writes answers. A write that fails, or takes too long, ends the stream's work.
type lines struct {
	s    network.Stream
	fail context.CancelFunc
}

func (l *lines) write(a answer) {
	data, err := json.Marshal(a)
	if err == nil {
		_ = l.s.SetWriteDeadline(time.Now().Add(openWait))
		_, err = l.s.Write(append(data, '\n'))
	}
	if err != nil && !errors.Is(err, context.Canceled) {
		l.fail()
	}
}
