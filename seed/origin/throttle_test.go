package origin

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"testing"
	"testing/synctest"
	"time"
)

// A 429 is remembered: however many clients come, the registry is asked once in the time that it asked for, and only what
// it counts together is held back.
func TestThrottleIsRemembered(t *testing.T) {
	for retryAfter, left := range map[string]time.Duration{"30": 30 * time.Second, "": minThrottle, "3600": maxThrottle} {
		synctest.Test(t, func(t *testing.T) {
			f := newFabric(t)
			asked := map[string]int{}
			f.serve("http://reg.test", "10.0.0.1", func(w http.ResponseWriter, r *http.Request) {
				asked[r.Method+r.URL.Path+r.Header.Get("Authorization")]++
				if retryAfter != "" {
					w.Header().Set("Retry-After", retryAfter)
				}
				if r.Method == "GET" && r.URL.Path != "/v2/team/app/tags/list" && r.Header.Get("Authorization") == "" {
					ociError(w, http.StatusTooManyRequests, "TOOMANYREQUESTS")
				}
			})
			c := f.client(plain())
			ask := func(method, path, auth string) error {
				resp, err := c.Do(context.Background(), Request{Ref: testRef, Method: method, Path: path, Authorization: auth})
				if err == nil {
					resp.Body.Close()
				}
				return err
			}
			for i := range 20 {
				err := ask("GET", fmt.Sprint("manifests/v", i), "")
				var e *Error
				if !errors.Is(err, ErrThrottled) || !errors.As(err, &e) || len(e.Codes) != 1 || i > 0 && (e.RetryAfter <= 0 || e.RetryAfter > left) {
					t.Fatalf("%v", err)
				}
			}
			for _, row := range [][3]string{{"HEAD", "manifests/v0", ""}, {"GET", "tags/list", ""}, {"GET", "manifests/v0", "Bearer mine"}} {
				if err := ask(row[0], row[1], row[2]); err != nil {
					t.Errorf("%v: %v", row, err)
				}
			}
			first := asked["GET/v2/team/app/manifests/v0"]
			time.Sleep(left - time.Millisecond)
			_ = ask("GET", "manifests/v0", "")
			if n := asked["GET/v2/team/app/manifests/v0"]; n != first || len(asked) != 4 {
				t.Errorf("Retry-After %q: asked %v", retryAfter, asked)
			}
			time.Sleep(time.Millisecond)
			_ = ask("GET", "manifests/v0", "")
			if n := asked["GET/v2/team/app/manifests/v0"]; n != first+1 {
				t.Errorf("Retry-After %q: not asked again when its time was over", retryAfter)
			}
			if len(c.throttles.all) > 2 {
				t.Errorf("%d remembered", len(c.throttles.all))
			}
			c.Close()
		})
	}
}
