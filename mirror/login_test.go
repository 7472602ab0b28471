package mirror

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

func basic(userPass string) string {
	return "Basic " + base64.StdEncoding.EncodeToString([]byte(userPass))
}

// token asks for a token as a client that was given this challenge does.
func (w *world) token(t *testing.T, challenge, auth string) string {
	t.Helper()
	rest, ok := strings.CutPrefix(challenge, `Bearer realm="`)
	realm, rest, ok2 := strings.Cut(rest, `"`)
	u, err := url.Parse(realm)
	if !ok || !ok2 || err != nil || strings.Contains(challenge, "Basic") {
		t.Fatalf("challenge %q", challenge)
	}
	q := u.Query()
	for _, name := range []string{"service", "scope"} {
		if _, v, ok := strings.Cut(rest, name+`="`); ok {
			v, _, _ = strings.Cut(v, `"`)
			q.Set(name, v)
		}
	}
	rec := w.do("GET", u.Path+"?"+q.Encode(), "Authorization", auth)
	wantStatus(t, rec, 200)
	var answer struct {
		Token     string    `json:"token"`
		Access    string    `json:"access_token"`
		ExpiresIn int       `json:"expires_in"`
		IssuedAt  time.Time `json:"issued_at"`
	}
	err = json.Unmarshal(rec.Body.Bytes(), &answer)
	if err != nil || answer.Token == "" || answer.Access != answer.Token || answer.ExpiresIn != 300 || answer.IssuedAt.IsZero() ||
		rec.Header().Get("Cache-Control") != "no-store" {
		t.Fatalf("%v, %s", err, rec.Body)
	}
	return answer.Token
}

// TestPing: every client that pings is asked for a token, gets one whoever it is, and is let in with it.
func TestPing(t *testing.T) {
	w := newWorld(t, Config{})
	for _, auth := range []string{"", "Basic Og==", basic("me:secret")} {
		rec := w.do("GET", "/v2/", "Authorization", strings.Replace(auth, basic("me:secret"), "", 1))
		wantStatus(t, rec, 401)
		challenges := rec.Header().Values("Www-Authenticate")
		if len(challenges) != 1 || challenges[0] != `Bearer realm="http://example.com/v2/token",service="meshd"` || codeOf(rec.Body.Bytes()) != codeUnauthorized {
			t.Fatalf("%q %s", challenges, rec.Body)
		}
		token := w.token(t, challenges[0], auth)
		wantStatus(t, w.do("GET", "/v2/", "Authorization", "Bearer "+token), 200)
		wantStatus(t, w.do("HEAD", "/v2/", "Authorization", "bearer "+token), 200)
	}
	if rec := w.do("HEAD", "/v2/"); rec.Code != 401 || rec.Body.Len() != 0 {
		t.Fatalf("HEAD: %d, %d bytes", rec.Code, rec.Body.Len())
	}
	if s := w.Stats(); s.Tokens != 3 || s.Failures != 0 {
		t.Fatalf("%+v", s)
	}
}

func TestChallengeNamesTheMirrorAsTheClientDoes(t *testing.T) {
	w := newWorld(t, Config{})
	for host, want := range map[string]string{
		"127.0.0.1:65001": "127.0.0.1:65001", "localhost:65001": "localhost:65001", "[::1]:65001": "[::1]:65001",
		`x",realm="http://evil.example`: "localhost", "": "localhost", "a b": "localhost", strings.Repeat("a", 300): "localhost",
	} {
		r, _ := http.NewRequest("GET", "/v2/", nil)
		r.Host = host
		if got := challenge(r, request{}); got != `Bearer realm="http://`+want+`/v2/token",service="meshd"` {
			t.Errorf("%q: %s", host, got)
		}
	}
	rec := w.do("GET", "/v2/app/tags/list?ns=h.example", "Authorization", "Bearer meshd.foreign")
	wantStatus(t, rec, 401)
	if got := rec.Header().Get("Www-Authenticate"); got != `Bearer realm="http://example.com/v2/token?ns=h.example",service="meshd",scope="repository:app:pull"` {
		t.Errorf("with ns: %s", got)
	}
}

func TestTokenRequests(t *testing.T) {
	w := newWorld(t, Config{})
	for _, c := range []struct {
		name, query, auth string
		status            int
	}{
		{"nothing", "", "", 200},
		{"docker's", "?account=me&client_id=docker&offline_token=true&service=meshd&scope=repository%3Aghcr.io%2Fa%2Fb%3Apull", basic("me:secret"), 200},
		{"registry with a port", "?scope=repository:h.example:5000/a:pull,push", basic("me:secret"), 200},
		{"other kinds of scopes", "?scope=registry:catalog:*&scope=x", basic("me:secret"), 200},
		{"one registry twice", "?scope=repository:a/b:pull+repository:docker.io/c:pull", "", 200},
		{"two registries", "?scope=repository:a/b:pull&scope=repository:ghcr.io/a:pull", "", 400},
		{"bad name", "?scope=repository:A/B:pull", "", 400},
		{"nine scopes", "?" + strings.Repeat("scope=repository:a:pull&", 9), "", 400},
		{"two ns", "?ns=a.b&ns=c.d", "", 400},
		{"Bearer", "", "Bearer x", 401},
		{"no colon", "", basic("secret"), 401},
		{"no base64", "", "Basic %%", 401},
		{"long", "", basic("me:" + strings.Repeat("x", maxLogin)), 401},
	} {
		t.Run(c.name, func(t *testing.T) {
			rec := w.do("GET", tokenPath+c.query, "Authorization", c.auth)
			wantStatus(t, rec, c.status)
			if c.status != 200 && codeOf(rec.Body.Bytes()) == "" {
				t.Errorf("%s", rec.Body)
			}
		})
	}
	wantStatus(t, w.do("POST", tokenPath), 405) // containerd and docker fall back to GET
	if do, heads := w.origin.asked(); do+heads != 0 {
		t.Error("an origin was asked")
	}
}

// loggedIn is a private repository for "me:secret" and a client that logged in for it.
func loggedIn(t *testing.T, w *world) (img image, token string) {
	t.Helper()
	repo := w.origin.repo("h.example", "team/app")
	repo.secret = basic("me:secret")
	img = w.push(repo, "latest", 1000)
	rec := w.do("GET", path+"manifests/latest", "Authorization", "Bearer meshd.old")
	wantStatus(t, rec, 401)
	return img, "Bearer " + w.token(t, rec.Header().Get("Www-Authenticate"), basic("me:secret"))
}

// TestLoginByPath is a docker login to the mirror and a pull by path prefix.
func TestLoginByPath(t *testing.T) {
	w := newWorld(t, Config{})
	img, token := loggedIn(t, w)
	for _, target := range []string{"manifests/latest", "blobs/" + img.layer.String()} {
		wantStatus(t, w.do("GET", path+target, "Authorization", token), 200)
		wantStatus(t, w.do("GET", path+target), 401)
	}
	for _, r := range w.origin.requests {
		if strings.Contains(r.Authorization, "Bearer") {
			t.Errorf("the origin was sent %q", r.Authorization)
		}
	}
	if want := w.mesh.wants[0]; want.Authorization != basic("me:secret") || !want.Private {
		t.Errorf("the mesh was told %q, private %v", want.Authorization, want.Private)
	}
}

// TestAnonymityFirst: what anybody may have is asked for without credentials, and shared.
func TestAnonymityFirst(t *testing.T) {
	w := newWorld(t, Config{})
	img, token := loggedIn(t, w)
	w.origin.repos[Ref{"h.example", "team/app"}].secret = ""
	w.origin.mu.Lock()
	w.origin.requests = nil
	w.origin.mu.Unlock()
	synced := w.gate.everything(caller{ref: Ref{"h.example", "team/app"}})
	w.gate.noes.drop(synced)
	wantStatus(t, w.do("GET", path+"manifests/latest", "Authorization", token), 200)
	wantStatus(t, w.do("GET", path+"blobs/"+img.layer.String(), "Authorization", token), 200)
	if len(w.origin.requests) != 1 || w.origin.last().Authorization != "" || w.mesh.wants[0].Authorization != "" || w.mesh.wants[0].Private {
		t.Errorf("%d questions, the last with %q", len(w.origin.requests), w.origin.last().Authorization)
	}
}

func TestTokensThatAreNotGood(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, Config{})
		defer w.Close()
		_, token := loggedIn(t, w)
		do, heads := w.origin.asked()
		for name, c := range map[string]struct{ path, token string }{
			"tampered":                 {path, token[:len(token)-2] + "xx"},
			"foreign":                  {path, "Bearer " + newSealer().seal(pass{expires: time.Now().Add(time.Hour)})},
			"for another registry":     {"/v2/other.example/team/app/", token},
			"for another registry, ns": {"/v2/h.example/team/app/", token},
		} {
			query := ""
			if strings.HasSuffix(name, "ns") {
				query = "?ns=other.example"
			}
			rec := w.do("GET", c.path+"manifests/latest"+query, "Authorization", c.token)
			if challenge := rec.Header().Get("Www-Authenticate"); rec.Code != 401 || !strings.Contains(challenge, `/v2/token`) || !strings.Contains(challenge, "scope=") {
				t.Errorf("%s: %d %s", name, rec.Code, challenge)
			}
		}
		wantStatus(t, w.do("GET", "/v2/", "Authorization", "Bearer of-somebody-else"), 401)
		wantStatus(t, w.do("GET", path+"manifests/latest", "Authorization", token), 200)
		time.Sleep(tokenTTL)
		wantStatus(t, w.do("GET", path+"manifests/latest", "Authorization", token), 401)
		if d, h := w.origin.asked(); d-do+h-heads != 2 { // one anonymous and one with credentials, of the good token
			t.Errorf("%d questions for tokens that are not good", d-do+h-heads-2)
		}
	})
}

// TestWrongPassword: the origin's no is a no, with a challenge of the mirror.
func TestWrongPassword(t *testing.T) {
	w := newWorld(t, Config{})
	_, token := loggedIn(t, w)
	w.origin.down = &fakeError{status: 401, header: http.Header{"Www-Authenticate": {`Basic realm="team"`}}}
	w.gate.noes.drop(w.gate.everything(caller{ref: Ref{"h.example", "team/app"}}))
	for _, auth := range []string{token, "", basic("me:wrong")} {
		rec := w.do("GET", path+"manifests/latest", "Authorization", auth)
		wantStatus(t, rec, 401)
		if c := rec.Header().Values("Www-Authenticate"); len(c) != 1 || !strings.HasPrefix(c[0], `Bearer realm="http://example.com/v2/token"`) {
			t.Errorf("%.10q: challenge %q", auth, c)
		}
	}
}

// TestChallenges: whatever a registry asks for, its clients are asked for a token of the mirror.
func TestChallenges(t *testing.T) {
	bearer := `Bearer realm="https://auth.example/token",service="s"`
	for name, origin := range map[string][]string{
		"Bearer": {bearer}, "Basic": {`Basic realm="x"`}, "both": {bearer, `Basic realm="x"`}, "Negotiate": {"Negotiate"}, "none": nil,
	} {
		w := newWorld(t, Config{})
		w.origin.down = &fakeError{status: 401, header: http.Header{"Www-Authenticate": origin}}
		for _, auth := range []string{"", "Bearer of-the-registry", basic("me:secret")} {
			rec := w.do("GET", path+"manifests/latest", "Authorization", auth)
			want := `Bearer realm="http://example.com/v2/token",service="meshd",scope="repository:h.example/team/app:pull"`
			if got := rec.Header().Values("Www-Authenticate"); rec.Code != 401 || len(got) != 1 || got[0] != want {
				t.Errorf("%s: %d %q", name, rec.Code, got)
			}
		}
	}
}

// TestLoginIsUsedWhenAnonymityIsRefused: registries hide what is private in different ways, and limit who is nobody.
func TestLoginIsUsedWhenAnonymityIsRefused(t *testing.T) {
	for status, used := range map[int]bool{401: true, 403: true, 404: true, 410: true, 429: true, 400: false, 500: false, 503: false} {
		w := newWorld(t, Config{})
		img, token := loggedIn(t, w)
		w.origin.hook = func(ctx context.Context, req OriginRequest) (*http.Response, error) {
			if req.Authorization == "" {
				return nil, &fakeError{status: status}
			}
			return w.origin.manifest(w.origin.repos[req.Ref], req, "latest")
		}
		rec := w.do("GET", path+"manifests/latest", "Authorization", token)
		if (rec.Code == 200) != used || used != strings.Contains(rec.Body.String(), img.layer.String()) {
			t.Errorf("anonymity gets %d, the login %d", status, rec.Code)
		}
		if sent := w.origin.last().Authorization != ""; sent != used {
			t.Errorf("anonymity gets %d, the login is sent: %v", status, sent)
		}
	}
}

// TestLoginStaysWithItsRegistry: a registry that the operator does not know gets no login that another has accepted.
func TestLoginStaysWithItsRegistry(t *testing.T) {
	w := newWorld(t, Config{})
	_, token := loggedIn(t, w)
	wantStatus(t, w.do("GET", path+"manifests/latest", "Authorization", token), 200)
	for _, host := range []string{"evil.example", "friend.example"} {
		repo := w.origin.repo(host, "a")
		repo.secret = basic("me:secret")
		w.push(repo, "latest", 10)
	}
	w.origin.hosts["friend.example"] = true
	for host, status := range map[string]int{"evil.example": 401, "friend.example": 200} {
		target := "/v2/" + host + "/a/manifests/latest"
		rec := w.do("GET", target, "Authorization", "Bearer meshd.old")
		token := "Bearer " + w.token(t, rec.Header().Get("Www-Authenticate"), basic("me:secret"))
		wantStatus(t, w.do("GET", target, "Authorization", token), status)
	}
	for _, r := range w.origin.requests {
		if r.Registry == "evil.example" && r.Authorization != "" {
			t.Errorf("evil.example was sent the login")
		}
	}
}

// TestLoginWhileTheOriginIsDown: an old yes to the login serves, and a registry that never accepted it is not sent it.
func TestLoginWhileTheOriginIsDown(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, Config{})
		defer w.Close()
		img, token := loggedIn(t, w)
		wantStatus(t, w.do("GET", path+"manifests/latest", "Authorization", token), 200)
		time.Sleep(time.Hour)
		w.origin.down = &fakeError{}
		rec := w.do("GET", path+"manifests/latest", "Authorization", "Bearer meshd.old")
		token = "Bearer " + w.token(t, rec.Header().Get("Www-Authenticate"), basic("me:secret"))
		wantStatus(t, w.do("GET", path+"blobs/"+img.layer.String(), "Authorization", token), 200)
		do, heads := w.origin.asked()
		other := "Bearer " + w.token(t, rec.Header().Get("Www-Authenticate"), basic("you:secret"))
		wantStatus(t, w.do("GET", path+"blobs/"+img.layer.String(), "Authorization", other), 502)
		if d, h := w.origin.asked(); d-do+h-heads != 1 {
			t.Errorf("%d questions, want the anonymous one", d-do+h-heads)
		}
	})
}
