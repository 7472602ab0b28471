package e2e

import (
	"os"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// What a server spends on a byte over loopback depends more on the cores that it and its client run on than on the
// server: on two, most packets wake a core that sleeps; on one, they wait for the client's turn. Left alone the kernel
// puts a process of one thread on its client's core and one of several threads beside it. So a benchmark that compares
// two servers gives both the same cores.

// cores returns those that this process may use.
func cores(t testing.TB) []int {
	t.Helper()
	var set unix.CPUSet
	must(t, unix.SchedGetaffinity(0, &set))
	var list []int
	for i := range 1024 {
		if set.IsSet(i) {
			list = append(list, i)
		}
	}
	return list
}

// pin binds the threads of processes, and those that they will start, to cores.
func pin(t testing.TB, cores []int, pids ...int) {
	t.Helper()
	var set unix.CPUSet
	for _, c := range cores {
		set.Set(c)
	}
	for _, pid := range pids {
		tasks, err := os.ReadDir("/proc/" + strconv.Itoa(pid) + "/task")
		must(t, err)
		for _, task := range tasks {
			tid, err := strconv.Atoi(task.Name())
			must(t, err)
			if err := unix.SchedSetaffinity(tid, &set); err != nil && err != unix.ESRCH { // it has ended meanwhile
				t.Fatalf("pin thread %d: %v", tid, err)
			}
		}
	}
}

// tree returns the process and those that its first thread has started: nginx has workers.
func (p *process) tree(t testing.TB) []int {
	t.Helper()
	pid := p.cmd.Process.Pid
	out, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/task/" + strconv.Itoa(pid) + "/children")
	must(t, err)
	pids := []int{pid}
	for field := range strings.FieldsSeq(string(out)) {
		child, err := strconv.Atoi(field)
		must(t, err)
		pids = append(pids, child)
	}
	return pids
}
