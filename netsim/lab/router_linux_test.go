package lab

import (
	"context"
	"encoding/binary"
	"os"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"golang.zx2c4.com/wireguard/tun"
)

// device is a TUN device of which a test is the kernel.
type device struct {
	in   chan []byte // packets from the kernel
	out  chan []byte // packets to it
	once sync.Once
	gone chan struct{}
}

func newDevice() *device {
	return &device{in: make(chan []byte, 100), out: make(chan []byte, 100), gone: make(chan struct{})}
}

func (d *device) Read(bufs [][]byte, sizes []int, offset int) (int, error) {
	select {
	case p := <-d.in:
		sizes[0] = copy(bufs[0][offset:], p)
		return 1, nil
	case <-d.gone:
		return 0, os.ErrClosed
	}
}

func (d *device) Write(bufs [][]byte, offset int) (int, error) {
	for _, b := range bufs {
		d.out <- append([]byte(nil), b[offset:]...)
	}
	return len(bufs), nil
}

func (d *device) Close() error             { d.once.Do(func() { close(d.gone) }); return nil }
func (d *device) BatchSize() int           { return 8 }
func (d *device) File() *os.File           { return nil }
func (d *device) MTU() (int, error)        { return mtu, nil }
func (d *device) Name() (string, error)    { return tunName, nil }
func (d *device) Events() <-chan tun.Event { return nil }

// startRouter runs a router between devices in a synctest bubble; stop ends it and waits for all its goroutines.
func startRouter(t *testing.T, text string) (r *router, devs []*device, stop func()) {
	t.Helper()
	f := testFabric(t, text)
	var all []tun.Device
	for range f.zones + 1 {
		d := newDevice()
		devs, all = append(devs, d), append(all, d)
	}
	r = newRouter(f, all)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- r.Run(ctx) }()
	return r, devs, func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
}

// Packets come out where their address is, half a round trip later, in order and unchanged; what has no place is dropped.
func TestRouter(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, devs, stop := startRouter(t, twoZones)
		defer stop()
		began := time.Now()
		first, second := ipv4(addrA, addrB, ipTCP, 20, 0, tcp(32, 100)), ipv4(addrA, addrB, ipTCP, 20, 0, tcp(32, 200))
		binary.BigEndian.PutUint16(first[20:], dataPort)
		binary.BigEndian.PutUint16(second[22:], registryPort)
		devs[zoneA].in <- []byte("not a packet")
		devs[zoneA].in <- ipv4(addrA, [4]byte{192, 168, 1, 1}, ipTCP, 20, 0, tcp(20, 1))
		devs[zoneA].in <- ipv4(addrA, addrA, ipTCP, 20, 0, tcp(20, 1)) // of its own zone
		devs[zoneA].in <- first
		devs[zoneA].in <- second
		for _, want := range [][]byte{first, second} {
			if got := <-devs[zoneB].out; string(got) != string(want) {
				t.Errorf("got %d bytes, want %d", len(got), len(want))
			}
		}
		if took := time.Since(began); took < 15*time.Millisecond || took > 16*time.Millisecond {
			t.Errorf("it took %v", took)
		}
		if got := r.traffic()[zoneB]; got.payload != 300 || got.packets != 300+2*52 {
			t.Errorf("counted %+v", got)
		}
		time.Sleep(time.Second)
		if n := len(devs[zoneB].out) + len(devs[zoneA].out) + len(devs[zoneC].out); n > 0 {
			t.Errorf("%d packets more came out", n)
		}
		r.change(func(f *fabric) { f.cut(zoneB, true) })
		devs[zoneA].in <- first
		time.Sleep(time.Second)
		if n := len(devs[zoneB].out); n > 0 {
			t.Error("the cut let a packet through")
		}
	})
}

// What a pipe lets through in a second comes out in a second, however much is offered.
func TestRouterShapes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, devs, stop := startRouter(t, twoZones) // 1 MB/s out of each zone
		defer stop()
		came := 0
		for began := time.Now(); time.Since(began) < time.Second; time.Sleep(500 * time.Microsecond) {
			devs[zoneA].in <- ipv4(addrA, addrB, ipTCP, 20, 0, tcp(20, 960)) // 2 MB/s
			for len(devs[zoneB].out) > 0 {
				<-devs[zoneB].out
				came++
			}
		}
		if came < 970 || came > 990 { // of 1000 in a second, 15 ms under way
			t.Errorf("%d packets came out in a second", came)
		}
		r.change(func(f *fabric) {
			if f.dropped < 850 || f.dropped > 950 { // a tenth of a second waits
				t.Errorf("%d packets were dropped", f.dropped)
			}
		})
	})
}
