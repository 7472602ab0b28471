package e2e

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// Harbor's own token opens a private project of a real registry, over TLS, and is nowhere afterwards; without it, with one that has
// ended or one of another project the job fails and says so.
func TestHarborTokenOverTLS(t *testing.T) {
	long(t)
	n := newNetwork(t)
	r := startRegistry(t, n)
	issuer := startAuthServer(t, n, map[string]string{user: password}, map[string][]string{user: {"team/app"}})
	m := &mesh{net: n, registry: r, origin: r.url(), dir: t.TempDir()}
	m.guarded = r.guard(t, n, issuer.config(t))
	m.extra = []string{"--registry", guardedHost + "=" + m.guarded.url(), "--log-level", "debug"}
	m.answerHarbor(t)
	plain := m.each
	m.each = func(n *node) []string {
		must(t, os.MkdirAll(n.dir, 0o700))
		cert, key := filepath.Join(n.dir, "harbor.pem"), filepath.Join(n.dir, "harbor.key")
		selfSigned(t, n.host, cert, key)
		return append(plain(n), "--preheat-cert", cert, "--preheat-key", key)
	}
	grant := func(repo string) string {
		token, err := issuer.sign("harbor", []any{map[string]any{"type": "repository", "name": repo, "actions": []string{"pull"}}})
		must(t, err)
		return "Bearer " + token
	}
	issuer.life = -time.Minute
	ended := grant("team/app")
	issuer.life = 0
	m.start(t, nodeSpec{"east", true}, nodeSpec{"west", true})
	img := r.pushImage(t, "team/app", 95, 4*mib)
	right := grant("team/app")
	for _, row := range []struct{ name, token, state, reason string }{
		{"no token", "", "FAILURE", "refused by the registry"},
		{"one that has ended", ended, "FAILURE", "refused by the registry"},
		{"one for another project", grant("team/other"), "FAILURE", "refused by the registry"},
		{"the right one", right, "SUCCESS", ""},
		{"one that has ended, for what is here", ended, "FAILURE", "refused by the registry"},
	} {
		for mode, auth := range harborModes {
			state, text := m.harborJob(t, auth, "team/app", row.token)
			if state != row.state || !strings.Contains(text, row.reason) {
				t.Errorf("%s, %s: %s %s", row.name, mode, state, text)
			}
		}
	}
	for _, node := range m.nodes {
		if missing := node.lacks(t, img); len(missing) > 0 {
			t.Errorf("%s lacks %v", node.name, missing)
		}
	}
	if sent := m.guarded.proxy.counts(t).BlobBytes; sent != img.size {
		t.Errorf("the registry sent %d bytes of blobs, the image has %d", sent, img.size)
	}
	for _, node := range m.nodes {
		if err := httpPull(t.Context(), node.mirror(), byPath(img)); err == nil {
			t.Error("a client without credentials gets what was preheated with Harbor's")
		}
		node.checkSecrets(t, []string{strings.TrimPrefix(right, "Bearer "), "Bearer ey", preheatToken}, strings.TrimPrefix(right, "Bearer "))
	}
	if resp, err := httpClient.Get("http://" + m.nodes[0].preheatAddr() + "/healthy"); err == nil {
		defer resp.Body.Close()
		if resp.StatusCode == http.StatusOK {
			t.Error("it answers without TLS")
		}
	}
	if _, err := httpClient.Get("https://" + m.nodes[0].preheatAddr() + "/healthy"); err == nil {
		t.Error("a client that does not know the authority takes the certificate")
	}
}

// harborJob posts a job for an image of the guarded registry to the first node, polls the second, and returns state and answer.
func (m *mesh) harborJob(t testing.TB, auth func(*http.Request), repo, token string) (state, text string) {
	t.Helper()
	headers, err := json.Marshal(map[string]string{"Authorization": token})
	must(t, err)
	status, body := m.nodes[0].harborTLS(t, http.MethodPost, "/oapi/v1/jobs", fmt.Sprintf(`{"type":"preheat","args":{"type":"image",
		"url":"https://%s/v2/%s/manifests/latest","headers":%s,"scope":"all_seed_peers"},"scheduler_cluster_ids":null}`, guardedHost, repo, headers), auth)
	var job struct {
		ID    int64
		State string
	}
	if err := json.Unmarshal([]byte(body), &job); err != nil || status != http.StatusOK {
		t.Fatalf("%d %s", status, body)
	}
	m.nodes[1].waitFor(t, "the end of a job", time.Minute, func() error {
		status, body = m.nodes[1].harborTLS(t, http.MethodGet, fmt.Sprint("/oapi/v1/jobs/", job.ID), "", auth)
		if err := json.Unmarshal([]byte(body), &job); err != nil || status != http.StatusOK || job.State == "PENDING" {
			return fmt.Errorf("%d %s", status, body)
		}
		return nil
	})
	return job.State, body
}

// harborTLS calls a node's preheat address over TLS, believing that node's certificate only.
func (n *node) harborTLS(t testing.TB, method, path, body string, auth func(*http.Request)) (int, string) {
	t.Helper()
	pem, err := os.ReadFile(filepath.Join(n.dir, "harbor.pem"))
	must(t, err)
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(pem)
	transport := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: pool}}
	defer transport.CloseIdleConnections()
	req, err := http.NewRequest(method, "https://"+n.preheatAddr()+path, strings.NewReader(body))
	must(t, err)
	auth(req)
	resp, err := (&http.Client{Transport: transport}).Do(req)
	must(t, err)
	defer resp.Body.Close()
	data, err := io.ReadAll(resp.Body)
	must(t, err)
	return resp.StatusCode, string(data)
}
