package e2e

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
)

// clientTimeout bounds one pull by a real client.
const clientTimeout = 3 * time.Minute

// length is a status value that is a number or a list.
type length struct{ n int }

func (l *length) UnmarshalJSON(data []byte) error {
	if json.Unmarshal(data, &l.n) == nil {
		return nil
	}
	var list []json.RawMessage
	err := json.Unmarshal(data, &list)
	l.n = len(list)
	return err
}

func readAll(t testing.TB, r io.Reader) string {
	t.Helper()
	data, err := io.ReadAll(r)
	must(t, err)
	return string(data)
}

// command runs a client to its end.
func command(name string, args ...string) (string, error) {
	return commandEnv(nil, name, args...)
}

// commandEnv is command with something added to the environment.
func commandEnv(env []string, name string, args ...string) (string, error) {
	return commandFor(clientTimeout, env, name, args...)
}

// commandFor is commandEnv with a bound of its own.
func commandFor(limit time.Duration, env []string, name string, args ...string) (string, error) {
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	defer cancel()
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Env = append(os.Environ(), env...)
	out, err := cmd.CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("%s %s: %w\n%s", filepath.Base(name), strings.Join(args, " "), err, out)
	}
	return string(out), nil
}

// docker is a dockerd with one mirror.
type docker struct {
	*process
	host   string // DOCKER_HOST
	config string // the client's directory with logins; "": the user's own
}

// startDocker starts a dockerd with a mirror, env added to its environment.
func startDocker(t testing.TB, mirror string, env ...string) *docker {
	t.Helper()
	config := filepath.Join(t.TempDir(), "daemon.json")
	must(t, os.WriteFile(config, fmt.Appendf(nil, `{"registry-mirrors": ["http://%s"]}`, mirror), 0o600))
	return startDockerConfig(t, config, env...)
}

// startDockerConfig starts a dockerd that touches nothing outside of its own directory.
func startDockerConfig(t testing.TB, config string, env ...string) *docker {
	t.Helper()
	need(t, "dockerd", "docker", "containerd")
	if os.Getuid() != 0 {
		missing(t, "dockerd needs root")
	}
	dir, err := os.MkdirTemp("", "meshd-e2e-docker-") // t.TempDir is too long for a socket
	must(t, err)
	t.Cleanup(func() { os.RemoveAll(dir) })
	d := &docker{host: "unix://" + dir + "/docker.sock"}
	cmd := exec.Command("dockerd", "--config-file", config, "--data-root", dir+"/root", "--exec-root", dir+"/exec",
		"--pidfile", dir+"/pid", "-H", d.host, "--bridge", "none", "--iptables=false", "--ip6tables=false",
		"--ip-forward=false", "--ip-masq=false")
	cmd.Env = append(os.Environ(), env...)
	d.process = startProcess(t, "dockerd", cmd)
	t.Cleanup(func() { d.terminate(t, time.Minute) }) // before the kill: it stops its containerd
	d.waitFor(t, "answer", 60*time.Second, func() error {
		_, err := d.run("version")
		return err
	})
	return d
}

func (d *docker) run(args ...string) (string, error) {
	if d.config != "" {
		args = append([]string{"--config", d.config}, args...)
	}
	return command("docker", append([]string{"-H", d.host}, args...)...)
}

// pull pulls and compares what docker has with what was pushed.
func (d *docker) pull(img *image) error {
	ref := strings.TrimPrefix(img.repo, "library/") + ":" + img.tag
	if _, err := d.run("pull", ref); err != nil {
		return err
	}
	out, err := d.run("image", "inspect", ref)
	if err != nil {
		return err
	}
	var got []struct {
		ID          string `json:"Id"`
		RepoDigests []string
		RootFS      struct{ Layers []v1.Hash }
	}
	if err := json.Unmarshal([]byte(out), &got); err != nil || len(got) != 1 {
		return fmt.Errorf("docker image inspect: %w: %s", err, out)
	}
	switch {
	case got[0].ID != img.manifest.Config.Digest.String():
		return fmt.Errorf("docker has config %s, want %v", got[0].ID, img.manifest.Config.Digest)
	case !slices.Equal(got[0].RootFS.Layers, img.diffIDs):
		return fmt.Errorf("docker has layers %v, want %v", got[0].RootFS.Layers, img.diffIDs)
	case len(got[0].RepoDigests) != 1 || !strings.HasSuffix(got[0].RepoDigests[0], "@"+img.digest.String()):
		return fmt.Errorf("docker has digests %v, want %v", got[0].RepoDigests, img.digest)
	}
	return nil
}

func (d *docker) remove(img *image) error {
	_, err := d.run("image", "rm", strings.TrimPrefix(img.repo, "library/")+":"+img.tag)
	return err
}

// cranePull pulls with crane into a fresh OCI layout and checks every blob.
func cranePull(t testing.TB, mirror string, img *image) error {
	dir := filepath.Join(t.TempDir(), "crane")
	if _, err := command(craneBinary(t), "pull", "--insecure", "--format=oci", mirror+"/"+img.repo+":"+img.tag, dir); err != nil {
		return err
	}
	for _, b := range append(img.blobs(), v1.Descriptor{Digest: img.digest}) {
		if err := checkFile(filepath.Join(dir, "blobs", "sha256", b.Digest.Hex), b.Digest); err != nil {
			return fmt.Errorf("crane from %s: %w", mirror, err)
		}
	}
	return nil
}

// skopeoPull copies with skopeo into a fresh directory and checks every blob.
func skopeoPull(t testing.TB, mirror string, img *image, args ...string) error {
	dir := filepath.Join(t.TempDir(), "skopeo")
	args = append([]string{"--insecure-policy", "copy", "--src-tls-verify=false"}, args...)
	_, err := command("skopeo", append(args, "docker://"+mirror+"/"+img.repo+":"+img.tag, "dir:"+dir)...)
	if err != nil {
		return err
	}
	if err := checkFile(filepath.Join(dir, "manifest.json"), img.digest); err != nil {
		return fmt.Errorf("skopeo from %s: %w", mirror, err)
	}
	for _, b := range img.blobs() {
		if err := checkFile(filepath.Join(dir, b.Digest.Hex), b.Digest); err != nil {
			return fmt.Errorf("skopeo from %s: %w", mirror, err)
		}
	}
	return nil
}

// podmanPull pulls into a storage of its own and checks the image's configuration digest.
func podmanPull(t testing.TB, mirror string, img *image, user, password string) error {
	t.Helper()
	dir, err := os.MkdirTemp("", "meshd-e2e-podman-")
	must(t, err)
	defer os.RemoveAll(dir)
	args := []string{"--root", dir + "/root", "--runroot", dir + "/run", "--storage-driver", "vfs", "--cgroup-manager", "cgroupfs", "pull", "-q", "--tls-verify=false"}
	if user != "" {
		args = append(args, "--creds", user+":"+password)
	}
	out, err := command("podman", append(args, mirror+"/"+img.repo+":"+img.tag)...)
	if err == nil && !strings.Contains(out, img.manifest.Config.Digest.Hex) {
		err = fmt.Errorf("podman has %s, want %v", out, img.manifest.Config.Digest)
	}
	return err
}

func checkFile(path string, want v1.Hash) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	h := sha256.New()
	if _, err := io.Copy(h, f); err != nil {
		return err
	}
	if got := hex.EncodeToString(h.Sum(nil)); got != want.Hex {
		return fmt.Errorf("%s has sha256:%s, want %v", path, got, want)
	}
	return nil
}

// httpPull is a plain client: manifest and all blobs, one after the other, every digest checked.
func httpPull(ctx context.Context, mirror string, img *image) error {
	base := "http://" + mirror + "/v2/" + img.repo
	if _, err := httpGet(ctx, base+"/manifests/"+img.tag, img.digest); err != nil {
		return err
	}
	for _, b := range img.blobs() {
		if _, err := httpGet(ctx, base+"/blobs/"+b.Digest.String(), b.Digest); err != nil {
			return err
		}
	}
	return nil
}

// errStatus is an answer other than 200.
var errStatus = errors.New("unexpected status")

// httpGet reads an answer to its end, checks its digest and returns its length.
func httpGet(ctx context.Context, url string, want v1.Hash) (int64, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return 0, err
	}
	req.Header.Set("Accept", "application/vnd.oci.image.manifest.v1+json, */*")
	resp, err := httpClient.Do(req)
	if err != nil {
		return 0, err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		body, _ := io.ReadAll(io.LimitReader(resp.Body, 1000))
		return 0, fmt.Errorf("GET %s: %w: %s: %s", url, errStatus, resp.Status, body)
	}
	h := sha256.New()
	n, err := io.Copy(h, resp.Body)
	if err != nil {
		return n, fmt.Errorf("GET %s: after %d bytes: %w", url, n, err)
	}
	if got := hex.EncodeToString(h.Sum(nil)); got != want.Hex {
		return n, fmt.Errorf("GET %s: a clean ending after %d bytes of sha256:%s", url, n, got)
	}
	return n, nil
}
