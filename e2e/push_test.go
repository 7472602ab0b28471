package e2e

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// Real clients push through the mirror to a registry that wants a login, by tokens or htpasswd; what is pushed is what the
// next pull gets, through the mirror and at the registry.
func TestPushThroughMirror(t *testing.T) {
	long(t)
	need(t, "skopeo", "podman")
	m, auth := guardedMesh(t, map[string]string{user: password}, []string{"team/app"}, nodeSpec{"east", true})
	mirror := m.nodes[0].mirror()
	first := m.registry.pushImage(t, "team/app", 1, 200_000, 1*mib)
	second := m.registry.pushImage(t, "open/app", 2, 300_000)
	d := startDocker(t, mirror)
	d.config = t.TempDir()
	_, err := d.run("login", "-u", user, "-p", password, mirror)
	must(t, err)
	to := mirror + "/" + guardedHost + "/team/app:"
	login := auths(t, mirror, user, password)
	authfile := filepath.Join(login, "config.json")
	from := func(img *image) string { return m.registry.addr + "/" + img.repo + ":" + img.tag }
	for _, client := range []struct {
		name string
		push func(t *testing.T, img *image, tag string) error
	}{
		{"skopeo", func(t *testing.T, img *image, tag string) error {
			_, err := command("skopeo", "--insecure-policy", "copy", "--preserve-digests", "--src-tls-verify=false", "--dest-tls-verify=false", "--dest-authfile", authfile, "docker://"+from(img), "docker://"+to+tag)
			return err
		}},
		{"crane", func(t *testing.T, img *image, tag string) error {
			t.Setenv("DOCKER_CONFIG", login)
			_, err := command(craneBinary(t), "copy", "--insecure", from(img), to+tag)
			return err
		}},
		{"docker", func(t *testing.T, img *image, tag string) error {
			for _, args := range [][]string{{"pull", mirror + "/" + guardedHost + "/" + img.repo}, {"tag", mirror + "/" + guardedHost + "/" + img.repo, to + tag}, {"push", to + tag}} {
				if _, err := d.run(args...); err != nil {
					return err
				}
			}
			return nil
		}},
	} {
		t.Run(client.name, func(t *testing.T) {
			for _, img := range []*image{first, second} {
				must(t, client.push(t, img, client.name))
				pushed := *byPath(img)
				pushed.repo, pushed.tag = guardedHost+"/team/app", client.name
				if client.name == "docker" { // it writes manifests of its own
					_, err := d.run("pull", to+client.name)
					must(t, err)
					out, err := d.run("image", "inspect", "--format", "{{.Id}}", to+client.name)
					if err != nil || strings.TrimSpace(out) != img.manifest.Config.Digest.String() {
						t.Errorf("docker has %s, want %v: %v", out, img.manifest.Config.Digest, err)
					}
					continue
				}
				must(t, skopeoPull(t, mirror, &pushed, "--src-creds", user+":"+password))
			}
		})
	}
	if _, err := command("skopeo", "--insecure-policy", "copy", "--src-tls-verify=false", "--dest-tls-verify=false", "--dest-creds", user+":wrong", "docker://"+from(first), "docker://"+to+"wrong"); err == nil {
		t.Error("pushed with a wrong password")
	}
	must(t, os.Remove(authfile))
	checkSecrets(t, m, auth)
}
