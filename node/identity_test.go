package node

import (
	"bytes"
	"errors"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/multiformats/go-multiaddr"
)

func TestIdentityIsMadeOnceAndKept(t *testing.T) {
	dir := openDir(t)
	first, err := loadIdentity(dir)
	if err != nil {
		t.Fatal(err)
	}
	again, err := loadIdentity(dir)
	if err != nil || !again.Equals(first) {
		t.Errorf("another identity at the second start: %v", err)
	}
	info, err := os.Stat(filepath.Join(dir, IdentityFile))
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("mode %v, %v", info.Mode(), err)
	}
	other, err := loadIdentity(t.TempDir())
	if err != nil || other.Equals(first) {
		t.Errorf("two data dirs have one identity: %v", err)
	}
}

func TestIdentityRefuses(t *testing.T) {
	for _, row := range []struct {
		name string
		data string
		mode os.FileMode
		want string
	}{
		{"open to others", "x", 0o644, "0600"},
		{"empty", "", 0o600, IdentityFile},
		{"nonsense", "hello", 0o600, IdentityFile},
	} {
		t.Run(row.name, func(t *testing.T) {
			dir := openDir(t)
			path := filepath.Join(dir, IdentityFile)
			if err := errors.Join(os.WriteFile(path, []byte(row.data), row.mode), os.Chmod(path, row.mode)); err != nil { // whatever the umask
				t.Fatal(err)
			}
			if _, err := loadIdentity(dir); err == nil || !strings.Contains(err.Error(), row.want) {
				t.Errorf("got %v, want %q", err, row.want)
			}
			if kept, err := os.ReadFile(path); err != nil || string(kept) != row.data {
				t.Errorf("the file was changed to %q, %v", kept, err)
			}
		})
	}
}

func TestMeshKey(t *testing.T) {
	dir := openDir(t)
	text, err := NewMeshKey()
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, "given.key")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	load := func(path string) ([]byte, error) {
		k, err := openMeshKeys(path, dir)
		if err != nil {
			return nil, err
		}
		return k.all()[0].psk, nil
	}
	given, err := load(path)
	if err != nil || len(given) != 32 {
		t.Fatalf("%d bytes, %v", len(given), err)
	}
	if _, err := os.Stat(filepath.Join(dir, MeshKeyFile)); err == nil {
		t.Error("an own key was made beside the given one")
	}
	own, err := load("")
	if err != nil || bytes.Equal(own, given) {
		t.Fatalf("own key: %v", err)
	}
	again, err := load("")
	if err != nil || !bytes.Equal(own, again) {
		t.Errorf("another own key at the second start: %v", err)
	}
	if _, err := load(filepath.Join(dir, "missing")); err == nil {
		t.Error("a missing key file is no error")
	}
	if err := os.WriteFile(path, []byte("secret"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := load(path); err == nil || strings.Contains(err.Error(), "secret") {
		t.Errorf("a broken key file: %v", err)
	}
}

func TestWriteFileReplaces(t *testing.T) {
	dir := openDir(t)
	path := filepath.Join(dir, "f")
	for _, text := range []string{"one", "two"} {
		if err := writeFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if got, err := os.ReadFile(path); err != nil || string(got) != text {
			t.Errorf("%q, %v", got, err)
		}
	}
	if files, err := os.ReadDir(dir); err != nil || len(files) != 1 {
		t.Errorf("%d files left, %v", len(files), err)
	}
	if err := writeFile(filepath.Join(dir, "no", "f"), nil, 0o600); err == nil {
		t.Error("no error without the folder")
	}
}

func addrs(s ...string) (out []multiaddr.Multiaddr) {
	for _, a := range s {
		out = append(out, multiaddr.StringCast(a))
	}
	return out
}

func texts(list []multiaddr.Multiaddr) (out []string) {
	for _, a := range list {
		out = append(out, a.String())
	}
	return out
}

func TestNarrow(t *testing.T) {
	got := texts(narrow(addrs("/ip4/0.0.0.0/tcp/1", "/ip6/::/tcp/2", "/ip4/127.0.0.3/tcp/3")))
	if want := []string{"/ip4/127.0.0.1/tcp/1", "/ip6/::1/tcp/2", "/ip4/127.0.0.3/tcp/3"}; !slices.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
	for in, want := range map[string]string{
		"0.0.0.0:1": "127.0.0.1:1", "[::]:1": "[::1]:1", ":1": "127.0.0.1:1", "127.0.0.2:1": "127.0.0.2:1",
	} {
		if got := narrowHostPort(in); got != want {
			t.Errorf("%s: %s, want %s", in, got, want)
		}
	}
}

func TestAddrBook(t *testing.T) {
	for _, row := range []struct {
		name              string
		listen, own, told []string // listened on, resolved by the host, told to others
		heard, kept       []string // told by others, kept
	}{
		{
			"loopback alone",
			[]string{"/ip4/127.0.0.2/tcp/1"},
			[]string{"/ip4/127.0.0.2/tcp/1"},
			[]string{"/ip4/127.0.0.2/tcp/1"},
			[]string{"/ip4/127.0.0.3/tcp/1", "/ip4/10.0.0.1/tcp/1"},
			[]string{"/ip4/127.0.0.3/tcp/1", "/ip4/10.0.0.1/tcp/1"},
		},
		{
			"a real address besides",
			[]string{"/ip4/0.0.0.0/tcp/1"},
			[]string{"/ip4/127.0.0.1/tcp/1", "/ip4/10.0.0.5/tcp/1"},
			[]string{"/ip4/10.0.0.5/tcp/1"},
			[]string{"/ip4/127.0.0.1/tcp/1", "/ip4/10.0.0.1/tcp/1"},
			[]string{"/ip4/10.0.0.1/tcp/1"},
		},
		{
			"a bridge, and link-local",
			[]string{"/ip4/0.0.0.0/tcp/1"},
			[]string{"/ip4/172.17.0.1/tcp/1", "/ip4/10.0.0.5/tcp/1", "/ip6/fe80::1/tcp/1"},
			[]string{"/ip4/10.0.0.5/tcp/1"},
			[]string{"/ip6/fe80::2/tcp/1", "/ip4/0.0.0.0/tcp/1", "/ip4/10.0.0.1/udp/1/quic-v1"},
			nil,
		},
		{
			"nothing but bridge and loopback",
			[]string{"/ip4/0.0.0.0/tcp/1"},
			[]string{"/ip4/172.17.0.1/tcp/1", "/ip4/127.0.0.1/tcp/1"},
			[]string{"/ip4/127.0.0.1/tcp/1"},
			[]string{"/ip4/127.0.0.1/tcp/9"},
			[]string{"/ip4/127.0.0.1/tcp/9"},
		},
		{
			"a bridge by name",
			[]string{"/ip4/172.17.0.1/tcp/1"},
			[]string{"/ip4/172.17.0.1/tcp/1"},
			[]string{"/ip4/172.17.0.1/tcp/1"},
			nil, nil,
		},
	} {
		t.Run(row.name, func(t *testing.T) {
			b := newAddrBook(addrs(row.listen...))
			b.own(nil) // reads the interfaces of this machine
			b.bridges = map[string]bool{net.IPv4(172, 17, 0, 1).String(): true}
			if got := texts(b.own(addrs(row.own...))); !slices.Equal(got, row.told) {
				t.Errorf("tells %v, want %v", got, row.told)
			}
			if got := texts(b.others(addrs(row.heard...))); !slices.Equal(got, row.kept) {
				t.Errorf("keeps %v, want %v", got, row.kept)
			}
		})
	}
}

func TestIsBridge(t *testing.T) {
	for name, want := range map[string]bool{"docker0": true, "br-1a2b": true, "veth12": true, "cni0": true, "eth0": false, "bond0": false, "lo": false} {
		if isBridge(name) != want {
			t.Errorf("%s: %t", name, !want)
		}
	}
}

// A file that is not a key may be one without its header: what is in it must not reach the log.
func TestBadMeshKeyIsNotQuoted(t *testing.T) {
	path := filepath.Join(t.TempDir(), "mesh.key")
	const text = "f7e3bda7ab8d0123456789abcdef0123456789abcdef0123456789abcdef0123"
	if err := os.WriteFile(path, []byte(text+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := openMeshKeys(path, ""); err == nil || strings.Contains(err.Error(), text[:8]) {
		t.Fatalf("%v", err)
	}
}
