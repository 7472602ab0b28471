package testlog

import (
	"io"
	"os"
	"slices"
	"sync"
	"testing"

	logging "github.com/ipfs/go-log/v2"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
)

// sink is where log lines go.
type sink struct {
	mu    sync.Mutex
	tests []io.Writer // the last one takes the lines
}

var (
	lines   sink
	capture = sync.OnceFunc(func() {
		encoder := zapcore.NewConsoleEncoder(zap.NewDevelopmentEncoderConfig())
		logging.SetPrimaryCore(zapcore.NewCore(encoder, &lines, zapcore.DebugLevel)) // each logger has its own level
	})
)

// To sends log lines to t until t and its cleanups end. Of several tests that said so, the last that has not ended gets
// them; without one they go to standard error. It may be called more than once for a test, and from any goroutine; a
// helper does so before the cleanups that end what logs.
func To(t testing.TB) {
	capture()
	w := t.Output()
	lines.mu.Lock()
	defer lines.mu.Unlock()
	lines.tests = append(lines.tests, w)
	t.Cleanup(func() { lines.drop(w) })
}

func (s *sink) drop(w io.Writer) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for i, x := range slices.Backward(s.tests) {
		if x == w {
			s.tests = slices.Delete(s.tests, i, i+1)
			return
		}
	}
}

func (s *sink) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.tests) == 0 {
		return os.Stderr.Write(p)
	}
	return s.tests[len(s.tests)-1].Write(p)
}

// Sync implements zapcore.WriteSyncer.
func (s *sink) Sync() error { return nil }
