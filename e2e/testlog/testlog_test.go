package testlog

import (
	"bytes"
	"context"
	"io"
	"strings"
	"testing"

	logging "github.com/ipfs/go-log/v2"
)

// test is a test whose output and cleanups can be seen.
type test struct {
	testing.TB
	out      bytes.Buffer
	cleanups []func()
}

func (t *test) Output() io.Writer { return &t.out }

func (t *test) Cleanup(f func()) { t.cleanups = append(t.cleanups, f) }

func (t *test) end() {
	for len(t.cleanups) > 0 {
		last := len(t.cleanups) - 1
		f := t.cleanups[last]
		t.cleanups = t.cleanups[:last]
		f()
	}
}

func (t *test) says(line string) bool { return strings.Contains(t.out.String(), line) }

// A line goes to the test that began last of those that have not ended.
func TestLinesGoToTheTestThatRuns(t *testing.T) {
	To(t)
	log := logging.Logger("meshd/testlog")
	var outer, inner test
	To(&outer)
	log.Errorw("of outer", "peer", 1)
	To(&inner)
	To(&inner)
	log.Errorw("of inner")
	inner.end()
	log.Errorw("of outer again")
	outer.end()
	log.Errorw("of this test")
	if !outer.says("of outer\t{\"peer\": 1}") || !outer.says("of outer again") || outer.says("of inner") || outer.says("of this test") {
		t.Errorf("the outer test got:\n%s", &outer.out)
	}
	if !inner.says("of inner") || inner.says("outer") || inner.says("of this test") {
		t.Errorf("the inner test got:\n%s", &inner.out)
	}
}

// Several goroutines may log and begin tests at once.
func TestLinesOfManyGoroutines(t *testing.T) {
	log := logging.Logger("meshd/testlog")
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan struct{})
	To(t)
	go func() {
		defer close(ended)
		for ctx.Err() == nil {
			log.Errorw("a line")
		}
	}()
	for range 100 {
		var one test
		To(&one)
		one.end()
	}
	stop()
	<-ended
}
