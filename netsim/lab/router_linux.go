package lab

import (
	"context"
	"errors"
	"os"
	"runtime"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"
	"golang.zx2c4.com/wireguard/tun"
)

const (
	headRoom  = 16       // bytes before each packet, for the header of the device
	maxGSO    = 64 << 10 // bytes of packets that one write hands to the kernel
	readAhead = 64       // batches that wait for the router
)

// router moves packets between TUN devices as a fabric says. Run owns the goroutines; the other methods may be called
// by any.
//
// It stands for hardware that is always in time, so its threads go before all others of the machine. What it is late in
// spite of that is measured: lateness.
type router struct {
	devs  []tun.Device
	began time.Time
	in    chan batch
	free  sync.Pool // of *[bufferSize]byte

	mu      sync.Mutex
	fabric  *fabric
	late    time.Duration // by which packets left too late, in all
	packets int64

	// of the goroutine of forward
	out     [][]*[bufferSize]byte // packets that arrived, by port
	sizes   [][]int
	scratch [][]byte // what is written; packets of one flow grow together in it
}

// batch is what one read of a device gave.
type batch struct {
	from  int
	bufs  []*[bufferSize]byte
	sizes []int
}

func newRouter(f *fabric, devs []tun.Device) *router {
	r := &router{
		devs: devs, began: time.Now(), in: make(chan batch, readAhead), fabric: f,
		out: make([][]*[bufferSize]byte, len(devs)), sizes: make([][]int, len(devs)),
	}
	r.free.New = func() any { return new([bufferSize]byte) }
	for range devs[0].BatchSize() {
		r.scratch = append(r.scratch, make([]byte, headRoom+maxGSO))
	}
	return r
}

// Run forwards until ctx ends, and closes the devices.
func (r *router) Run(ctx context.Context) error {
	processors := runtime.GOMAXPROCS(0) // a goroutine that goes first needs one of its own
	runtime.GOMAXPROCS(processors + len(r.devs) + 1)
	defer runtime.GOMAXPROCS(processors)
	g, ctx := errgroup.WithContext(ctx)
	for i := range r.devs {
		g.Go(func() error { return r.read(ctx, i) })
	}
	g.Go(func() error {
		defer func() {
			for _, d := range r.devs {
				_ = d.Close() // it wakes the readers
			}
		}()
		r.forward(ctx)
		return nil
	})
	return g.Wait()
}

// first has the calling goroutine go before all others of the machine, as far as that is allowed. Its thread ends with it.
func first() {
	runtime.LockOSThread()
	_ = unix.Setpriority(unix.PRIO_PROCESS, unix.Gettid(), -20)
}

// read takes packets from a device and hands them on.
func (r *router) read(ctx context.Context, from int) error {
	first()
	n := r.devs[from].BatchSize()
	bufs, sizes := make([]*[bufferSize]byte, n), make([]int, n)
	room := make([][]byte, n)
	for {
		for i := range bufs {
			if bufs[i] == nil {
				bufs[i] = r.free.Get().(*[bufferSize]byte)
				room[i] = bufs[i][:]
			}
		}
		got, err := r.devs[from].Read(room, sizes, headRoom)
		if errors.Is(err, os.ErrClosed) || ctx.Err() != nil {
			return nil
		}
		if err != nil && !errors.Is(err, tun.ErrTooManySegments) {
			continue // one packet that the device could not cut up
		}
		b := batch{from: from, bufs: append([]*[bufferSize]byte(nil), bufs[:got]...), sizes: append([]int(nil), sizes[:got]...)}
		clear(bufs[:got])
		select {
		case r.in <- b:
		case <-ctx.Done():
			return nil
		}
	}
}

// forward passes packets through the fabric and writes those that are through.
func (r *router) forward(ctx context.Context) {
	first()
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case b := <-r.in:
			r.offer(b)
		case <-timer.C:
		}
		wait := r.advance()
		r.write()
		timer.Reset(wait)
	}
}

// offer gives a batch, and all that waits behind it, to the fabric.
func (r *router) offer(b batch) {
	r.mu.Lock()
	defer r.mu.Unlock()
	now := time.Since(r.began)
	for {
		for i, buf := range b.bufs {
			data := buf[headRoom : headRoom+b.sizes[i]]
			head, ok := parse(data)
			to := 0
			if ok {
				to, ok = port(head.dst, r.fabric.zones)
			}
			if !ok || to == b.from || !r.fabric.offer(now, b.from, to, head, buf) {
				r.free.Put(buf)
			}
		}
		select {
		case b = <-r.in:
		default:
			return
		}
	}
}

// advance collects what has arrived by now and returns how long nothing will.
func (r *router) advance() time.Duration {
	r.mu.Lock()
	defer r.mu.Unlock()
	now := time.Since(r.began)
	r.fabric.advance(now, func(to int, p *packet) {
		if to < 0 {
			r.free.Put(p.data)
			return
		}
		r.late += now - p.at
		r.packets++
		r.out[to] = append(r.out[to], p.data)
		r.sizes[to] = append(r.sizes[to], p.head.size)
	})
	at, ok := r.fabric.next()
	if !ok {
		return time.Hour
	}
	return max(at-now, 0)
}

// write sends what has arrived out of the devices. Packets are copied together, so that the device can hand several of
// one flow to the kernel as one.
func (r *router) write() {
	for to := range r.out {
		for len(r.out[to]) > 0 {
			n := min(len(r.out[to]), len(r.scratch))
			bufs := make([][]byte, n)
			for i := range n {
				size := r.sizes[to][i]
				bufs[i] = r.scratch[i][:headRoom+size]
				copy(bufs[i][headRoom:], r.out[to][i][headRoom:headRoom+size])
				r.free.Put(r.out[to][i])
			}
			_, _ = r.devs[to].Write(bufs, headRoom) // what the kernel does not take is lost, as on a network
			r.out[to], r.sizes[to] = r.out[to][n:], r.sizes[to][n:]
		}
		r.out[to], r.sizes[to] = r.out[to][:0], r.sizes[to][:0]
	}
}

// change has f act on the fabric.
func (r *router) change(f func(*fabric)) {
	r.mu.Lock()
	defer r.mu.Unlock()
	f(r.fabric)
}

// lateness returns by how much packets left too late so far, in the mean.
func (r *router) lateness() time.Duration {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.late / time.Duration(max(r.packets, 1))
}

// traffic returns what came out at each port so far.
func (r *router) traffic() []count {
	r.mu.Lock()
	defer r.mu.Unlock()
	return append([]count(nil), r.fabric.counts...)
}
