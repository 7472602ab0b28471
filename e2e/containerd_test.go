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

func startContainerd(t testing.TB) *containerd {
	t.Helper()
	if os.Getuid() != 0 {
		missing(t, "containerd needs root")
	}
	dir, err := os.MkdirTemp("", "meshd-e2e-ctrd-")
	must(t, err)
	t.Cleanup(func() { os.RemoveAll(dir) })
	c := &containerd{dir: dir}
	config := filepath.Join(dir, "config.toml")
	must(t, os.WriteFile(config, []byte("version = 2\ndisabled_plugins = [\"io.containerd.grpc.v1.cri\"]\n"), 0o600))
	c.process = startProcess(t, "containerd", exec.Command("containerd", "--config", config, "--root", dir+"/root", "--state", dir+"/state", "--address", c.socket()))
	t.Cleanup(func() { c.terminate(t, 30*time.Second) })
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
