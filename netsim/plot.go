package netsim

import (
	"fmt"
	"image/color"
	"maps"
	"math"
	"os"
	"path/filepath"
	"slices"

	"gonum.org/v1/plot"
	"gonum.org/v1/plot/plotter"
	"gonum.org/v1/plot/vg"
	"gonum.org/v1/plot/vg/draw"
	"gonum.org/v1/plot/vg/vgimg"
)

// Plot draws the result into a directory: completion.png, sources.png, links.png. The directory is made if it is missing.
func (r *Result) Plot(dir string) error { return Plot(dir, r) }

// Plot draws several results into one directory: the completion curves of all in one picture, for each result the bytes by
// source over time and the load of the shared links.
func Plot(dir string, results ...*Result) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return fmt.Errorf("plot: %w", err)
	}
	if err := plotCompletion(filepath.Join(dir, "completion.png"), results); err != nil {
		return err
	}
	for _, r := range results {
		suffix := ".png"
		if len(results) > 1 {
			suffix = "-" + r.System + ".png"
		}
		if err := plotSources(filepath.Join(dir, "sources"+suffix), r); err != nil {
			return err
		}
		if err := plotLinks(filepath.Join(dir, "links"+suffix), r); err != nil {
			return err
		}
	}
	return nil
}

// ink is a palette that stays apart in grey and for the colour-blind (Okabe and Ito 2008).
var ink = []color.RGBA{
	{0, 114, 178, 255},
	{213, 94, 0, 255},
	{0, 158, 115, 255},
	{204, 121, 167, 255},
	{230, 159, 0, 255},
	{86, 180, 233, 255},
	{0, 0, 0, 255},
	{240, 228, 66, 255},
}

// dashes tell lines apart once the colours are used up.
var dashes = [][]vg.Length{nil, {vg.Points(6), vg.Points(3)}, {vg.Points(2), vg.Points(2)}}

func newPlot(title, x, y string) *plot.Plot {
	p := plot.New()
	p.Title.Text, p.X.Label.Text, p.Y.Label.Text = title, x, y
	p.X.Min, p.Y.Min = 0, 0
	p.Legend.Top, p.Legend.Left = true, true
	p.Add(plotter.NewGrid())
	return p
}

func addLine(p *plot.Plot, i int, name string, points plotter.XYs) error {
	if len(points) == 0 {
		return nil
	}
	line, err := plotter.NewLine(points)
	if err != nil {
		return fmt.Errorf("plot %s: %w", name, err)
	}
	line.Color, line.Width = ink[i%len(ink)], vg.Points(1.5)
	line.Dashes = dashes[i/len(ink)%len(dashes)]
	p.Add(line)
	p.Legend.Add(name, line)
	return nil
}

func save(p *plot.Plot, file string) error {
	c := vgimg.NewWith(vgimg.UseWH(9*vg.Inch, 5*vg.Inch), vgimg.UseDPI(110))
	p.Draw(draw.New(c))
	f, err := os.Create(file)
	if err != nil {
		return fmt.Errorf("plot: %w", err)
	}
	_, err = vgimg.PngCanvas{Canvas: c}.WriteTo(f)
	if cerr := f.Close(); err == nil {
		err = cerr
	}
	if err != nil {
		return fmt.Errorf("plot %s: %w", file, err)
	}
	return nil
}

// A picture in which the last host takes more than farApart bounds has a logarithmic axis, which begins at least
// seconds at the earliest.
const (
	farApart = 8
	least    = 1e-3
)

// plotCompletion draws which share of the hosts had finished when, and the bound.
func plotCompletion(file string, results []*Result) error {
	p := newPlot(results[0].Scenario+": hosts that are done", "seconds since the host's arrival", "share of the hosts")
	p.Y.Max = 1.02
	p.Legend.Top, p.Legend.Left = false, false
	p.X.Min = math.Inf(1)
	b := results[0].BoundS
	for i, r := range results {
		var points plotter.XYs
		n := float64(r.Completed + r.Failed)
		for k, t := range r.Curve {
			t = max(t, least)
			points = append(points, plotter.XY{X: t, Y: float64(k) / n}, plotter.XY{X: t, Y: float64(k+1) / n})
		}
		if err := addLine(p, i, r.System, points); err != nil {
			return err
		}
	}
	first := p.X.Min
	p.X.Min, p.X.Max = 0, max(p.X.Max, b)
	if p.X.Max > farApart*b && b > least { // else what is near the bound would be one line
		p.X.Scale, p.X.Tick.Marker = plot.LogScale{}, plot.LogTicks{Prec: -1}
		p.X.Min = max(min(first, b)/2, least)
		p.X.Max *= 2
	}
	p.X.Max *= 1.3 // room for the legend
	return errorsFirst(addLine(p, len(ink)-2, "fluid bound", plotter.XYs{{X: b, Y: 0}, {X: b, Y: 1}}), func() error { return save(p, file) })
}

func errorsFirst(err error, then func() error) error {
	if err != nil {
		return err
	}
	return then()
}

func plotSources(file string, r *Result) error {
	p := newPlot(r.Scenario+", "+r.System+": bytes by source", "seconds", "MB/s")
	return drawSeries(p, file, r.Series)
}

func plotLinks(file string, r *Result) error {
	p := newPlot(r.Scenario+", "+r.System+": load of the shared links", "seconds", "MB/s")
	return drawSeries(p, file, r.Pipes)
}

// maxLines bounds the lines of one picture: those with the most bytes.
const maxLines = 16

func drawSeries(p *plot.Plot, file string, series map[string][]float64) error {
	names := slices.Sorted(maps.Keys(series))
	total := func(name string) (sum float64) {
		for _, v := range series[name] {
			sum += v
		}
		return sum
	}
	if len(names) > maxLines {
		slices.SortStableFunc(names, func(a, b string) int { return int(min(max(total(b)-total(a), -1), 1)) })
		names = names[:maxLines]
		slices.Sort(names)
	}
	for i, name := range names {
		points := plotter.XYs{}
		for k, v := range series[name] {
			points = append(points, plotter.XY{X: (float64(k) + 0.5) * BinS, Y: v / 1e6})
		}
		if err := addLine(p, i, name, points); err != nil {
			return err
		}
	}
	p.Y.Max *= 1.4 // room for the legend
	return save(p, file)
}
