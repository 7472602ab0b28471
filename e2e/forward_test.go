package e2e

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"golang.org/x/crypto/bcrypt"
)

const (
	registryUser     = "alice"
	registryPassword = "e2e-secret-of-alice"
)

// tlsRegistry is Debian's docker-registry with TLS by an authority of its own and, if private, a login.
type tlsRegistry struct {
	*process
	name string // as references call it; no name server knows it
	addr string // where it is
	ca   string // file of its authority
}

// flag is what nodes are told.
func (r *tlsRegistry) flag() string { return r.name + "=https://" + r.addr + ",ca=" + r.ca }

// newCertificate makes an authority and a certificate by it, and writes them to dir.
func newCertificate(t testing.TB, dir string, ip string, names ...string) (ca, cert, key string) {
	t.Helper()
	signer, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	must(t, err)
	root := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "registry authority"}, IsCA: true, BasicConstraintsValid: true,
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), KeyUsage: x509.KeyUsageCertSign,
	}
	leaf := &x509.Certificate{
		SerialNumber: big.NewInt(2), NotBefore: root.NotBefore, NotAfter: root.NotAfter,
		DNSNames: names, IPAddresses: []net.IP{net.ParseIP(ip)}, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	rootDER, err := x509.CreateCertificate(rand.Reader, root, root, signer.Public(), signer)
	must(t, err)
	leafDER, err := x509.CreateCertificate(rand.Reader, leaf, root, signer.Public(), signer)
	must(t, err)
	keyDER, err := x509.MarshalPKCS8PrivateKey(signer)
	must(t, err)
	write := func(file, kind string, der []byte) string {
		path := filepath.Join(dir, file)
		must(t, os.WriteFile(path, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), 0o600))
		return path
	}
	return write("ca.pem", "CERTIFICATE", rootDER), write("cert.pem", "CERTIFICATE", leafDER), write("key.pem", "PRIVATE KEY", keyDER)
}

func startTLSRegistry(t testing.TB, n network, host int, registryName string, private bool) *tlsRegistry {
	t.Helper()
	need(t, "docker-registry")
	dir := t.TempDir()
	ip := n.host(host)
	r := &tlsRegistry{name: registryName, addr: ip + ":5443"}
	bare, _, _ := strings.Cut(registryName, ":")
	ca, cert, key := newCertificate(t, dir, ip, bare)
	r.ca = ca
	text := fmt.Sprintf("version: 0.1\nlog:\n  level: error\n  accesslog:\n    disabled: true\nstorage:\n  filesystem:\n    rootdirectory: %s\nhttp:\n  addr: %s\n  tls:\n    certificate: %s\n    key: %s\n",
		filepath.Join(dir, "data"), r.addr, cert, key)
	if private {
		hash, err := bcrypt.GenerateFromPassword([]byte(registryPassword), bcrypt.MinCost)
		must(t, err)
		htpasswd := filepath.Join(dir, "htpasswd")
		must(t, os.WriteFile(htpasswd, []byte(registryUser+":"+string(hash)+"\n"), 0o600))
		text += fmt.Sprintf("auth:\n  htpasswd:\n    realm: registry\n    path: %s\n", htpasswd)
	}
	config := filepath.Join(dir, "config.yml")
	must(t, os.WriteFile(config, []byte(text), 0o600))
	cmd := exec.Command("docker-registry", "serve", config)
	cmd.Env = append(os.Environ(), "OTEL_TRACES_EXPORTER=none")
	r.process = startProcess(t, "tls-registry", cmd)
	r.waitFor(t, "answer", time.Minute, func() error {
		resp, err := r.client(t).Get("https://" + r.addr + "/v2/")
		if err == nil {
			resp.Body.Close()
		}
		return err
	})
	return r
}

// client trusts the registry's authority.
func (r *tlsRegistry) client(t testing.TB) *http.Client {
	t.Helper()
	data, err := os.ReadFile(r.ca)
	must(t, err)
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(data)
	return &http.Client{Timeout: time.Minute, Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots}, DisableKeepAlives: true}}
}

// has asks the registry itself whether a tag is there.
func (r *tlsRegistry) has(t testing.TB, repo string) error {
	t.Helper()
	ref, err := name.NewTag(r.addr + "/" + repo)
	must(t, err)
	_, err = remote.Head(ref, remote.WithTransport(r.client(t).Transport),
		remote.WithAuth(&authn.Basic{Username: registryUser, Password: registryPassword}))
	return err
}

// proxyNode starts a node alone that knows the registries.
func proxyNode(t testing.TB, n network, extra ...string) *node {
	t.Helper()
	m := &mesh{net: n, origin: "http://127.0.0.1:1", dir: t.TempDir(), alone: true, extra: append(extra, "--log-level", "debug")}
	nd := &node{mesh: m, host: n.host(1), zone: "one", dir: filepath.Join(m.dir, "node-1")}
	nd.start(t)
	return nd
}

// trust has docker on this host trust the node's CA for registries, until the test ends.
func (n *node) trust(t testing.TB, hosts ...string) {
	t.Helper()
	args := []string{"ca", "install", "--data-dir", n.dir}
	for _, h := range hosts {
		args = append(args, "--docker", h)
	}
	_, err := command(meshdBinary(t), args...)
	must(t, err)
	t.Cleanup(func() {
		if _, err := command(meshdBinary(t), append(args, "--undo")...); err != nil {
			t.Error(err)
		}
	})
}

// dockerd in proxy mode: a pull of a public image goes through the mesh, a private one needs the login, a push reaches
// the registry.
func TestDockerThroughTheProxy(t *testing.T) {
	n := newNetwork(t)
	suffix := strings.ReplaceAll(n.prefix, ".", "-") + ".e2e.invalid:5443"
	open := startTLSRegistry(t, n, 210, "open-"+suffix, false)
	private := startTLSRegistry(t, n, 211, "private-"+suffix, true)
	img := pushTLS(t, open, "team/app", 2*mib, mib)
	node := proxyNode(t, n, "--registry", open.flag(), "--registry", private.flag())
	node.trust(t, open.name, private.name)
	d := startDocker(t, "127.0.0.1:1", "HTTP_PROXY=http://"+node.mirror(), "HTTPS_PROXY=http://"+node.mirror())
	d.config = t.TempDir()

	_, err := d.run("pull", open.name+"/team/app:latest")
	must(t, err)
	if got := node.status(t).BytesIn.Origin; got < img.size {
		t.Errorf("the mesh took %d bytes from the registry, the image has %d", got, img.size)
	}
	_, err = d.run("image", "rm", open.name+"/team/app:latest")
	must(t, err)
	before := node.status(t).BytesIn
	_, err = d.run("pull", open.name+"/team/app:latest")
	must(t, err)
	if delta := node.status(t).BytesIn.minus(before); delta.Origin != 0 {
		t.Errorf("the second pull took %+v", delta)
	}

	own := private.name + "/team/pushed:latest"
	_, err = d.run("tag", open.name+"/team/app:latest", own)
	must(t, err)
	if _, err := d.run("push", own); err == nil {
		t.Error("a push without login passed")
	}
	if _, err := d.run("login", "-u", registryUser, "-p", "wrong", private.name); err == nil || !strings.Contains(err.Error(), "401") {
		t.Errorf("a wrong password: %v", err)
	}
	_, err = d.run("login", "-u", registryUser, "-p", registryPassword, private.name)
	must(t, err)
	_, err = d.run("push", own)
	must(t, err)
	must(t, private.has(t, "team/pushed:latest"))
	_, err = d.run("image", "rm", own)
	must(t, err)
	_, err = d.run("pull", own)
	must(t, err)
	_, err = d.run("logout", private.name)
	must(t, err)
	_, err = d.run("image", "rm", own, open.name+"/team/app:latest")
	must(t, err)
	if _, err := d.run("pull", own); err == nil {
		t.Error("the private image was pulled without login")
	}
	if log := node.output(); strings.Contains(log, registryPassword) || strings.Contains(log, "Basic ") {
		t.Error("the node's log holds credentials")
	}
}

// pushTLS pushes an image of random layers to a registry without login.
func pushTLS(t testing.TB, r *tlsRegistry, repo string, layers ...int64) *image {
	t.Helper()
	img, i := newImage(t, repo, 7, layers...)
	ref, err := name.NewTag(r.addr + "/" + repo + ":latest")
	must(t, err)
	must(t, remote.Write(ref, img, remote.WithTransport(r.client(t).Transport), remote.WithJobs(2)))
	return i
}

// curl through the proxy: to a host that is not intercepted the server's own TLS, to a registry the node's, and a
// refusal says why.
func TestCurlThroughTheProxy(t *testing.T) {
	need(t, "curl")
	n := newNetwork(t)
	dir := t.TempDir()
	ip := n.host(220)
	ca, cert, key := newCertificate(t, dir, ip, "plain.e2e.invalid")
	server := &http.Server{Addr: ip + ":8443", ReadHeaderTimeout: time.Second, Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprintf(w, "hello from %s", r.Host)
	})}
	served := make(chan error, 1)
	go func() { served <- server.ListenAndServeTLS(cert, key) }()
	t.Cleanup(func() {
		server.Close()
		<-served
	})
	reg := startTLSRegistry(t, n, 210, "registry.e2e.invalid:5443", true)
	node := proxyNode(t, n, "--registry", reg.flag(), "--proxy-rule", ip+":8443=direct",
		"--proxy-rule", "/.*\\.bad\\.invalid/=refuse")
	curl := func(args ...string) (string, error) {
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		out, err := exec.CommandContext(ctx, "curl", append([]string{"-sS", "-x", "http://" + node.mirror()}, args...)...).CombinedOutput()
		return string(out), err
	}
	nodeCA := filepath.Join(node.dir, "ca.crt")
	for _, row := range []struct {
		name string
		args []string
		want string
		ok   bool
	}{
		{"a tunnel has the server's TLS", []string{"--cacert", ca, "https://" + ip + ":8443/"}, "hello from " + ip, true},
		{"and not the node's", []string{"--cacert", nodeCA, "https://" + ip + ":8443/"}, "SSL certificate problem", false},
		{"a registry has the node's", []string{"--cacert", nodeCA, "-u", registryUser + ":" + registryPassword, "https://" + reg.name + "/v2/"}, "{}", true},
		{"and its own challenge", []string{"--cacert", nodeCA, "-i", "https://" + reg.name + "/v2/"}, `Basic realm="registry"`, true},
		{"a pull too", []string{"--cacert", nodeCA, "-i", "https://" + reg.name + "/v2/a/manifests/latest"}, `Basic realm="registry"`, true},
		{"a rule refuses", []string{"-v", "https://x.bad.invalid/"}, `403 meshd: the rule /.*\.bad\.invalid/=refuse refuses x.bad.invalid:443`, false},
		{"a port", []string{"-v", "https://x.invalid:22/"}, "403 meshd: port 22 is not open", false},
		{"this machine", []string{"-v", "https://localhost/"}, "is a loopback address", false},
		{"the admin port", []string{"http://" + node.admin() + "/v1/status"}, "port 65002 is not open", true},
	} {
		t.Run(row.name, func(t *testing.T) {
			out, err := curl(row.args...)
			if (err == nil) != row.ok || !strings.Contains(out, row.want) {
				t.Errorf("got %v, want %q in\n%s", err, row.want, out)
			}
		})
	}
}
