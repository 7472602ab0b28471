package main

import (
	"fmt"
	"io"

	"github.com/vbauerster/mpb/v8"
	"github.com/vbauerster/mpb/v8/decor"

	"github.com/meshd-project/meshd/node"
)

// maxBars bounds the bars on a screen; what is beyond shows in the sum of its job.
const maxBars = 40

// preheatBars shows how far each layer is in each zone. A nil one shows nothing.
type preheatBars struct {
	all  *mpb.Progress
	bars map[string]*mpb.Bar
}

// newPreheatBars draws until end. The end of a context must not end it: a bar that is added afterwards panics.
func newPreheatBars(w io.Writer) *preheatBars {
	return &preheatBars{all: mpb.New(mpb.WithOutput(w), mpb.WithWidth(40)), bars: map[string]*mpb.Bar{}}
}

// show brings the bars of a job up to date.
func (b *preheatBars) show(j node.PreheatJob) {
	if b == nil {
		return
	}
	if len(j.Layers) > 0 {
		b.set(j.Image, j.Total, j.Bytes)
	}
	for _, z := range j.Zones {
		for i, l := range j.Layers {
			hex := l.Digest.Encoded()
			b.set(fmt.Sprintf("  %s %s", z.Zone, hex[:min(12, len(hex))]), max(l.Size, 0)*int64(z.Nodes), z.Layers[i])
		}
	}
}

func (b *preheatBars) set(name string, total, now int64) {
	bar := b.bars[name]
	if bar == nil && len(b.bars) < maxBars {
		bar = b.all.AddBar(total,
			mpb.PrependDecorators(decor.Name(name, decor.WCSyncSpaceR), decor.CountersKibiByte("% .1f / % .1f", decor.WCSyncSpace)),
			mpb.AppendDecorators(decor.Percentage(decor.WC{W: 5})))
		b.bars[name] = bar
	}
	if bar != nil {
		bar.SetCurrent(now)
	}
}

// end leaves the bars as they stand.
func (b *preheatBars) end() {
	if b == nil {
		return
	}
	for _, bar := range b.bars {
		bar.Abort(false)
	}
	b.all.Wait()
}
