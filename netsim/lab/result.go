package lab

import (
	"io"

	"github.com/meshd-project/meshd/netsim"
)

// Options tune a run without changing what it shows.
type Options struct {
	Progress io.Writer // takes a line now and then, if set
}

// Result is what a run showed: a result as the simulator gives it, and what only the lab can tell. Figures that cannot
// be seen from outside a process are 0 (Scenario.Result).
type Result struct {
	netsim.Result
	WallS float64 `json:"wall_s"`
	// IntoZoneWire is as IntoZone, in bytes of all IP packets, control messages and the mesh's own upkeep with them.
	// IntoZone itself is what packets of data ports and the registry carry behind the TCP header.
	IntoZoneWire map[string]float64 `json:"into_zone_wire"`
	Congestion   string             `json:"tcp_congestion_control"`
	// CPUBusy is the share of the machine's processors that was busy during the pulls, CPULab that which the lab itself had
	// (without what the kernel did in interrupts, and without nodes that were killed). If the first is near 1 the times
	// say more about the machine than about the mesh.
	CPUBusy float64 `json:"cpu_busy"`
	CPULab  float64 `json:"cpu_lab"`
	// RouterLateS is by how much packets between zones came too late, in the mean, for want of a processor.
	RouterLateS float64 `json:"router_late_s"`
	// Errors says why hosts failed, by name; not of those that were killed.
	Errors map[string]string `json:"errors,omitempty"`
}
