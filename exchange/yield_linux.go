package exchange

import (
	"net"
	"syscall"

	"golang.org/x/sys/unix"
)

// prioBulk is TC_PRIO_BULK of linux/pkt_sched.h: the last band of the default queue of a network card.
const prioBulk = 2

// yieldTo has what is sent on a connection wait in the host's queue behind everything else that the host sends: the requests
// and acknowledgements of its own pulls first. A connection that is no socket stays as it is.
func yieldTo(c net.Conn) {
	s, ok := c.(syscall.Conn)
	if !ok {
		return
	}
	raw, err := s.SyscallConn()
	if err != nil {
		return
	}
	_ = raw.Control(func(fd uintptr) {
		_ = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_PRIORITY, prioBulk) // not vital
	})
}
