package proxy

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"sync"
	"time"
)

// copySize is the buffer of one direction of a tunnel.
const copySize = 32 << 10

var copyBuffers = sync.Pool{New: func() any { b := make([]byte, copySize); return &b }}

// established answers a CONNECT.
const established = "HTTP/1.1 200 Connection established\r\n\r\n"

// tunnel connects the client with the target and returns when both are done. An error came before the answer.
func (p *Proxy) tunnel(w http.ResponseWriter, r *http.Request, d decision) error {
	leave, err := p.tunnels.enter()
	if err != nil {
		return err
	}
	defer leave()
	ctx, cancel := context.WithTimeout(r.Context(), p.cfg.DialTimeout)
	defer cancel()
	far, err := p.dial(ctx, d.String(), d.named)
	if err != nil {
		return fmt.Errorf("tunnel: %w", err)
	}
	defer far.Close()
	near, err := hijack(w)
	if err != nil {
		return err
	}
	defer near.Close()
	pipe := newPipe(near, far, p.cfg.IdleTimeout)
	defer pipe.timer.Stop()
	defer p.tunnels.add(pipe)()
	p.cfg.ConnState(near, http.StateActive)
	defer p.cfg.ConnState(near, http.StateClosed)
	if _, err := io.WriteString(near, established); err == nil {
		pipe.run()
	}
	return nil
}

// bufferedConn is a hijacked connection with what was read ahead.
type bufferedConn struct {
	net.Conn
	ahead io.Reader // nil when it is used up
}

// hijack takes the connection out of the server, without deadlines.
func hijack(w http.ResponseWriter) (net.Conn, error) {
	conn, buffered, err := http.NewResponseController(w).Hijack()
	if err != nil {
		return nil, fmt.Errorf("CONNECT: %w", err)
	}
	if err := conn.SetDeadline(time.Time{}); err != nil {
		return nil, errors.Join(err, conn.Close())
	}
	if n := buffered.Reader.Buffered(); n > 0 {
		return &bufferedConn{Conn: conn, ahead: io.LimitReader(buffered.Reader, int64(n))}, nil
	}
	return conn, nil
}

// Read implements io.Reader.
func (c *bufferedConn) Read(b []byte) (int, error) {
	if c.ahead == nil {
		return c.Conn.Read(b)
	}
	n, err := c.ahead.Read(b)
	if err == nil && n > 0 {
		return n, nil
	}
	c.ahead = nil
	return c.Conn.Read(b)
}

// CloseWrite ends our half, if the connection has halves.
func (c *bufferedConn) CloseWrite() error { return closeWrite(c.Conn) }

func closeWrite(c net.Conn) error {
	if half, ok := c.(interface{ CloseWrite() error }); ok {
		return half.CloseWrite()
	}
	return c.Close()
}

// pipe is two connections whose bytes go from each to the other. Each half ends by itself.
type pipe struct {
	near, far net.Conn

	mu    sync.Mutex
	idle  time.Duration
	timer *time.Timer // closes both ends
}

func newPipe(near, far net.Conn, idle time.Duration) *pipe {
	p := &pipe{near: near, far: far, idle: idle}
	p.timer = time.AfterFunc(idle, p.close) // whoever made the pipe stops it
	return p
}

// run copies until both halves have ended, one of them has failed, or nothing has passed for the idle time.
func (p *pipe) run() {
	var up sync.WaitGroup
	up.Go(func() { p.copy(p.far, p.near) })
	p.copy(p.near, p.far)
	up.Wait()
	p.close()
}

func (p *pipe) copy(to, from net.Conn) {
	buf, _ := copyBuffers.Get().(*[]byte)
	defer copyBuffers.Put(buf)
	for {
		n, err := from.Read(*buf)
		if n > 0 {
			if _, err := to.Write((*buf)[:n]); err != nil {
				p.close()
				return
			}
			p.touch()
		}
		if errors.Is(err, io.EOF) {
			err = closeWrite(to)
			if err == nil {
				return
			}
		}
		if err != nil {
			p.close()
			return
		}
	}
}

func (p *pipe) touch() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.timer.Reset(p.idle)
}

// hurry shortens the idle time.
func (p *pipe) hurry(idle time.Duration) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.idle = min(p.idle, idle)
	p.timer.Reset(p.idle)
}

// close ends run.
func (p *pipe) close() {
	_ = p.near.Close()
	_ = p.far.Close()
}

// tunnels counts what CONNECT has opened and knows the pipes among it.
type tunnels struct {
	mu       sync.Mutex
	max      int
	open     int
	pipes    map[*pipe]struct{}
	draining bool
	last     time.Duration // idle time of pipes while draining
	empty    chan struct{} // closed when draining and nothing is open
}

func newTunnels(limit int) *tunnels {
	return &tunnels{max: limit, pipes: map[*pipe]struct{}{}, empty: make(chan struct{})}
}

// enter takes a place; the function gives it back, once.
func (t *tunnels) enter() (leave func(), err error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	switch {
	case t.draining:
		return nil, refusef(http.StatusServiceUnavailable, "the node is stopping")
	case t.open >= t.max:
		return nil, refusef(http.StatusServiceUnavailable, "%d tunnels are open, and no more are allowed", t.open)
	}
	t.open++
	return sync.OnceFunc(func() {
		t.mu.Lock()
		defer t.mu.Unlock()
		t.open--
		t.check()
	}), nil
}

// add makes a pipe known; the function forgets it.
func (t *tunnels) add(p *pipe) func() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.pipes[p] = struct{}{}
	if t.draining {
		p.hurry(t.last)
	}
	return func() {
		t.mu.Lock()
		defer t.mu.Unlock()
		delete(t.pipes, p)
	}
}

// drain lets nobody in any more.
func (t *tunnels) drain(last time.Duration) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.draining {
		return
	}
	t.draining, t.last = true, last
	for p := range t.pipes {
		p.hurry(last)
	}
	t.check()
}

func (t *tunnels) check() {
	if t.draining && t.open == 0 {
		close(t.empty)
	}
}

// wait returns when nothing is open. When ctx ends, pipes are closed first.
func (t *tunnels) wait(ctx context.Context) {
	select {
	case <-t.empty:
		return
	case <-ctx.Done():
	}
	t.mu.Lock()
	for p := range t.pipes {
		p.close()
	}
	t.mu.Unlock()
	<-t.empty
}
