package get

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"time"
	"unicode/utf8"

	"github.com/mattn/go-isatty"
	"github.com/vbauerster/mpb/v8"
	"github.com/vbauerster/mpb/v8/decor"
	"golang.org/x/sys/unix"

	"github.com/meshd-project/meshd/mirror/gateway"
)

// NewProgress returns what shows a file coming: events if they are wanted, a bar on a terminal, elsewhere nothing but a line if
// nothing comes for long.
func NewProgress(w io.Writer, events bool, name string) Progress {
	f, ok := w.(*os.File)
	switch {
	case events:
		return &eventLines{enc: json.NewEncoder(w), name: name, began: time.Now(), size: -1}
	case ok && isatty.IsTerminal(f.Fd()):
		return &bar{name: name, out: f, all: mpb.New(mpb.WithOutput(f), mpb.WithWidth(40))}
	}
	return &silent{name: name, out: w}
}

// silence is how long nothing has to come for a word about it where there is no terminal.
const silence = 10 * time.Second

type silent struct {
	name string
	out  io.Writer
	said bool
}

func (s *silent) Wait(w *Wait) {
	if w != nil && w.For >= silence && !s.said {
		s.said = true
		fmt.Fprintf(s.out, "meshd: %s: %v\n", s.name, w)
	}
}

func (*silent) Start(string, int64, int64) {}
func (*silent) Add(int)                    {}
func (*silent) Done(error)                 {}

// bar draws on a terminal.
type bar struct {
	name string
	out  *os.File
	all  *mpb.Progress
	bar  *mpb.Bar
}

// Wait writes one line over and over, until there is a bar.
func (b *bar) Wait(w *Wait) {
	if b.bar != nil {
		return
	}
	line := ""
	if w != nil {
		line = waitLine(b.name, w, columns(b.out))
	}
	fmt.Fprintf(b.out, "\r\x1b[K%s", line)
}

// columns is how wide a terminal is.
func columns(f *os.File) int {
	size, err := unix.IoctlGetWinsize(int(f.Fd()), unix.TIOCGWINSZ)
	if err != nil || size.Col == 0 {
		return 80
	}
	return int(size.Col)
}

// waitLine is a line of less than so many columns: the name gives way first, from its start.
func waitLine(name string, w *Wait, columns int) string {
	shown, rest := []rune(name), ": "+w.String()
	if most := max(columns-1-utf8.RuneCountInString(rest), 10); len(shown) > most {
		shown = append([]rune{'…'}, shown[len(shown)-most+1:]...)
	}
	line := append(shown, []rune(rest)...)
	return string(line[:min(len(line), max(columns-1, 0))])
}

func (b *bar) Start(_ string, have, size int64) {
	if b.bar != nil {
		b.bar.SetTotal(max(size, 0), false)
		b.bar.SetCurrent(have)
		return
	}
	b.bar = b.all.AddBar(max(size, 0),
		mpb.PrependDecorators(decor.Name(b.name+" "), decor.CountersKibiByte("% .1f / % .1f")),
		mpb.AppendDecorators(decor.Percentage(), decor.Name("  "), decor.AverageSpeed(decor.SizeB1024(0), "% .1f"),
			decor.Name("  left "), decor.AverageETA(decor.ET_STYLE_GO)))
	b.bar.SetRefill(have)
	b.bar.SetCurrent(have)
	b.bar.DecoratorAverageAdjust(time.Now())
}

func (b *bar) Add(n int) { b.bar.IncrBy(n) }

func (b *bar) Done(error) {
	if b.bar != nil {
		b.bar.Abort(false) // as it stands, full or not
	}
	b.all.Wait()
}

// eventEvery is the time between two progress events.
const eventEvery = time.Second

// Event is a line of --json.
type Event struct {
	Event   string  `json:"event"` // wait, start, progress, done, error
	File    string  `json:"file"`
	From    string  `json:"from,omitempty"`  // wait, start
	Done    int64   `json:"done"`            // bytes that are here
	Size    int64   `json:"size"`            // bytes; -1 if unknown
	Seconds float64 `json:"seconds"`         // since the beginning
	Rate    float64 `json:"rate,omitempty"`  // bytes a second that came, since the beginning
	Error   string  `json:"error,omitempty"` // error
	Code    int     `json:"exit_code,omitempty"`
	// Node is what the node says while no byte comes: wait.
	Node *gateway.Waiting `json:"node,omitempty"`
}

// eventLines writes a JSON object a line.
type eventLines struct {
	enc   *json.Encoder
	name  string
	began time.Time
	told  time.Time
	done  int64
	came  int64
	size  int64
}

func (e *eventLines) emit(kind string, more func(*Event)) {
	now := time.Now()
	ev := Event{Event: kind, File: e.name, Done: e.done, Size: e.size, Seconds: now.Sub(e.began).Seconds()}
	if s := ev.Seconds; s > 0 {
		ev.Rate = float64(e.came) / s
	}
	if more != nil {
		more(&ev)
	}
	e.told = now
	_ = e.enc.Encode(ev) // whoever reads events has gone, the file has not
}

func (e *eventLines) Wait(w *Wait) {
	if w == nil {
		return
	}
	e.emit("wait", func(ev *Event) {
		ev.From = w.From
		if w.Node != (gateway.Waiting{}) {
			ev.Node = &w.Node
		}
	})
}

func (e *eventLines) Start(from string, have, size int64) {
	e.done, e.size = have, size
	e.emit("start", func(ev *Event) { ev.From = from })
}

func (e *eventLines) Add(n int) {
	e.done += int64(n)
	e.came += int64(n)
	if time.Since(e.told) >= eventEvery {
		e.emit("progress", nil)
	}
}

func (e *eventLines) Done(err error) {
	if err == nil {
		e.size = e.done
		e.emit("done", nil)
		return
	}
	e.emit("error", func(ev *Event) {
		ev.Error, ev.Code = err.Error(), 1
		var coded *Error
		if errors.As(err, &coded) {
			ev.Code = coded.Code
		}
	})
}
