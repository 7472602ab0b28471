package e2e

import (
	"encoding/base64"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/v1/remote"
)

const (
	user     = "alice"
	password = "geheim-4711"
)

// guardedMesh is a mesh in front of a registry that wants tokens: guarded.test/team/N is for users, open/app for all.
func guardedMesh(t testing.TB, users map[string]string, repos []string, specs ...nodeSpec) (*mesh, *authServer) {
	t.Helper()
	n := newNetwork(t)
	mays := map[string][]string{"": {"open/app"}}
	for u := range users {
		mays[u] = repos
	}
	auth := startAuthServer(t, n, users, mays)
	r := startRegistry(t, n)
	m := &mesh{net: n, registry: r, origin: r.url(), dir: t.TempDir()}
	m.guarded = r.guard(t, n, auth.config(t))
	m.extra = []string{"--registry", guardedHost + "=" + m.guarded.url(), "--log-level", "debug"}
	m.start(t, specs...)
	return m, auth
}

// byPath is the image as a client names it by path prefix.
func byPath(img *image) *image {
	i := *img
	i.repo = guardedHost + "/" + img.repo
	return &i
}

func auths(t testing.TB, host, user, password string) (dir string) {
	t.Helper()
	dir = t.TempDir()
	login := base64.StdEncoding.EncodeToString([]byte(user + ":" + password))
	must(t, os.WriteFile(filepath.Join(dir, "config.json"), fmt.Appendf(nil, `{"auths":{%q:{"auth":%q}}}`, host, login), 0o600))
	return dir
}

// Every client logs in for the mirror's name and pulls by path prefix, or brings its credentials for the registry; who
// brings none or wrong ones gets nothing private, and what is open to everybody stays so.
func TestPrivatePulls(t *testing.T) {
	long(t)
	need(t, "skopeo", "podman", "ctr", "containerd")
	m, auth := guardedMesh(t, map[string]string{user: password}, []string{"team/app"}, nodeSpec{"east", true})
	n := m.nodes[0]
	img := byPath(m.registry.pushImage(t, "team/app", 1, 3*mib, 200_000))
	open := byPath(m.registry.pushImage(t, "open/app", 2, 1*mib))
	hub := m.registry.pushImage(t, "library/hello", 3, 1*mib)
	d := startDocker(t, n.mirror())
	c := startContainerd(t)
	for _, client := range loginClients(n.mirror(), d, c) {
		t.Run(client.name, func(t *testing.T) {
			if err := client.pull(t, img, "", ""); err == nil {
				t.Error("pulled a private image without credentials")
			}
			if err := client.pull(t, open, "", ""); err != nil {
				t.Errorf("an open image without credentials: %v", err)
			}
			checkRefused(t, client.pull(t, img, user, "wrong"))
			if err := client.pull(t, img, user, password); err != nil {
				t.Errorf("a private image with credentials: %v", err)
			}
		})
	}
	d.config = ""
	if err := d.pull(hub); err != nil {
		t.Errorf("docker in mirror mode, without a login: %v", err)
	}
	checkSecrets(t, m, auth)
}

// loginClient pulls an image by path prefix, with a login unless user is "".
type loginClient struct {
	name string
	pull func(t *testing.T, img *image, user, password string) error
}

func loginClients(mirror string, d *docker, c *containerd) []loginClient {
	return []loginClient{
		{"dockerd", func(t *testing.T, img *image, user, password string) error {
			i := *img
			i.repo = mirror + "/" + img.repo
			_ = d.remove(&i)
			d.config = t.TempDir()
			if user != "" {
				if out, err := d.run("login", "-u", user, "-p", password, mirror); err != nil || !strings.Contains(out, "Succeeded") {
					return fmt.Errorf("docker login: %w: %s", err, out)
				}
			}
			return d.pull(&i)
		}},
		{"skopeo", func(t *testing.T, img *image, user, password string) error {
			if user == "" {
				return skopeoPull(t, mirror, img)
			}
			return skopeoPull(t, mirror, img, "--src-creds", user+":"+password)
		}},
		{"crane", func(t *testing.T, img *image, user, password string) error {
			dir := t.TempDir()
			if user != "" {
				dir = auths(t, mirror, user, password)
			}
			t.Setenv("DOCKER_CONFIG", dir)
			return cranePull(t, mirror, img)
		}},
		{"podman", func(t *testing.T, img *image, user, password string) error {
			return podmanPull(t, mirror, img, user, password)
		}},
		{"containerd", func(t *testing.T, img *image, user, password string) error {
			args := []string{}
			if user != "" {
				args = append(args, "--user", user+":"+password)
			}
			return c.pull(t, img, mirror, "", args...)
		}},
		{"containerd with a header in hosts.toml", func(t *testing.T, img *image, user, password string) error {
			header := ""
			if user != "" {
				header = "Basic " + base64.StdEncoding.EncodeToString([]byte(user+":"+password))
			}
			return c.pull(t, img, mirror, header)
		}},
	}
}

// checkRefused wants a client to say that its password was wrong.
func checkRefused(t *testing.T, err error) {
	t.Helper()
	if err == nil {
		t.Error("pulled a private image with a wrong password")
		return
	}
	for _, reason := range []string{"unauthorized", "denied", "wants a login"} {
		if strings.Contains(strings.ToLower(err.Error()), reason) {
			return
		}
	}
	t.Errorf("a wrong password is not named as the reason: %v", err)
}

// Docker hands a mirror the login for Docker Hub when it is asked for a token; it opens private images of Docker Hub.
func TestDockerHubLogin(t *testing.T) {
	long(t)
	n := newNetwork(t)
	auth := startAuthServer(t, n, map[string]string{user: password}, map[string][]string{user: {"team/app"}})
	r := startRegistry(t, n)
	m := &mesh{net: n, registry: r, origin: r.guard(t, n, auth.config(t)).url(), dir: t.TempDir(), extra: []string{"--log-level", "debug"}}
	m.start(t, nodeSpec{"east", true})
	img := r.pushImage(t, "team/app", 1, 1*mib)
	d := startDocker(t, m.nodes[0].mirror())
	d.config = t.TempDir()
	if err := d.pull(img); err == nil {
		t.Error("pulled a private image without a login")
	}
	d.config = auths(t, "https://index.docker.io/v1/", user, password)
	must(t, d.pull(img))
	checkSecrets(t, m, auth)
}

// An origin that wants Basic credentials: the mirror asks for them in its own way.
func TestBasicRegistry(t *testing.T) {
	long(t)
	need(t, "ctr", "containerd")
	n := newNetwork(t)
	r := startRegistry(t, n)
	htpasswd := filepath.Join(t.TempDir(), "htpasswd")
	must(t, os.WriteFile(htpasswd, []byte("user:$2a$04$4kb6OEyyNNydeJycgj7lRurnovU2jNizd1OVH3hVz6jH3PA6FhCeS\n" /* geheim */), 0o600))
	guarded := r.guard(t, n, fmt.Sprintf("auth:\n  htpasswd:\n    realm: e2e\n    path: %s\n", htpasswd))
	m := &mesh{net: n, registry: r, origin: guarded.url(), dir: t.TempDir()}
	m.extra = []string{"--registry", guardedHost + "=" + guarded.url()}
	m.start(t, nodeSpec{"east", true})
	img := r.pushImage(t, "team/app", 1, 100_000)
	c := startContainerd(t)
	for password, works := range map[string]bool{"geheim": true, "wrong": false} {
		err := c.pull(t, byPath(img), m.nodes[0].mirror(), "", "--user", "user:"+password)
		if works != (err == nil) {
			t.Errorf("containerd with password %s: %v", password, err)
		}
	}
	for _, auth := range []authn.Authenticator{authn.Anonymous, &authn.Basic{Username: "user", Password: "wrong"}} {
		if err := libraryPull(m.nodes[0].mirror(), img, auth); err == nil {
			t.Errorf("pulled a private image as %v", auth)
		}
	}
	must(t, libraryPull(m.nodes[0].mirror(), img, &authn.Basic{Username: "user", Password: "geheim"}))
	_, header, _, err := getRaw(m.nodes[0].mirror(), "/v2/team/app/manifests/latest")
	must(t, err)
	if c := header.Values("Www-Authenticate"); len(c) != 1 || !strings.HasPrefix(c[0], "Bearer ") {
		t.Errorf("challenges %q", c)
	}
}

// checkSecrets looks for what nobody may read in the logs and the data of the nodes.
func checkSecrets(t *testing.T, m *mesh, auth *authServer) {
	t.Helper()
	login := base64.StdEncoding.EncodeToString([]byte(user + ":" + password))
	secrets := append([]string{password, login, strings.TrimRight(login, "="), "meshd.", "Bearer ey", "Basic "}, auth.tokens...)
	if len(auth.tokens) == 0 {
		t.Error("no token was given")
	}
	for _, n := range m.nodes {
		n.checkSecrets(t, secrets, password, login)
	}
}

// checkSecrets looks for logged secrets in the node's log, which is to be at debug level, and for kept ones in its files,
// of which some may be renamed meanwhile: a blob becomes durable after a client has its last byte.
func (n *node) checkSecrets(t *testing.T, logged []string, kept ...string) {
	t.Helper()
	if !strings.Contains(n.output(), "request refused") {
		t.Errorf("the log of %s is not at debug level: it proves nothing", n.name)
	}
	for _, s := range logged {
		if i := strings.Index(n.output(), s); i >= 0 {
			t.Errorf("the log of %s holds a secret (%.12s...): %.300s", n.name, s, n.output()[max(0, i-200):])
		}
	}
	n.waitFor(t, "a moment in which its files stay where they are", time.Minute, func() error {
		return filepath.WalkDir(n.dir, func(path string, e os.DirEntry, err error) error {
			if err != nil || !e.Type().IsRegular() {
				return err
			}
			data, err := os.ReadFile(path)
			for _, s := range kept {
				if strings.Contains(string(data), s) {
					t.Errorf("%s holds a secret", path)
				}
			}
			return err
		})
	})
}

// Secrets in every place where a client or the operator may put one, right or wrong, are in no log.
func TestSecretsAreNotLogged(t *testing.T) {
	const secret = "geheim-0815"
	basic := base64.StdEncoding.EncodeToString([]byte("me:" + secret))
	n := newNetwork(t)
	r := startTLSRegistry(t, n, 200, "private.test:5443", true)
	operator := filepath.Join(t.TempDir(), "login")
	must(t, os.WriteFile(operator, []byte("me:"+secret), 0o600))
	nd := proxyNode(t, n, "--registry", r.flag()+",credentials="+operator, "--registry", openHost+"=http://"+n.host(201)+":1")
	headers := [][]string{
		nil,
		{"Authorization: Basic " + basic},
		{"Authorization: Bearer " + secret},
		{"Authorization: " + secret},
		{"Proxy-Authorization: Basic " + basic},
		{"Cookie: session=" + secret},
		{"Authorization: Basic " + basic, "Range: " + secret},
		{"Authorization: Basic " + secret, "Content-Length: 2"},
	}
	var asks []func() error
	for _, h := range headers {
		for _, request := range []string{
			"GET /v2/", "GET /v2/token", "GET /v2/token?account=me&password=" + secret, "POST /v2/token?refresh_token=" + secret,
			"GET /v2/private.test:5443/team/app/manifests/latest", "HEAD /v2/private.test:5443/team/app/blobs/sha256:" + strings.Repeat("0", 64),
			"GET /v2/private.test:5443/team/app/tags/list?n=1&last=" + secret, "PUT /v2/private.test:5443/team/app/manifests/latest",
			"POST /v2/private.test:5443/team/app/blobs/uploads/?digest=" + secret, "GET /v2/x/manifests/latest?ns=me:" + secret + "@host",
			"GET /v2/me:" + secret + "@host/x/manifests/latest", "GET /v2/open.test/x/manifests/latest", "GET /me:" + secret + "@x",
			"GET http://me:" + secret + "@open.test/v2/?token=" + secret, "GET http://me:" + secret + "@169.254.169.254/" + secret,
			"GET http://private.test:5443/v2/team/app/manifests/latest?token=" + secret, "CONNECT me:" + secret + "@127.0.0.1:443",
			"CONNECT 169.254.169.254:443",
		} {
			text := request + " HTTP/1.1\r\nHost: x\r\nConnection: close\r\n" + strings.Join(append(h, "", ""), "\r\n")
			if len(h) == 2 {
				text += "ok"
			}
			asks = append(asks, func() error {
				_, _, _, err := raw(nd.mirror(), text+"\r\n")
				return err
			})
		}
	}
	atOnce(t, asks...)
	nd.checkSecrets(t, []string{secret, basic, "meshd."}, secret, basic)
}

// Three users pull five repositories a thousand times at once: the registry's auth service is asked once for each user
// and repository, and once for anonymity and repository.
func TestAuthQuestions(t *testing.T) {
	long(t)
	users := map[string]string{"alice": "pass-a", "bob": "pass-b", "carol": "pass-c"}
	var repos []string
	for i := range 5 {
		repos = append(repos, fmt.Sprint("team/app", i))
	}
	m, auth := guardedMesh(t, users, repos, nodeSpec{"east", true})
	var images []*image
	for i, repo := range repos {
		images = append(images, byPath(m.registry.pushImage(t, repo, int64(10+i), 30_000, 20_000, 10_000)))
	}
	type work struct {
		img  *image
		user string
	}
	jobs := make(chan work)
	go func() {
		defer close(jobs)
		names := []string{"alice", "bob", "carol"}
		for i := range 1000 {
			jobs <- work{images[i%len(images)], names[i/len(images)%len(names)]}
		}
	}()
	start := time.Now()
	var pullers []func() error
	for range 32 {
		pullers = append(pullers, func() error {
			for j := range jobs {
				if err := libraryPull(m.nodes[0].mirror(), j.img, authn.FromConfig(authn.AuthConfig{Username: j.user, Password: users[j.user]})); err != nil {
					return fmt.Errorf("%s as %s: %w", j.img.repo, j.user, err)
				}
			}
			return nil
		})
	}
	atOnce(t, pullers...)
	took := time.Since(start)
	each, all := auth.questions()
	t.Logf("1000 pulls of 5 repositories by 3 users in %v: %d questions of the auth service", took.Round(time.Millisecond), all)
	want := map[string]int{}
	for _, repo := range repos {
		for _, u := range []string{"alice", "bob", "carol", ""} {
			want[strings.TrimSpace(u+" repository:"+repo+":pull")] = 1
		}
	}
	for k, n := range each {
		if anonymous := strings.HasPrefix(k, "repository:"); n != want[k] && !(anonymous && 1 <= n && n <= refusals(took)) {
			t.Errorf("%s: asked %d times, want %d", k, n, want[k])
		}
		delete(want, k)
	}
	if len(want) != 0 {
		t.Errorf("not asked for: %v", want)
	}
	before := all
	start = time.Now()
	for range 100 { // wrong passwords
		if err := libraryPull(m.nodes[0].mirror(), images[0], authn.FromConfig(authn.AuthConfig{Username: "alice", Password: "wrong"})); err == nil {
			t.Fatal("a wrong password works")
		}
	}
	each, all = auth.questions()
	most := refusals(time.Since(start))
	if n := each["alice repository:team/app0:pull"]; n < 2 || n > 1+most || all-before > 2*most {
		t.Errorf("100 pulls with a wrong password: %d questions, %d of them with it", all-before, n-1)
	}
}

// refusals is how often, in some time, a question may be asked to which the answer is no: that is remembered for half a minute.
func refusals(took time.Duration) int { return 1 + int(took/(30*time.Second)) }

// containerd gets its tokens from the mirror, too: however many pulls there are on a host, the registry's auth service is
// asked once for the login, and once for anonymity.
func TestAuthQuestionsOfContainerd(t *testing.T) {
	m, auth := guardedMesh(t, map[string]string{user: password}, []string{"team/app"}, nodeSpec{"east", true})
	img := byPath(m.registry.pushImage(t, "team/app", 1, 200_000, 100_000))
	pull := client(t, "./containerdpull")
	hosts := hostsDir(t, m.nodes[0].mirror())
	pulls := make([]func() error, 0, 20)
	for range cap(pulls) {
		pulls = append(pulls, func() error {
			_, err := command(pull, hosts, img.repo+":"+img.tag, "3", "0", user, password)
			return err
		})
	}
	start := time.Now()
	atOnce(t, pulls...)
	most := refusals(time.Since(start))
	each, all := auth.questions()
	anonymous := each["repository:team/app:pull"]
	if all != 1+anonymous || each["alice repository:team/app:pull"] != 1 || anonymous < 1 || anonymous > most {
		t.Errorf("%d pulls cost the questions %v", len(pulls), each)
	}
	if _, err := command(pull, hosts, img.repo+":"+img.tag, "3", "0", user, "wrong"); err == nil {
		t.Error("pulled with a wrong password")
	}
	checkSecrets(t, m, auth)
}

// A blob outlives the token that it was begun with, and the connections that it comes by: the node gets another token,
// and asks for the rest.
func TestTokenExpiresMidBlob(t *testing.T) {
	n := newNetwork(t)
	auth := startAuthServer(t, n, map[string]string{user: password}, map[string][]string{user: {"team/app"}})
	auth.life = 3 * time.Second // the third answer begins after 5
	r := startRegistry(t, n)
	m := &mesh{net: n, registry: r, origin: r.url(), dir: t.TempDir()}
	m.guarded = r.guard(t, n, auth.config(t))
	m.extra = []string{"--registry", guardedHost + "=" + m.guarded.url()}
	m.start(t, nodeSpec{"east", true})
	img := byPath(r.pushImage(t, "team/app", 1, 12*mib))
	m.guarded.proxy.behave(t, behaviour{Rate: 2 * mib, Cut: 5 * mib})
	must(t, libraryPull(m.nodes[0].mirror(), img, &authn.Basic{Username: user, Password: password}))
	c := m.guarded.proxy.counts(t)
	if size := img.manifest.Layers[0].Size; c.BlobRequests < 4 || c.BlobBytes != size {
		t.Errorf("the registry sent %d bytes in %d requests, want %d in 4 and more", c.BlobBytes, c.BlobRequests, size)
	}
	if each, _ := auth.questions(); each["alice repository:team/app:pull"] < 2 {
		t.Errorf("no second token was fetched: %v", each)
	}
}

// libraryPull pulls with go-containerregistry and checks every digest, which it does as it reads.
func libraryPull(mirror string, img *image, auth authn.Authenticator) error {
	ref, err := name.NewTag(mirror+"/"+img.repo+":"+img.tag, name.Insecure)
	if err != nil {
		return err
	}
	got, err := remote.Image(ref, remote.WithAuth(auth), remote.WithTransport(httpClient.Transport))
	if err != nil {
		return err
	}
	layers, err := got.Layers()
	if err != nil {
		return err
	}
	for _, l := range layers {
		r, err := l.Compressed()
		if err != nil {
			return err
		}
		_, err = io.Copy(io.Discard, r)
		r.Close()
		if err != nil {
			return err
		}
	}
	return nil
}

// A digest alone opens nothing: not under a repository that the client may read, nor under a registry of its own.
func TestDigestAloneOpensNothing(t *testing.T) {
	m, _ := guardedMesh(t, map[string]string{user: password}, []string{"team/app"}, nodeSpec{"east", true})
	n := m.nodes[0]
	img := byPath(m.registry.pushImage(t, "team/app", 1, 1*mib))
	m.registry.pushImage(t, "open/app", 2, 1000)
	m.registry.pushImage(t, "library/hello", 3, 1000)
	must(t, libraryPull(n.mirror(), img, authn.FromConfig(authn.AuthConfig{Username: user, Password: password})))
	layer := img.manifest.Layers[0].Digest.String()
	for repo, status := range map[string]int{
		guardedHost + "/team/app": http.StatusUnauthorized, guardedHost + "/open/app": http.StatusNotFound,
		"library/hello": http.StatusNotFound, guardedHost + "/none/such": http.StatusUnauthorized,
	} {
		for _, what := range []string{"blobs/" + layer, "manifests/" + img.digest.String()} {
			got, header, _, err := getRaw(n.mirror(), "/v2/"+repo+"/"+what)
			must(t, err)
			if got != status {
				t.Errorf("%s %.15s: %d, want %d", repo, what, got, status)
			}
			if strings.Contains(header.Get("Www-Authenticate"), "Basic") {
				t.Errorf("%s: a Basic challenge", repo)
			}
		}
	}
}

// A private image goes through the mesh as a public one does, between those who may have it: the registry sends it once.
// Nobody else gets it, and a registry that says yes to everything opens nothing of another's.
func TestPrivateImageThroughMesh(t *testing.T) {
	long(t)
	users := map[string]string{"alice": "pass-a", "bob": "pass-b"}
	m, _ := guardedMesh(t, users, []string{"team/app"}, twoZones...)
	img := byPath(m.registry.pushImage(t, "team/app", 1, 40*mib, 16*mib, 8*mib, 1*mib))
	m.registry.pushImage(t, "library/hello", 2, 1000)
	var pulls []func() error
	for i, n := range m.nodes {
		name := []string{"alice", "bob"}[i%2]
		pulls = append(pulls, func() error {
			return libraryPull(n.mirror(), img, &authn.Basic{Username: name, Password: users[name]})
		})
	}
	start := time.Now()
	atOnce(t, pulls...)
	c := m.guarded.proxy.counts(t)
	t.Logf("four pulls took %v; origin copies %.4f", time.Since(start).Round(time.Millisecond), float64(c.BlobBytes)/float64(img.size))
	m.logZones(t, img.size)
	if copies := float64(c.BlobBytes) / float64(img.size); copies > maxCopies {
		t.Errorf("the registry sent %.3f copies", copies)
	}
	sent := c.BlobBytes
	atOnce(t, pulls...)
	if more := m.guarded.proxy.counts(t).BlobBytes - sent; more != 0 {
		t.Errorf("the second pull took %d bytes of the registry", more)
	}
	for _, n := range m.nodes {
		for _, auth := range []authn.Authenticator{authn.Anonymous, &authn.Basic{Username: "alice", Password: "wrong"}} {
			if err := libraryPull(n.mirror(), img, auth); err == nil {
				t.Errorf("%s gave it to %v", n.name, auth)
			}
		}
		for _, repo := range []string{"library/hello", guardedHost + "/open/app"} {
			status, _, _, err := getRaw(n.mirror(), "/v2/"+repo+"/blobs/"+img.manifest.Layers[0].Digest.String())
			if err != nil || status == http.StatusOK {
				t.Errorf("%s: a layer by its digest in %s: %d, %v", n.name, repo, status, err)
			}
		}
	}
}
