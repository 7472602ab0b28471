package swarm

import (
	"math"
	"time"
)

// Time is nanoseconds since the core started. The driver pushes it into Step; the core owns no clock.
type Time int64

// never is later than any time.
const never = Time(math.MaxInt64)

// Add returns t shifted by d.
func (t Time) Add(d time.Duration) Time { return t + Time(d) }

// Sub returns the duration t-u.
func (t Time) Sub(u Time) time.Duration { return time.Duration(t - u) }
