package e2e

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
)

// containerd is a containerd with its files in a directory of its own.
type containerd struct {
	*process
	dir string
}

// startContainerd starts one without the plugin that kubelets talk to.
func startContainerd(t testing.TB) *containerd {
	t.Helper()
	return startContainerdConfig(t, func(string) string { return "version = 2\ndisabled_plugins = [\"io.containerd.grpc.v1.cri\"]\n" })
}

// startCRI starts one that a kubelet could use. It asks the mirror for every registry, and nobody else.
func startCRI(t testing.TB, mirror string) *containerd {
	t.Helper()
	return startContainerdConfig(t, func(string) string {
		return fmt.Sprintf(`version = 2
[plugins."io.containerd.grpc.v1.cri"]
  stream_server_port = "0"
  [plugins."io.containerd.grpc.v1.cri".containerd]
    snapshotter = "native"
  [plugins."io.containerd.grpc.v1.cri".registry]
    config_path = %q
`, hostsDir(t, mirror))
	})
}

// hostsDir has a hosts.toml that leads to the mirror for every registry, and nowhere else.
func hostsDir(t testing.TB, mirror string) string {
	t.Helper()
	dir := t.TempDir()
	must(t, os.Mkdir(filepath.Join(dir, "_default"), 0o700))
	text := fmt.Sprintf("server = \"http://127.0.0.1:1\"\n[host.\"http://%s\"]\n  capabilities = [\"pull\", \"resolve\"]\n", mirror)
	must(t, os.WriteFile(filepath.Join(dir, "_default", "hosts.toml"), []byte(text), 0o600))
	return dir
}

// startContainerdConfig starts one with the configuration that text makes for its directory.
func startContainerdConfig(t testing.TB, text func(dir string) string) *containerd {
	t.Helper()
	if os.Getuid() != 0 {
		missing(t, "containerd needs root")
	}
	dir, err := os.MkdirTemp("", "meshd-e2e-ctrd-")
	must(t, err)
	t.Cleanup(func() { os.RemoveAll(dir) })
	c := &containerd{dir: dir}
	config := filepath.Join(dir, "config.toml")
	must(t, os.WriteFile(config, []byte(text(dir)), 0o600))
	c.process = startProcess(t, "containerd", exec.Command("containerd", "--config", config, "--root", dir+"/root", "--state", dir+"/state", "--address", c.socket()))
	t.Cleanup(func() { c.terminate(t, time.Minute) })
	c.waitFor(t, "answer", 60*time.Second, func() error {
		_, err := command("ctr", "-a", c.socket(), "version")
		return err
	})
	return c
}

func (c *containerd) socket() string { return c.dir + "/sock" }

// pull fetches an image by the name of its registry, which leads to the mirror and nowhere else, and checks what has come.
func (c *containerd) pull(t testing.TB, img *image, mirror, header string, args ...string) error {
	t.Helper()
	registry, _, _ := strings.Cut(img.repo, "/")
	hosts := filepath.Join(t.TempDir(), registry)
	must(t, os.MkdirAll(hosts, 0o700))
	text := fmt.Sprintf("server = \"http://127.0.0.1:1\"\n[host.\"http://%s\"]\n  capabilities = [\"pull\", \"resolve\"]\n", mirror)
	if header != "" {
		text += fmt.Sprintf("[host.\"http://%s\".header]\n  authorization = %q\n", mirror, header)
	}
	must(t, os.WriteFile(filepath.Join(hosts, "hosts.toml"), []byte(text), 0o600))
	ref := img.repo + ":" + img.tag
	space := "t" + strings.ToLower(filepath.Base(filepath.Dir(hosts))) + fmt.Sprint(time.Now().UnixNano()) // nothing is there from before
	args = append([]string{"-a", c.socket(), "-n", space, "content", "fetch", "--hosts-dir", filepath.Dir(hosts)}, args...)
	if _, err := command("ctr", append(args, ref)...); err != nil {
		return err
	}
	out, err := command("ctr", "-a", c.socket(), "-n", space, "content", "ls", "-q")
	for _, b := range append(img.blobs(), v1.Descriptor{Digest: img.digest}) {
		if err == nil && !strings.Contains(out, b.Digest.String()) {
			err = fmt.Errorf("containerd lacks %v", b.Digest)
		}
	}
	return err
}

// criPull pulls as a kubelet does, and checks the id that the image has then.
func (c *containerd) criPull(t testing.TB, img *image, creds ...string) error {
	t.Helper()
	out, err := command(client(t, "./cripull"), append([]string{c.socket(), img.repo + ":" + img.tag}, creds...)...)
	if err == nil && !strings.HasPrefix(out, img.manifest.Config.Digest.String()+" ") {
		err = fmt.Errorf("the runtime has %s, want %v", out, img.manifest.Config.Digest)
	}
	return err
}

// containerd 2 fetches a layer in several ranges at once, each from its offset to the end and cut when it has its share: on
// cold nodes that costs the registry what one plain pull does, and containerd is content with it.
func TestContainerdParallelRanges(t *testing.T) {
	for _, row := range []struct {
		name  string
		nodes []nodeSpec
	}{{"alone", []nodeSpec{{"east", true}}}, {"with a seed in another zone", []nodeSpec{{"east", false}, {"west", true}}}} {
		t.Run(row.name, func(t *testing.T) {
			m := newMesh(t, row.nodes...)
			img := m.registry.pushImage(t, "library/parallel", 1, 40*mib, 7*mib)
			hosts := hostsDir(t, m.nodes[0].mirror())
			ref := registryHost + "/" + img.repo + ":" + img.tag
			_, err := command(client(t, "./containerdpull"), hosts, ref, "6", fmt.Sprint(2*mib))
			must(t, err)
			m.checkCopies(t, img.size, 1)
		})
	}
}
