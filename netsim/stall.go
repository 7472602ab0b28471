package netsim

import (
	"errors"
	"fmt"
	"strings"
	"time"
)

// StalledError says that a run stopped before everybody had finished, and who waited for whom.
type StalledError struct {
	At    time.Duration `json:"at_ns"` // virtual time
	Why   string        `json:"why"`
	Waits []string      `json:"waits"` // one line for each node that waits, at most maxWaits
	More  int           `json:"more"`  // lines left out
}

// maxWaits bounds the lines of a StalledError.
const maxWaits = 20

func (e *StalledError) Error() string {
	var b strings.Builder
	fmt.Fprintf(&b, "stopped at %v: %s", e.At.Round(time.Millisecond), e.Why)
	for _, w := range e.Waits {
		b.WriteString("\n  " + w)
	}
	if e.More > 0 {
		fmt.Fprintf(&b, "\n  and %d more", e.More)
	}
	return b.String()
}

// errNothingLeft says that no agent will do anything again.
var errNothingLeft = errors.New("nothing is left to happen")

// patience is the virtual time without progress after which a run stops.
const patience = time.Minute
