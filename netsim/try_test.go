package netsim

import (
	"context"
	"fmt"
	"os"
	"runtime/pprof"
	"strings"
	"testing"
)

func TestCmp(t *testing.T) {
	files := os.Getenv("SCENARIOS")
	if files == "" {
		t.Skip()
	}
	var rs []*Result
	if p := os.Getenv("PROF"); p != "" {
		f, _ := os.Create(p)
		pprof.StartCPUProfile(f)
		defer func() { pprof.StopCPUProfile(); f.Close() }()
	}
	for _, file := range strings.Fields(files) {
		runs, err := Expand(file)
		if err != nil {
			t.Fatal(err)
		}
		for _, s := range runs {
			r, err := s.Run(context.Background(), Options{System: os.Getenv("SYSTEM")})
			if err != nil {
				fmt.Println(err)
			}
			if r != nil {
				rs = append(rs, r)
				if os.Getenv("V") != "" {
					r.JSON(os.Stdout)
					for _, n := range []string{"origin", "zone", "other_zone"} {
						fmt.Print(n)
						for _, v := range r.Series[n] {
							fmt.Printf(" %.0f", v/1e6)
						}
						fmt.Println()
					}
				}
			}
		}
	}
	WriteTable(os.Stdout, rs...)
	if d := os.Getenv("PLOT"); d != "" {
		if err := Plot(d, rs...); err != nil {
			t.Fatal(err)
		}
	}
}
