package e2e

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// setupNode is a node alone before a registry that stands for docker.io and quay.io, and meshd setup for it.
func setupNode(t *testing.T) (*registry, *node, func(args ...string) string) {
	t.Helper()
	n := newNetwork(t)
	r := startRegistry(t, n)
	m := &mesh{net: n, registry: r, origin: r.url(), dir: t.TempDir(), alone: true, extra: []string{"--registry", "quay.io=" + r.url()}}
	node := &node{mesh: m, host: n.host(1), zone: "one", dir: filepath.Join(m.dir, "node-1")}
	node.start(t)
	return r, node, func(args ...string) string {
		t.Helper()
		out, err := command(meshdBinary(t), append(append([]string{"setup"}, args...), "--mirror-addr", node.mirror())...)
		must(t, err)
		return out
	}
}

// dockerd with the daemon.json that setup makes pulls through the node.
func TestSetupDocker(t *testing.T) {
	r, node, setup := setupNode(t)
	img := r.pushImage(t, "library/setup", 11, mib)
	root := t.TempDir()
	file := filepath.Join(root, "etc/docker/daemon.json")
	must(t, os.MkdirAll(filepath.Dir(file), 0o755))
	const own = `{"max-concurrent-downloads": 2}`
	must(t, os.WriteFile(file, []byte(own), 0o600))
	said := setup("docker", "--root", root, "--check", "docker.io/library/setup:latest")
	if !strings.Contains(said, "a pull of docker.io/library/setup:latest passes through it") {
		t.Errorf("setup says\n%s", said)
	}
	d := startDockerConfig(t, file)
	before := node.status(t).BytesIn.network()
	must(t, d.pull(img))
	if after := node.status(t).BytesIn.network(); after == before {
		t.Error("the pull did not pass through the node")
	}
	setup("docker", "--root", root, "--undo")
	if data, err := os.ReadFile(file); err != nil || string(data) != own {
		t.Errorf("after undo: %q, %v", data, err)
	}
}

// skopeo, which reads what podman reads, pulls quay.io images through the node by the file that setup makes.
func TestSetupPodman(t *testing.T) {
	need(t, "skopeo")
	r, node, setup := setupNode(t)
	img := r.pushImage(t, "team/setup", 12, mib)
	home := t.TempDir()
	setup("podman", "--root", home, "--registry", "quay.io")
	user := filepath.Join(home, ".config/containers") // a user's own takes the place of the system's
	must(t, os.MkdirAll(user, 0o755))
	must(t, os.WriteFile(filepath.Join(user, "registries.conf"), nil, 0o600))
	must(t, os.Rename(filepath.Join(home, "etc/containers/registries.conf.d"), filepath.Join(user, "registries.conf.d"))) // links are not followed
	dir := filepath.Join(t.TempDir(), "image")
	_, err := commandEnv([]string{"HOME=" + home, "XDG_CONFIG_HOME="}, "skopeo", "--insecure-policy", "copy", "docker://quay.io/team/setup:latest", "dir:"+dir)
	must(t, err)
	must(t, checkFile(filepath.Join(dir, "manifest.json"), img.digest))
	if got := node.status(t).BytesIn.Origin; got < img.size {
		t.Errorf("%d bytes came through the node, the image has %d", got, img.size)
	}
}

// containerd reads the config.toml that setup makes as it was meant, and ctr pulls through the node by its hosts.toml.
func TestSetupContainerd(t *testing.T) {
	need(t, "containerd", "ctr")
	if os.Getuid() != 0 {
		missing(t, "containerd needs root")
	}
	r, node, setup := setupNode(t)
	img := r.pushImage(t, "team/setup", 13, mib)
	dir, err := os.MkdirTemp("", "meshd-e2e-containerd-") // t.TempDir is too long for a socket
	must(t, err)
	t.Cleanup(func() { os.RemoveAll(dir) })
	config := filepath.Join(dir, "etc/containerd/config.toml")
	must(t, os.MkdirAll(filepath.Dir(config), 0o755))
	before, err := command("containerd", "config", "default")
	must(t, err)
	must(t, os.WriteFile(config, []byte(before), 0o600))
	setup("containerd", "--root", dir)
	dump, err := command("containerd", "-c", config, "config", "dump")
	must(t, err)
	if !strings.Contains(dump, `config_path = "/etc/containerd/certs.d"`) {
		t.Errorf("containerd reads\n%s", dump)
	}

	socket := filepath.Join(dir, "sock")
	plain := filepath.Join(dir, "plain.toml") // the daemon of this test, without Kubernetes' plugin
	must(t, os.WriteFile(plain, []byte("version = 2\ndisabled_plugins = [\"io.containerd.grpc.v1.cri\"]\n"), 0o600))
	c := startProcess(t, "containerd", exec.Command("containerd", "-c", plain, "-a", socket, "--root", dir+"/root", "--state", dir+"/state"))
	c.waitFor(t, "answer", time.Minute, func() error {
		_, err := command("ctr", "-a", socket, "version")
		return err
	})
	_, err = command("ctr", "-a", socket, "content", "fetch", "--hosts-dir", filepath.Join(dir, "etc/containerd/certs.d"), "quay.io/team/setup:latest")
	must(t, err)
	for _, b := range img.blobs() {
		must(t, checkFile(filepath.Join(dir, "root/io.containerd.content.v1.content/blobs/sha256", b.Digest.Hex), b.Digest))
	}
	if got := node.status(t).BytesIn.Origin; got < img.size {
		t.Errorf("%d bytes came through the node, the image has %d", got, img.size)
	}
	must(t, c.terminate(t, time.Minute))

	setup("containerd", "--root", dir, "--undo")
	if after, err := os.ReadFile(config); err != nil || string(after) != before {
		t.Errorf("undo does not give the file back: %v", err)
	}
}

// A mirror that does not answer is said, and so is a pull that does not pass.
func TestSetupSaysWhatIsWrong(t *testing.T) {
	_, node, _ := setupNode(t)
	root := t.TempDir()
	for _, row := range []struct{ addr, want string }{
		{node.host + ":1", "nothing listens on " + node.host + ":1: start meshd run"},
		{node.admin(), "is no mirror: it answers /v2/ with 404"},
		{node.mirror(), "a pull of quay.io/no/such:image through " + node.mirror()},
	} {
		_, err := command(meshdBinary(t), "setup", "docker", "--root", root, "--mirror-addr", row.addr, "--check", "quay.io/no/such:image")
		if err == nil || !strings.Contains(err.Error(), row.want) {
			t.Errorf("%s: got %v, want %q", row.addr, err, row.want)
		}
	}
	data, err := os.ReadFile(filepath.Join(root, "etc/docker/daemon.json"))
	must(t, err)
	if !json.Valid(data) {
		t.Errorf("daemon.json holds %q", data)
	}
}
