package get

import (
	"cmp"
	"context"
	"fmt"
	"net/http"
	"net/http/httptrace"
	"net/textproto"
	"sync"
	"time"

	"github.com/vbauerster/mpb/v8/decor"

	"github.com/meshd-project/meshd/mirror/gateway"
)

// waitEvery is the time between two words about a wait.
const waitEvery = time.Second

// Wait is what is known while no byte of a file comes.
type Wait struct {
	For  time.Duration   // since the file was asked for
	From string          // who is asked
	Node gateway.Waiting // what the node says; zero if it does not
}

// String says it to people, in no more than a line of a terminal has beside a name.
func (w Wait) String() string {
	what := "waiting for " + w.From
	switch n := w.Node; {
	case n.Reader == gateway.Here:
		what = "this node reads all of it, " + sizeText(n.Read) + " so far"
	case n.Reader != "":
		what = cmp.Or(n.Address, "peer …"+n.Reader[max(len(n.Reader)-8, 0):]) + " reads all of it"
	case n.Read > 0:
		what = sizeText(n.Read) + " are at the node"
	}
	return fmt.Sprintf("no byte after %v: %s", w.For.Truncate(time.Second), what)
}

func sizeText(n int64) string { return fmt.Sprintf("% .1f", decor.SizeB1024(n)) }

// watch has a Progress told of a wait, once a second.
type watch struct {
	began time.Time

	mu   sync.Mutex
	from Source
	node gateway.Waiting
}

// asking notes who is asked now.
func (w *watch) asking(src Source) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.from, w.node = src, gateway.Waiting{}
}

// told notes what the node says.
func (w *watch) told(node gateway.Waiting) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.node = node
}

func (w *watch) now() *Wait {
	w.mu.Lock()
	defer w.mu.Unlock()
	return &Wait{For: time.Since(w.began), From: w.from.String(), Node: w.node}
}

// start tells see until stop is called, which tells it that the wait is over if it knew of one.
func (w *watch) start(see Progress) (stop func()) {
	quit := make(chan struct{})
	var done sync.WaitGroup
	done.Go(func() {
		tick := time.NewTicker(waitEvery)
		defer tick.Stop()
		for told := false; ; told = true {
			select {
			case <-tick.C:
				see.Wait(w.now())
			case <-quit:
				if told {
					see.Wait(nil)
				}
				return
			}
		}
	})
	return func() {
		close(quit)
		done.Wait()
	}
}

// waiting has f.Waiting told what a node says of a file while no byte of it comes.
func waiting(ctx context.Context, f File) context.Context {
	if f.Waiting == nil {
		return ctx
	}
	return httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{Got1xxResponse: func(code int, h textproto.MIMEHeader) error {
		if w, ok := gateway.ParseWaiting(h.Get(gateway.WaitHeader)); ok && code == http.StatusProcessing {
			f.Waiting(w)
		}
		return nil
	}})
}
