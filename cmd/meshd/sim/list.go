package sim

import (
	"fmt"
	"strings"
	"text/tabwriter"

	"github.com/meshd-project/meshd/netsim"
)

// listCommand is `meshd sim list`.
type listCommand struct{}

// Run prints a line for each ready-made scenario.
func (listCommand) Run(std Streams) error {
	t := tabwriter.NewWriter(std.Out, 0, 0, 2, ' ', 0)
	for _, name := range netsim.Ready() {
		runs, err := netsim.Find(name)
		if err != nil {
			return err
		}
		fmt.Fprintf(t, "%s\t%s\n", name, strings.TrimSpace(runs[0].About))
	}
	return t.Flush()
}
