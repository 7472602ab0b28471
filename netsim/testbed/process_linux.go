package testbed

import "syscall"

// childAttr puts a child into a process group of its own, so that Ctrl-C reaches only the parent, which then stops its
// children in order; and lets the kernel kill it when the thread that started it ends. Go ends a thread only with a
// goroutine locked to it, and there is none, so that is when the parent dies.
func childAttr() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
}
