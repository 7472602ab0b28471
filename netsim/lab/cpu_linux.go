package lab

import (
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
