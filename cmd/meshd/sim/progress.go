package sim

import (
	"fmt"
	"io"
	"os"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/mattn/go-isatty"

	"github.com/meshd-project/meshd/netsim"
)

// When a bar shows up, how often it is drawn, and how long it is.
const (
	barAfter = time.Second
	barEvery = 200 * time.Millisecond
	barWidth = 30
)

// bar shows on a terminal how far a run is; anywhere else it shows nothing. One goroutine uses it.
type bar struct {
	w     io.Writer // nil: not a terminal
	now   func() time.Time
	label string
	began time.Time
	drawn time.Time
}

func newBar(w io.Writer, now func() time.Time) *bar {
	if f, ok := w.(*os.File); !ok || !isatty.IsTerminal(f.Fd()) {
		w = nil
	}
	return &bar{w: w, now: now}
}

func (b *bar) begin(label string) { b.label, b.began, b.drawn = label, b.now(), time.Time{} }

// show draws the bar if it is time to.
func (b *bar) show(p netsim.Progress) {
	if b.w == nil {
		return
	}
	now := b.now()
	if now.Sub(b.began) < barAfter || now.Sub(b.drawn) < barEvery {
		return
	}
	b.drawn = now
	done := 0.0
	if p.Total > 0 {
		done = min(float64(p.Pieces)/float64(p.Total), 1)
	}
	full := int(done * barWidth)
	fmt.Fprintf(b.w, "\r\x1b[K%s [%s%s] %3.0f %%  %.1f s simulated, %d hosts to go", shorten(b.label, 40),
		strings.Repeat("#", full), strings.Repeat(" ", barWidth-full), 100*done, p.Virtual.Seconds(), p.Open)
}

// end takes the bar away.
func (b *bar) end() {
	if b.w != nil && !b.drawn.IsZero() {
		fmt.Fprint(b.w, "\r\x1b[K")
	}
}

func shorten(s string, n int) string {
	if utf8.RuneCountInString(s) <= n {
		return s
	}
	return string([]rune(s)[:n-1]) + "…"
}
