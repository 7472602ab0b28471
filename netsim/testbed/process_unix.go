//go:build unix && !linux

package testbed

import "syscall"

// childAttr puts a child into a process group of its own, so that Ctrl-C reaches only the parent, which then stops its
// children in order.
func childAttr() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Setpgid: true}
}
