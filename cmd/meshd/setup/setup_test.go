package setup

import (
	"bytes"
	"context"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/alecthomas/kong"
	"github.com/rogpeppe/go-internal/diff"
	"github.com/rogpeppe/go-internal/txtar"
)

// setUp runs a command line below a root, and returns what it says.
func setUp(t testing.TB, root string, args ...string) (string, error) {
	t.Helper()
	var out bytes.Buffer
	parser, err := kong.New(&Command{}, kong.Vars{"mirror_addr": "127.0.0.1:65001"},
		kong.BindTo(context.Background(), (*context.Context)(nil)), kong.Bind(Streams{Out: &out, Err: &out}))
	if err != nil {
		t.Fatal(err)
	}
	parsed, err := parser.Parse(append(args, "--root", root))
	if err != nil {
		t.Fatal(err)
	}
	err = parsed.Run()
	return out.String(), err
}

// tree is files by path.
type tree map[string]string

func (want tree) check(t *testing.T, when, root string) {
	t.Helper()
	got := tree{}
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || strings.HasSuffix(path, backupSuffix) && when != "after undo" {
			return err
		}
		data, err := os.ReadFile(path)
		rel, _ := filepath.Rel(root, path)
		got[rel] = string(data)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	if maps.Equal(got, want) {
		return
	}
	for path := range want {
		if d := diff.Diff("want", []byte(want[path]), "got", []byte(got[path])); d != nil {
			t.Errorf("%s: %s\n%s", when, path, d)
		}
		delete(got, path)
	}
	if len(got) > 0 {
		t.Errorf("%s: there are also %v", when, got)
	}
}

func (files tree) write(t *testing.T, root string) {
	t.Helper()
	for path, data := range files {
		path = filepath.Join(root, path)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(data), 0o640); err != nil {
			t.Fatal(err)
		}
	}
}

// story is a golden file: a command line, the files before it (in/) and after it (out/), files that somebody edits then
// (edited/) and what --undo makes of those (undone/), lines that are said, or the error.
type story struct {
	args                    []string
	in, out, edited, undone tree
	says, err               string
}

func readStory(t *testing.T, path string) story {
	t.Helper()
	ar, err := txtar.ParseFile(path)
	if err != nil {
		t.Fatal(err)
	}
	s := story{in: tree{}, out: tree{}, edited: tree{}, undone: tree{}}
	trees := map[string]tree{"in": s.in, "out": s.out, "edited": s.edited, "undone": s.undone}
	for _, f := range ar.Files {
		data := string(f.Data)
		switch top, rest, nested := strings.Cut(f.Name, "/"); {
		case nested && trees[top] != nil:
			trees[top][rest] = data
		case f.Name == "args":
			s.args = strings.Fields(data)
		case f.Name == "says":
			s.says = data
		case f.Name == "error":
			s.err = strings.TrimSpace(data)
		default:
			t.Fatalf("%s: what is %s?", path, f.Name)
		}
	}
	return s
}

func TestStories(t *testing.T) {
	files, err := filepath.Glob("testdata/*.txtar")
	if err != nil || len(files) == 0 {
		t.Fatal(err, "no stories")
	}
	for _, path := range files {
		t.Run(strings.TrimSuffix(filepath.Base(path), ".txtar"), func(t *testing.T) {
			s := readStory(t, path)
			root := t.TempDir()
			s.in.write(t, root)
			if s.err != "" {
				s.fails(t, root)
				return
			}
			s.succeeds(t, root)
		})
	}
}

// fails: nothing is written.
func (s story) fails(t *testing.T, root string) {
	if _, err := setUp(t, root, s.args...); err == nil || !strings.Contains(err.Error(), s.err) {
		t.Errorf("got %v, want %q", err, s.err)
	}
	s.in.check(t, "after undo", root) // backups count too
}

func (s story) succeeds(t *testing.T, root string) {
	run := func(more ...string) string {
		t.Helper()
		said, err := setUp(t, root, append(s.args, more...)...)
		if err != nil {
			t.Fatal(err)
		}
		return said
	}
	run("--dry-run")
	s.in.check(t, "after undo", root)
	said := run()
	for line := range strings.Lines(s.says) {
		if !strings.Contains(said, strings.TrimSpace(line)) {
			t.Errorf("it does not say %q:\n%s", line, said)
		}
	}
	s.out.check(t, "after setup", root)
	if said := run(); !strings.HasSuffix(said, "nothing to change\n") {
		t.Errorf("the second run says\n%s", said)
	}
	s.out.check(t, "after the second setup", root)
	run("--undo", "--dry-run")
	s.out.check(t, "after an undo that is dry", root)
	if len(s.edited) == 0 {
		run("--undo")
		s.in.check(t, "after undo", root)
		return
	}
	s.edited.write(t, root)
	run("--undo")
	want := maps.Clone(s.in)
	maps.Copy(want, s.undone)
	want.check(t, "after undo", root)
}

// Mode and owner stay, of the file and of its backup; a link stays a link.
func TestModeAndLinksStay(t *testing.T) {
	root := t.TempDir()
	tree{"srv/docker.json": "{}\n"}.write(t, root)
	real := filepath.Join(root, "srv/docker.json")
	link := filepath.Join(root, "etc/docker/daemon.json")
	for _, err := range []error{
		os.Chmod(real, 0o600), os.MkdirAll(filepath.Dir(link), 0o755), os.Symlink("../../srv/docker.json", link),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	if os.Getuid() == 0 {
		if err := os.Chown(real, 12, 34); err != nil {
			t.Fatal(err)
		}
	}
	before, err := os.Stat(real)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := setUp(t, root, "docker"); err != nil {
		t.Fatal(err)
	}
	if info, err := os.Lstat(link); err != nil || info.Mode()&fs.ModeSymlink == 0 {
		t.Errorf("the link is gone: %v, %v", info, err)
	}
	for _, path := range []string{real, link + backupSuffix} {
		after, err := os.Stat(path)
		if err != nil {
			t.Fatal(err)
		}
		if after.Mode() != before.Mode() || owner(after) != owner(before) {
			t.Errorf("%s: %v %v, want %v %v", path, after.Mode(), owner(after), before.Mode(), owner(before))
		}
	}
}

func TestFlagsRefused(t *testing.T) {
	for _, args := range [][]string{
		{"docker", "--mirror-addr", "127.0.0.1"},
		{"docker", "--mirror-addr", "127.0.0.1:"},
	} {
		if _, err := setUp(t, t.TempDir(), args...); err == nil || !strings.Contains(err.Error(), "is not HOST:PORT") {
			t.Errorf("%v: %v", args, err)
		}
	}
}

// What clients' files hold beside setup's part is shown around the change, but for secrets.
func TestDiffHidesSecrets(t *testing.T) {
	root := t.TempDir()
	tree{
		"etc/docker/daemon.json": `{
  "proxies": {"https-proxy": "http://me:geheim@proxy.example:3128"},
  "log-opts": {"splunk-token": "geheim", "tag": "open"}
}
`,
		"etc/containerd/config.toml": `version = 2
[plugins."io.containerd.grpc.v1.cri".registry]
  config_path = "/etc/containerd/certs.d"
`,
		"etc/containerd/certs.d/_default/hosts.toml": `[host."https://me:geheim@old.example"]
[host."https://old.example".header]
  authorization = ["Basic geheim"]
`,
	}.write(t, root)
	for _, client := range []string{"docker", "containerd"} {
		said, err := setUp(t, root, client)
		if err != nil {
			t.Fatal(err)
		}
		if strings.Contains(said, "geheim") || !strings.Contains(said, "...") || !strings.Contains(said, "127.0.0.1:65001") {
			t.Errorf("%s says\n%s", client, said)
		}
	}
	data, err := os.ReadFile(filepath.Join(root, "etc/docker/daemon.json"))
	if err != nil || !strings.Contains(string(data), "me:geheim@") || !strings.Contains(string(data), `"tag": "open"`) {
		t.Errorf("the file holds %s, %v", data, err)
	}
}
