package node

import (
	"fmt"
	"math"
	"strconv"
	"strings"
)

// Bytes is a size. Its text is a number with an optional unit: B, K/KB/KiB, M, G, T; K is 1000 only in KB, MB, GB
// and TB, else 1024.
type Bytes int64

// Rate is bytes a second; 0 means no limit. Its text is that of Bytes, with an optional "/s".
type Rate int64

var byteUnits = []struct {
	suffix string
	n      float64
}{
	{"KiB", 1 << 10},
	{"MiB", 1 << 20},
	{"GiB", 1 << 30},
	{"TiB", 1 << 40},
	{"KB", 1e3},
	{"MB", 1e6},
	{"GB", 1e9},
	{"TB", 1e12},
	{"K", 1 << 10},
	{"M", 1 << 20},
	{"G", 1 << 30},
	{"T", 1 << 40},
	{"B", 1},
	{"", 1},
}

// ParseBytes reads a size such as 50GiB, 1.5G, 500MB or 4096.
func ParseBytes(s string) (Bytes, error) {
	t := strings.TrimSpace(s)
	for _, u := range byteUnits {
		if len(t) < len(u.suffix) || !strings.EqualFold(t[len(t)-len(u.suffix):], u.suffix) {
			continue
		}
		f, err := strconv.ParseFloat(strings.TrimSpace(t[:len(t)-len(u.suffix)]), 64)
		if err != nil || f < 0 || math.IsNaN(f) || f*u.n >= math.MaxInt64 {
			break
		}
		return Bytes(f * u.n), nil
	}
	return 0, fmt.Errorf("%q is not a size such as 50GiB, 500MB or 4096", s)
}

// String gives the shortest exact form: 50GiB, 4096 is 4KiB, 1000 is 1000.
func (b Bytes) String() string {
	for i := 3; i >= 0; i-- {
		if n := int64(byteUnits[i].n); b != 0 && int64(b)%n == 0 {
			return strconv.FormatInt(int64(b)/n, 10) + byteUnits[i].suffix
		}
	}
	return strconv.FormatInt(int64(b), 10)
}

// UnmarshalText implements encoding.TextUnmarshaler by ParseBytes.
func (b *Bytes) UnmarshalText(text []byte) (err error) {
	*b, err = ParseBytes(string(text))
	return err
}

// MarshalText is the inverse of UnmarshalText.
func (b Bytes) MarshalText() ([]byte, error) { return []byte(b.String()), nil }

// String is that of Bytes with "/s", and "0" without a limit.
func (r Rate) String() string {
	if r == 0 {
		return "0"
	}
	return Bytes(r).String() + "/s"
}

// UnmarshalText implements encoding.TextUnmarshaler.
func (r *Rate) UnmarshalText(text []byte) error {
	b, err := ParseBytes(strings.TrimSuffix(strings.TrimSpace(string(text)), "/s"))
	if err != nil {
		return fmt.Errorf("%q is not a rate such as 100MB/s or 20MiB", text)
	}
	*r = Rate(b)
	return nil
}

// MarshalText is the inverse of UnmarshalText.
func (r Rate) MarshalText() ([]byte, error) { return []byte(r.String()), nil }
