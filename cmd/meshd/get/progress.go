package get

import (
	"encoding/json"
	"errors"
	"io"
	"os"
	"time"

	"github.com/mattn/go-isatty"
	"github.com/vbauerster/mpb/v8"
	"github.com/vbauerster/mpb/v8/decor"
)

// NewProgress returns what shows a file coming: events if they are wanted, a bar on a terminal, nothing elsewhere.
func NewProgress(w io.Writer, events bool, name string) Progress {
	f, ok := w.(*os.File)
	switch {
	case events:
		return &eventLines{enc: json.NewEncoder(w), name: name, began: time.Now()}
	case ok && isatty.IsTerminal(f.Fd()):
		return &bar{name: name, all: mpb.New(mpb.WithOutput(f), mpb.WithWidth(40))}
	}
	return silent{}
}

type silent struct{}

func (silent) Start(string, int64, int64) {}
func (silent) Add(int)                    {}
func (silent) Done(error)                 {}

// bar draws on a terminal.
type bar struct {
	name string
	all  *mpb.Progress
	bar  *mpb.Bar
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
	Event   string  `json:"event"` // start, progress, done, error
	File    string  `json:"file"`
	From    string  `json:"from,omitempty"`  // start
	Done    int64   `json:"done"`            // bytes that are here
	Size    int64   `json:"size"`            // bytes; -1 if unknown
	Seconds float64 `json:"seconds"`         // since the beginning
	Rate    float64 `json:"rate,omitempty"`  // bytes a second that came, since the beginning
	Error   string  `json:"error,omitempty"` // error
	Code    int     `json:"exit_code,omitempty"`
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
