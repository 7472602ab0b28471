package netsim

import (
	"fmt"
	"reflect"
	"slices"
	"strconv"
	"time"

	"github.com/meshd-project/meshd/exchange/swarm"
)

// override sets a field of the policy's configuration by its name in snake case. Sizes and durations may have their
// units.
func override(cfg *swarm.Config, name, value string) error {
	v := reflect.ValueOf(cfg).Elem()
	names := fieldNames(v.Type())
	for i := range names {
		if slices.Contains([]string{"self", "zone", "seed"}, names[i]) {
			names[i] = "-"
		}
	}
	i := slices.Index(names, name)
	if i < 0 || name == "-" {
		return fmt.Errorf("unknown field; known are %s", known(names))
	}
	f := v.Field(i)
	var err error
	switch {
	case f.Type() == reflect.TypeFor[time.Duration]():
		var d time.Duration
		if d, err = time.ParseDuration(value); err == nil {
			f.SetInt(int64(d))
		}
	case f.CanInt():
		var b Bytes
		if err = b.UnmarshalText([]byte(value)); err == nil {
			f.SetInt(int64(b))
		}
	case f.CanFloat():
		var x float64
		if x, err = strconv.ParseFloat(value, 64); err == nil {
			f.SetFloat(x)
		}
	case f.Kind() == reflect.Bool:
		var on bool
		if on, err = strconv.ParseBool(value); err == nil {
			f.SetBool(on)
		}
	default:
		err = fmt.Errorf("cannot be set")
	}
	return err
}
