package origin

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// guarded is a registry that wants tokens, with the server that issues them at auth.test.
type guarded struct {
	f         *fabric
	realm     string
	tokenTime time.Duration // how long the token server takes
	expiresIn int
	answer    http.HandlerFunc // instead of a token

	mu       sync.Mutex
	issued   int
	valid    map[string]bool
	requests []string // at the token server: "SCOPE AUTHORIZATION"
	refused  int      // 401s of the registry
}

func newGuarded(f *fabric) *guarded {
	g := &guarded{f: f, realm: "http://auth.test/token?x=1", expiresIn: 300, valid: make(map[string]bool)}
	f.serve("http://reg.test", "10.0.0.1", g.registry)
	f.serve("http://auth.test", "10.0.0.2", g.tokens)
	return g
}

func (g *guarded) registry(w http.ResponseWriter, r *http.Request) {
	g.mu.Lock()
	ok := g.valid[strings.TrimPrefix(r.Header.Get("Authorization"), "Bearer ")]
	if !ok {
		g.refused++
	}
	g.mu.Unlock()
	if !ok {
		repository, _, _ := strings.Cut(strings.TrimPrefix(r.URL.Path, "/v2/"), "/blobs/")
		w.Header().Set("WWW-Authenticate", fmt.Sprintf(`Bearer realm=%q,service="reg.test",scope="repository:%s:pull"`, g.realm, repository))
		ociError(w, http.StatusUnauthorized, "UNAUTHORIZED")
		return
	}
	serveBlob(w, r)
}

func (g *guarded) tokens(w http.ResponseWriter, r *http.Request) {
	g.mu.Lock()
	g.requests = append(g.requests, strings.TrimSpace(r.URL.Query().Get("scope")+" "+r.Header.Get("Authorization")))
	g.issued++
	token := fmt.Sprintf("token-%d", g.issued)
	g.mu.Unlock()
	if g.tokenTime > 0 {
		select {
		case <-time.After(g.tokenTime):
		case <-r.Context().Done():
			return
		}
	}
	if g.answer != nil {
		g.answer(w, r)
		return
	}
	if r.URL.Query().Get("x") != "1" || r.URL.Query().Get("service") != "reg.test" {
		http.Error(w, "bad query", http.StatusTeapot)
		return
	}
	g.mu.Lock()
	g.valid[token] = true
	g.mu.Unlock()
	fmt.Fprintf(w, `{"token":%q,"expires_in":%d}`, token, g.expiresIn)
}

func (g *guarded) counts() (tokens, refused int) {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.issued, g.refused
}

func pull(c *Client, authorization string) error {
	r := wholeBlob()
	r.Authorization = authorization
	b, err := c.Blob(context.Background(), r)
	if err != nil {
		return err
	}
	defer b.Close()
	_, err = io.Copy(io.Discard, b)
	return err
}

func TestTokens(t *testing.T) {
	const scope = "repository:team/app:pull"
	for _, tt := range []struct {
		name          string
		authorization string
		want          error
		requests      string // at the token server
	}{
		{"anonymous", "", nil, scope},
		{"basic", basicAuth, nil, scope + " " + basicAuth},
		{"scheme in lower case", "basic dXNlcjpnZWhlaW0=", nil, scope + " basic dXNlcjpnZWhlaW0="},
		{"empty basic is anonymous", "Basic Og==", nil, scope},
		{"own token", "Bearer mine", ErrUnauthorized, ""},
		{"own scheme", "Negotiate abc", ErrUnauthorized, ""},
		{"header injection", "Basic x\r\nX: y", ErrReference, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			f := newFabric(t)
			g := newGuarded(f)
			c := f.client(plain())
			for range 3 {
				if err := pull(c, tt.authorization); !errors.Is(err, tt.want) {
					t.Fatalf("got %v, want %v", err, tt.want)
				}
			}
			if got := strings.Join(g.requests, "|"); got != tt.requests {
				t.Errorf("token server saw %q, want %q", got, tt.requests)
			}
			if _, refused := g.counts(); tt.want == nil && refused != 1 {
				t.Errorf("challenged %d times for three requests", refused)
			}
		})
	}
}

// Tokens belong to the credentials they were given for.
func TestTokensAreNotSharedBetweenCredentials(t *testing.T) {
	f := newFabric(t)
	g := newGuarded(f)
	c := f.client(plain())
	for range 2 {
		for _, a := range []string{"", basicAuth, "Basic b3RoZXI6Z2VoZWlt"} {
			if err := pull(c, a); err != nil {
				t.Fatal(err)
			}
		}
	}
	if tokens, _ := g.counts(); tokens != 3 {
		t.Errorf("%d tokens for three credentials", tokens)
	}
}

func TestRefusalKeepsTheRegistrysChallenge(t *testing.T) {
	for _, tt := range []struct {
		name   string
		answer http.HandlerFunc
		realm  string
		is     error
		isNot  error
		status int // to the client
	}{
		{name: "token server says 401", answer: func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(401) }, is: ErrUnauthorized, status: 401},
		{name: "token server says 403", answer: func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(403) }, is: ErrUnauthorized, status: 401},
		{name: "token server says 400", answer: func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(400) }, is: ErrUnauthorized, status: 401},
		{name: "token is worth nothing", answer: func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, `{"token":"bad"}`) }, is: ErrUnauthorized, status: 401},
		{name: "token server broken", answer: func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(500) }, is: ErrUnreachable, isNot: ErrUnauthorized, status: 502},
		{name: "token server throttles", answer: func(w http.ResponseWriter, _ *http.Request) { w.Header().Set("Retry-After", "60"); w.WriteHeader(429) }, is: ErrThrottled, isNot: ErrUnauthorized, status: 429},
		{name: "no JSON", answer: func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, `<html>geheim`) }, is: ErrInvalid, isNot: ErrUnauthorized, status: 502},
		{name: "no token", answer: func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, `{"geheim":1}`) }, is: ErrInvalid, status: 502},
		{name: "token with a line feed", answer: func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, `{"token":"geheim\r\nX: y"}`) }, is: ErrInvalid, status: 502},
		{name: "endless token", answer: func(w http.ResponseWriter, _ *http.Request) {
			_, _ = io.WriteString(w, `{"token":"`+strings.Repeat("x", 1<<20)+`"}`)
		}, is: ErrInvalid, status: 502},
		{name: "realm in the clear", realm: "http://auth.test/token", is: ErrRefused, status: 502},
		{name: "realm in the clear at the registry", realm: "http://reg.test/token", is: ErrRefused, status: 502},
		{name: "realm on loopback", realm: "https://127.0.0.1/token", is: ErrRefused, status: 502},
		{name: "realm with password", realm: "https://u:geheim@auth.test/token", is: ErrRefused, status: 502},
		{name: "realm is no URL", realm: "https://%zz/geheim", is: ErrRefused, status: 502},
		{name: "realm nowhere", realm: "https://nowhere.test/token", is: ErrUnreachable, isNot: ErrUnauthorized, status: 502},
	} {
		t.Run(tt.name, func(t *testing.T) {
			f := newFabric(t)
			g := newGuarded(f)
			g.answer = tt.answer
			cfg := plain()
			if tt.realm != "" {
				g.realm = tt.realm
				f.serve("https://reg.test", "10.0.0.1", g.registry)
				cfg.Registries["reg.test"] = Registry{URL: "https://reg.test"}
			}
			cfg.Attempts = 1
			err := pull(f.client(cfg), basicAuth)
			if !errors.Is(err, tt.is) || tt.isNot != nil && errors.Is(err, tt.isNot) {
				t.Fatalf("got %v, want %v", err, tt.is)
			}
			if strings.Contains(err.Error(), "geheim") {
				t.Errorf("error holds a secret: %v", err)
			}
			var e *Error
			if !errors.As(err, &e) {
				t.Fatalf("%T", err)
			}
			status, header, body := e.HTTP()
			if status != tt.status {
				t.Errorf("client gets %d, want %d", status, tt.status)
			}
			if tt.status == 401 {
				if got := header.Get("WWW-Authenticate"); !strings.Contains(got, `realm="http://auth.test/token?x=1"`) {
					t.Errorf("challenge %q", got)
				}
				if !strings.Contains(string(body), "UNAUTHORIZED") || len(e.Codes) != 1 || header.Get("Content-Type") != "application/json" {
					t.Errorf("body %s, codes %v, %v", body, e.Codes, header)
				}
			}
		})
	}
}

func TestAccessTokenInsteadOfToken(t *testing.T) {
	f := newFabric(t)
	g := newGuarded(f)
	g.valid["other"] = true
	g.answer = func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, `{"access_token":"other"}`) }
	if err := pull(f.client(plain()), ""); err != nil {
		t.Fatal(err)
	}
}

// Many requests that meet the same challenge at once fetch one token.
func TestTokenIsFetchedOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFabric(t)
		g := newGuarded(f)
		g.tokenTime = time.Second
		c := f.client(plain())
		var failed atomic.Int32
		var wg sync.WaitGroup
		for range 50 {
			wg.Go(func() {
				if pull(c, "") != nil {
					failed.Add(1)
				}
			})
		}
		wg.Wait()
		if tokens, _ := g.counts(); tokens != 1 || failed.Load() != 0 {
			t.Errorf("%d tokens, %d requests failed", tokens, failed.Load())
		}
	})
}

// One who waits for a token and gives up does not take it from the others; the last one ends the fetch.
func TestTokenWaitersLeave(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFabric(t)
		g := newGuarded(f)
		g.tokenTime = 5 * time.Second
		c := f.client(plain())
		errs := make(chan error)
		start := func(patience time.Duration) {
			go func() {
				ctx, cancel := context.WithTimeout(context.Background(), patience)
				defer cancel()
				b, err := c.Blob(ctx, wholeBlob())
				if err == nil {
					b.Close()
				}
				errs <- err
			}()
		}
		start(time.Second)
		synctest.Wait()
		start(time.Minute)
		if err := <-errs; !errors.Is(err, context.DeadlineExceeded) || !errors.Is(err, ErrTimeout) {
			t.Errorf("impatient: %v", err)
		}
		if err := <-errs; err != nil {
			t.Errorf("patient: %v", err)
		}
		g.mu.Lock()
		clear(g.valid) // the token is withdrawn
		g.mu.Unlock()
		start(time.Second)
		if err := <-errs; !errors.Is(err, ErrTimeout) {
			t.Errorf("alone: %v", err)
		}
		synctest.Wait()
		if tokens, _ := g.counts(); tokens != 2 {
			t.Errorf("%d tokens", tokens)
		}
		if n := len(c.tokens.flights); n != 0 {
			t.Errorf("%d fetches left over", n)
		}
	})
}

func TestTokenExpires(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFabric(t)
		g := newGuarded(f)
		c := f.client(plain())
		for _, step := range []struct {
			after           time.Duration
			tokens, refused int
		}{
			{0, 1, 1},
			{200 * time.Second, 1, 1},
			{100 * time.Second, 2, 1}, // renewed before the registry has to ask
			{time.Hour, 3, 1},
		} {
			time.Sleep(step.after)
			if err := pull(c, ""); err != nil {
				t.Fatal(err)
			}
			if tokens, refused := g.counts(); tokens != step.tokens || refused != step.refused {
				t.Errorf("after %s: %d tokens, %d challenges; want %d, %d", step.after, tokens, refused, step.tokens, step.refused)
			}
		}
	})
}

// A token that the registry no longer takes is replaced, once.
func TestWithdrawnToken(t *testing.T) {
	f := newFabric(t)
	g := newGuarded(f)
	c := f.client(plain())
	if err := pull(c, ""); err != nil {
		t.Fatal(err)
	}
	g.mu.Lock()
	clear(g.valid)
	g.mu.Unlock()
	if err := pull(c, ""); err != nil {
		t.Fatal(err)
	}
	if tokens, refused := g.counts(); tokens != 2 || refused != 2 {
		t.Errorf("%d tokens, %d challenges", tokens, refused)
	}
}

// A no of the token server, or of the registry to a fresh token, is not asked for again at once, however many want it.
func TestRefusedTokenIsNotAskedForAgain(t *testing.T) {
	no := func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(401) }
	worthless := func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, `{"token":"bad"}`) }
	for _, row := range []struct {
		name          string
		answer        http.HandlerFunc
		authorization string
	}{
		{"token server says no", no, basicAuth},
		{"token server says no to anybody", no, ""},
		{"token is worth nothing", worthless, basicAuth},
		{"token for anybody is worth nothing", worthless, ""},
	} {
		t.Run(row.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				f := newFabric(t)
				g := newGuarded(f)
				g.answer = row.answer
				c := f.client(plain())
				for round := 1; round <= 2; round++ {
					var wg sync.WaitGroup
					for range 100 {
						wg.Go(func() {
							if err := pull(c, row.authorization); !errors.Is(err, ErrUnauthorized) {
								t.Errorf("got %v", err)
							}
						})
					}
					wg.Wait()
					if tokens, _ := g.counts(); tokens != round {
						t.Errorf("round %d: %d questions", round, tokens)
					}
					time.Sleep(refusalTTL)
				}
				g.answer = nil // rights were given
				if err := pull(c, row.authorization); err != nil {
					t.Error(err)
				}
			})
		})
	}
}

func TestHangingTokenServer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFabric(t)
		g := newGuarded(f)
		g.tokenTime = 24 * time.Hour
		c := f.client(plain())
		start := time.Now()
		err := pull(c, "")
		if took := time.Since(start); !errors.Is(err, ErrTimeout) || took != 15*time.Second {
			t.Errorf("%v after %s", err, took)
		}
	})
}

func TestCloseEndsTokenFetches(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFabric(t)
		g := newGuarded(f)
		g.tokenTime = 24 * time.Hour
		c := f.client(plain())
		time.AfterFunc(time.Second, func() { _ = c.Close() })
		for range 2 {
			if err := pull(c, ""); !errors.Is(err, ErrClosed) {
				t.Errorf("got %v", err)
			}
		}
	})
}

// A registry may redirect to another one, which wants an anonymous token of its own.
func TestTokenOfAnotherRegistry(t *testing.T) {
	f := newFabric(t)
	g := newGuarded(f)
	f.serve("http://front.test", "10.0.0.9", redirectTo("http://reg.test"+blobPath))
	c := f.client(Config{Registries: map[string]Registry{"front.test": {URL: "http://front.test"}}})
	r := wholeBlob()
	r.Registry, r.Authorization = "front.test", basicAuth
	for range 2 {
		b, err := c.Blob(context.Background(), r)
		if err != nil {
			t.Fatal(err)
		}
		b.Close()
	}
	if got := strings.Join(g.requests, "|"); got != "repository:team/app:pull" {
		t.Errorf("token server saw %q", got)
	}
}

func TestTokenCachesAreBounded(t *testing.T) {
	m := make(map[int]bool)
	for i := range 3 * maxTokens {
		makeRoom(m, func(stale bool) bool { return stale })
		m[i] = i%2 == 0
	}
	if _, last := m[3*maxTokens-1]; len(m) > maxTokens || !last {
		t.Errorf("%d entries", len(m))
	}
}

func TestCredentialIsNeverPrinted(t *testing.T) {
	c := newCredential(basicAuth)
	if s := fmt.Sprintf("%v %+v %#v %s", c, c, c, c); strings.Contains(s, "dXNlcjpnZWhlaW0") {
		t.Error(s)
	}
}
