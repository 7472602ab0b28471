package lab

import (
	"fmt"
	"os"
	"strconv"
	"strings"
)

// cpuTime is the machine's time since its start, in ticks of the kernel.
type cpuTime struct{ idle, all float64 }

// readCPU reads /proc/stat; zero if it cannot.
func readCPU() cpuTime {
	data, err := os.ReadFile("/proc/stat")
	if err != nil {
		return cpuTime{}
	}
	line, _, _ := strings.Cut(string(data), "\n")
	var t cpuTime
	for i, field := range strings.Fields(line) {
		v, err := strconv.ParseFloat(field, 64)
		if err != nil || i > 8 { // the name; guest time, which user time has in it
			continue
		}
		t.all += v
		if i == 4 || i == 5 { // idle, iowait
			t.idle += v
		}
	}
	return t
}

// share returns how much of the time until then was not idle.
func (t cpuTime) share(then cpuTime) float64 {
	if then.all <= t.all {
		return 0
	}
	return 1 - (then.idle-t.idle)/(then.all-t.all)
}

// processTime returns the processor time that living processes and this one have had, in ticks; those that it cannot
// read are left out.
func processTime(pids []int) float64 {
	sum := 0.0
	for _, pid := range append(pids, os.Getpid()) {
		data, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
		if err != nil {
			continue
		}
		_, rest, _ := strings.Cut(string(data), ") ") // behind the name, which may hold anything
		fields := strings.Fields(rest)
		for _, i := range []int{11, 12} { // utime and stime are the 14th and 15th of proc(5)
			if i < len(fields) {
				v, _ := strconv.ParseFloat(fields[i], 64)
				sum += v
			}
		}
	}
	return sum
}
