package demo

import (
	"fmt"
	"io"
	"os"
	"sync/atomic"

	"github.com/mattn/go-isatty"
	"github.com/vbauerster/mpb/v8"
	"github.com/vbauerster/mpb/v8/decor"
)

// progress shows how far the pulls are, all together. add may be called concurrently.
type progress interface {
	add(n int)
	done()
}

// newProgress draws a bar on a terminal and writes a line per quarter elsewhere.
func newProgress(w io.Writer, total int64) progress {
	f, ok := w.(*os.File)
	if !ok || !isatty.IsTerminal(f.Fd()) {
		return &progressLines{w: w, total: total}
	}
	all := mpb.New(mpb.WithOutput(f), mpb.WithWidth(50))
	bar := all.AddBar(total,
		mpb.PrependDecorators(decor.Name("pulling "), decor.CountersKibiByte("% .1f / % .1f")),
		mpb.AppendDecorators(decor.Percentage(), decor.Name("  "), decor.AverageSpeed(decor.SizeB1024(0), "% .0f")))
	return &progressBar{all: all, bar: bar}
}

type progressBar struct {
	all *mpb.Progress
	bar *mpb.Bar
}

func (p *progressBar) add(n int) { p.bar.IncrBy(n) }

// done leaves the bar as it stands, full or not.
func (p *progressBar) done() {
	p.bar.Abort(false)
	p.all.Wait()
}

type progressLines struct {
	w     io.Writer
	total int64
	sum   atomic.Int64
}

func (p *progressLines) add(n int) {
	now := p.sum.Add(int64(n))
	if quarter := now * 4 / p.total; quarter != (now-int64(n))*4/p.total {
		fmt.Fprintf(p.w, "pulled %d %%\n", quarter*25)
	}
}

func (p *progressLines) done() {}
