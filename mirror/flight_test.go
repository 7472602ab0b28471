package mirror

import (
	"context"
	"errors"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

func TestFlightsShare(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFlights[int](time.Second, make(chan struct{}, 1))
		defer f.close()
		var runs, shares atomic.Int32
		release := make(chan struct{})
		for range 50 {
			go func() {
				v, shared, err := f.do(context.Background(), hash{1}, func(context.Context) (int, error) {
					runs.Add(1)
					<-release
					return 42, nil
				})
				if v != 42 || err != nil {
					t.Errorf("got %d, %v", v, err)
				}
				if shared {
					shares.Add(1)
				}
			}()
		}
		synctest.Wait()
		close(release)
		synctest.Wait()
		if runs.Load() != 1 || shares.Load() != 49 {
			t.Fatalf("%d runs, %d shares", runs.Load(), shares.Load())
		}
	})
}

func TestFlightsOutliveTheirStarter(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFlights[int](time.Minute, make(chan struct{}, 1))
		defer f.close()
		fn := func(ctx context.Context) (int, error) {
			select {
			case <-time.After(10 * time.Second):
				return 7, nil
			case <-ctx.Done():
				return 0, ctx.Err()
			}
		}
		impatient, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		errs := make(chan error, 2)
		go func() {
			_, _, err := f.do(impatient, hash{}, fn)
			errs <- err
		}()
		synctest.Wait()
		go func() {
			v, shared, err := f.do(t.Context(), hash{}, fn)
			if v != 7 || !shared {
				t.Errorf("second caller got %d, shared %v", v, shared)
			}
			errs <- err
		}()
		if err := <-errs; !errors.Is(err, context.DeadlineExceeded) {
			t.Fatalf("first caller: %v", err)
		}
		if err := <-errs; err != nil {
			t.Fatalf("second caller: %v", err)
		}
	})
}

func TestFlightsEndWithTheirLastCaller(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFlights[int](time.Hour, make(chan struct{}, 1))
		defer f.close()
		var ended atomic.Bool
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		_, _, err := f.do(ctx, hash{}, func(ctx context.Context) (int, error) {
			<-ctx.Done()
			ended.Store(true)
			return 0, ctx.Err()
		})
		synctest.Wait()
		if !errors.Is(err, context.DeadlineExceeded) || !ended.Load() {
			t.Fatalf("error %v, ended %v", err, ended.Load())
		}
		// The next caller does not join what was cancelled.
		v, shared, err := f.do(t.Context(), hash{}, func(context.Context) (int, error) { return 3, nil })
		if v != 3 || shared || err != nil {
			t.Fatalf("got %d, %v, %v", v, shared, err)
		}
	})
}

func TestFlightsAreBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFlights[int](time.Minute, make(chan struct{}, 3))
		defer f.close()
		var running, most atomic.Int32
		for i := range 30 {
			go func() {
				_, _, _ = f.do(t.Context(), hash{byte(i)}, func(context.Context) (int, error) {
					if n := running.Add(1); n > most.Load() {
						most.Store(n)
					}
					time.Sleep(time.Second)
					running.Add(-1)
					return 0, nil
				})
			}()
		}
		time.Sleep(20 * time.Second)
		if most.Load() != 3 {
			t.Fatalf("%d at once, bound is 3", most.Load())
		}
	})
}

func TestFlightsTimeOutAndClose(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFlights[int](5*time.Second, make(chan struct{}, 1))
		hang := func(ctx context.Context) (int, error) { <-ctx.Done(); return 0, ctx.Err() }
		start := time.Now()
		if _, _, err := f.do(t.Context(), hash{}, hang); !errors.Is(err, context.DeadlineExceeded) || time.Since(start) != 5*time.Second {
			t.Fatalf("%v after %v", err, time.Since(start))
		}
		done := make(chan error, 1)
		go func() {
			_, _, err := f.do(t.Context(), hash{}, hang)
			done <- err
		}()
		synctest.Wait()
		f.close()
		if err := <-done; !errors.Is(err, context.Canceled) {
			t.Fatalf("caller of a closed group: %v", err)
		}
		if _, _, err := f.do(t.Context(), hash{}, hang); !errors.Is(err, ErrDraining) {
			t.Fatalf("after close: %v", err)
		}
	})
}
