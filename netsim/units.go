package netsim

import (
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"
)

// Bytes is a number of bytes. In a scenario: "1.28GB", "64MiB", "4096".
type Bytes int64

// Rate is bytes per second; 0 means without limit where that makes sense. In a scenario: "250MB/s", "1Gbit/s".
type Rate float64

// Duration is a span of virtual time. In a scenario: "30ms", "1m30s".
type Duration time.Duration

// Share is a part of a whole, from 0 to 1. In a scenario: "5%" or "0.05".
type Share float64

// byteUnits lists the longest suffixes first, so that "MiB" is not taken for "B".
var byteUnits = []struct {
	suffix string
	n      float64
}{
	{"TiB", 1 << 40},
	{"GiB", 1 << 30},
	{"MiB", 1 << 20},
	{"KiB", 1 << 10},
	{"TB", 1e12},
	{"GB", 1e9},
	{"MB", 1e6},
	{"kB", 1e3},
	{"KB", 1e3},
	{"B", 1},
}

var bitUnits = []struct {
	suffix string
	n      float64
}{{"Tbit", 1e12 / 8}, {"Gbit", 1e9 / 8}, {"Mbit", 1e6 / 8}, {"kbit", 1e3 / 8}, {"bit", 1.0 / 8}}

// parseBytes returns the number that s spells, which may be a fraction of a byte.
func parseBytes(s string) (float64, error) {
	for _, u := range byteUnits {
		if num, ok := strings.CutSuffix(s, u.suffix); ok {
			return number(num, u.n)
		}
	}
	return number(s, 1)
}

func number(s string, unit float64) (float64, error) {
	v, err := strconv.ParseFloat(strings.TrimSpace(s), 64)
	if err != nil || math.IsNaN(v) || math.IsInf(v, 0) || v < 0 {
		return 0, fmt.Errorf("%q is not a number of at least 0 with a known unit", s)
	}
	return v * unit, nil
}

// UnmarshalText reads a size.
func (b *Bytes) UnmarshalText(text []byte) error {
	v, err := parseBytes(string(text))
	if err == nil && v >= 1<<62 {
		err = fmt.Errorf("%q is too large", text)
	}
	*b = Bytes(math.Round(v))
	return err
}

// Bounds of what a scenario may say, so that sums stay within what a number holds. Virtual time ends after 292 years.
const (
	maxRate     = 1e15
	maxDuration = 1000 * time.Hour
)

// UnmarshalText reads a rate.
func (r *Rate) UnmarshalText(text []byte) error {
	err := r.parse(text)
	if err == nil && *r > maxRate {
		err = fmt.Errorf("%q is more than a network carries", text)
	}
	return err
}

func (r *Rate) parse(text []byte) error {
	s, ok := strings.CutSuffix(string(text), "/s")
	if !ok && s != "0" {
		return fmt.Errorf("%q is not a rate: it has no /s", text)
	}
	for _, u := range bitUnits {
		if num, ok := strings.CutSuffix(s, u.suffix); ok {
			v, err := number(num, u.n)
			*r = Rate(v)
			return err
		}
	}
	v, err := parseBytes(s)
	*r = Rate(v)
	return err
}

// UnmarshalText reads a duration.
func (d *Duration) UnmarshalText(text []byte) error {
	v, err := time.ParseDuration(string(text))
	switch {
	case err != nil:
	case v < 0:
		err = fmt.Errorf("%q is negative", text)
	case v > maxDuration:
		err = fmt.Errorf("%q is more than %v", text, maxDuration)
	}
	*d = Duration(v)
	return err
}

// UnmarshalText reads a share.
func (s *Share) UnmarshalText(text []byte) error {
	num, percent := strings.CutSuffix(string(text), "%")
	unit := 1.0
	if percent {
		unit = 0.01
	}
	v, err := number(num, unit)
	if err == nil && v > 1 {
		err = fmt.Errorf("%q is more than the whole", text)
	}
	*s = Share(v)
	return err
}

// String spells the size with the largest decimal unit that keeps it short.
func (b Bytes) String() string {
	for _, u := range []struct {
		suffix string
		n      float64
	}{{"TB", 1e12}, {"GB", 1e9}, {"MB", 1e6}, {"kB", 1e3}} {
		if float64(b) >= u.n {
			return strconv.FormatFloat(float64(b)/u.n, 'g', 4, 64) + " " + u.suffix
		}
	}
	return strconv.FormatInt(int64(b), 10) + " B"
}

func (d Duration) std() time.Duration { return time.Duration(d) }

func (d Duration) seconds() float64 { return time.Duration(d).Seconds() }
