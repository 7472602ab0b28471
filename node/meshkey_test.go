package node

import (
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/pnet"
	privnet "github.com/libp2p/go-libp2p/p2p/net/pnet"
	"github.com/multiformats/go-multiaddr"
)

// testKeys are keys that are all of one byte each.
func testKeys(bs ...byte) *meshKeys {
	k := &meshKeys{conns: make(map[*memberConn]string)}
	for _, b := range bs {
		k.keys = append(k.keys, newMeshKey(pnet.PSK(bytes.Repeat([]byte{b}, 32))))
	}
	return k
}

func connect(ctx context.Context, from, to host.Host) error {
	return from.Connect(ctx, peer.AddrInfo{ID: to.ID(), Addrs: to.Addrs()})
}

// Who has a key in common is connected, under the first of the dialer's that the other has; who has not, is not.
func TestKeysInCommon(t *testing.T) {
	for _, row := range []struct {
		name           string
		dialer, dialed []byte
		key            byte // 0: no connection
	}{
		{"one key", []byte{1}, []byte{1}, 1},
		{"another key", []byte{1}, []byte{2}, 0},
		{"both rotate", []byte{2, 1}, []byte{2, 1}, 2},
		{"the dialer rotates", []byte{2, 1}, []byte{1}, 1},
		{"the dialed rotates", []byte{1}, []byte{2, 1}, 1},
		{"the dialer is done", []byte{2}, []byte{2, 1}, 2},
		{"the dialed is done", []byte{2, 1}, []byte{2}, 2},
		{"before and after", []byte{1}, []byte{2}, 0},
		{"another rotation", []byte{2, 1}, []byte{4, 3}, 0},
	} {
		t.Run(row.name, func(t *testing.T) {
			a, b := testKeys(row.dialer...), testKeys(row.dialed...)
			from, to := bareHost(t, a), bareHost(t, b, multiaddr.StringCast("/ip4/127.0.0.1/tcp/0"))
			err := connect(t.Context(), from, to)
			if row.key == 0 {
				if err == nil || len(to.Network().Peers()) > 0 {
					t.Errorf("connected: %v", err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			want := testKeys(row.key).keys[0].id
			for side, k := range map[string]*meshKeys{"dialer": a, "dialed": b} {
				for _, s := range k.status() {
					if s.Connections > 0 != (s.ID == want) {
						t.Errorf("%s: %d connections with %s, want them with %s", side, s.Connections, s.ID, want)
					}
				}
			}
			p, err := newProber(from.Peerstore().PrivKey(from.ID()), a)
			if err != nil {
				t.Fatal(err)
			}
			addr, _ := to.Network().ListenAddresses()[0].ValueForProtocol(multiaddr.P_TCP)
			if id, err := p.peerID(t.Context(), "127.0.0.1:"+addr); id != to.ID() || err != nil {
				t.Errorf("asked who it is: %s, %v", id, err)
			}
		})
	}
}

// A connection is made anew when its key is not the first any more and both sides have a new one, without the peer being
// away in between, and is cut when its key is no good any more.
func TestKeysRenewed(t *testing.T) {
	a, b := testKeys(1), testKeys(1)
	from, to := bareHost(t, a), bareHost(t, b, multiaddr.StringCast("/ip4/127.0.0.1/tcp/0"))
	var away atomic.Int32
	from.Network().Notify(&network.NotifyBundle{DisconnectedF: func(n network.Network, c network.Conn) {
		if n.Connectedness(c.RemotePeer()) != network.Connected {
			away.Add(1)
		}
	}})
	step := func(k *meshKeys, h host.Host, to *meshKeys) {
		k.mu.Lock()
		k.keys = to.keys
		k.mu.Unlock()
		k.renew(t.Context(), redial(h))
	}
	under := func(k *meshKeys) (id string) {
		for _, s := range k.status() {
			if s.Connections > 0 {
				id += s.ID
			}
		}
		return id
	}
	first, second := testKeys(1).keys[0].id, testKeys(2).keys[0].id
	if err := connect(t.Context(), from, to); err != nil || under(a) != first {
		t.Fatalf("under %s, %v", under(a), err)
	}
	step(a, from, testKeys(2, 1))
	if under(a) != first || under(b) != first {
		t.Fatalf("one side rotates: under %s and %s", under(a), under(b))
	}
	step(b, to, testKeys(2, 1))
	a.renew(t.Context(), redial(from))
	if n := len(from.Network().ConnsToPeer(to.ID())); n != 2 {
		t.Fatalf("%d connections while streams move over", n)
	}
	onNewest(t, from, to.ID())
	onNewest(t, to, from.ID())
	a.renew(t.Context(), redial(from))
	eventually(t, "the new key alone", func() bool { return under(a) == second && under(b) == second })
	step(a, from, testKeys(2))
	step(b, to, testKeys(2))
	if under(a) != second || under(b) != second || away.Load() != 0 {
		t.Fatalf("the end of the rotation: under %s and %s, %d times away", under(a), under(b), away.Load())
	}
	step(b, to, testKeys(3))
	eventually(t, "the end of the connection", func() bool { return away.Load() == 1 })
	if err := connect(t.Context(), from, to); err == nil {
		t.Fatal("connected without a key in common")
	}
}

// onNewest waits until a host opens streams to a peer on the newest of two connections, though the other has more of them.
func onNewest(t *testing.T, h host.Host, to peer.ID) {
	t.Helper()
	eventually(t, "streams on the new connection", func() bool {
		conns := h.Network().ConnsToPeer(to)
		if len(conns) != 2 {
			return false
		}
		newest := slices.MaxFunc(conns, func(a, b network.Conn) int { return a.Stat().Opened.Compare(b.Stat().Opened) })
		s, err := h.Network().NewStream(t.Context(), to)
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = s.Reset() }()
		return s.Conn().ID() == newest.ID()
	})
}

// What a stranger sends gets no answer, not a byte.
func TestStrangersHearNothing(t *testing.T) {
	to := bareHost(t, testKeys(1), multiaddr.StringCast("/ip4/127.0.0.1/tcp/0"))
	_, addr, err := multiaddrDial(to)
	if err != nil {
		t.Fatal(err)
	}
	for name, send := range map[string][]byte{
		"in the clear": append(append([]byte{}, greeting...), "\x0b/tls/1.0.0\n"...), "noise": bytes.Repeat([]byte{7}, 100),
	} {
		c := dialRaw(t, addr)
		if _, err := c.Write(send); err != nil {
			t.Fatal(err)
		}
		if got, err := io.ReadAll(io.LimitReader(c, 1<<10)); len(got) > 0 {
			t.Errorf("%s: heard %q, %v", name, got, err)
		}
		c.Close()
	}
	c := dialRaw(t, addr)
	defer c.Close()
	other, err := privnet.NewProtectedConn(testKeys(2).keys[0].psk, c)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := other.Write(greeting); err != nil {
		t.Fatal(err)
	}
	if got, err := io.ReadAll(io.LimitReader(c, 1<<10)); len(got) > 0 {
		t.Errorf("another key: heard %q, %v", got, err)
	}
}

func TestMeshKeyFile(t *testing.T) {
	path := newKey(t)
	before, err := MeshKeyIDs(path)
	if err != nil || len(before) != 1 {
		t.Fatalf("%q, %v", before, err)
	}
	if _, err := RetireMeshKey(path); err == nil {
		t.Error("the only key is retired")
	}
	both, err := RotateMeshKey(path)
	if err != nil || len(both) != 2 || both[1] != before[0] || both[0] == before[0] {
		t.Fatalf("%q, %v", both, err)
	}
	if _, err := RotateMeshKey(path); err == nil {
		t.Error("a third key")
	}
	if info, err := os.Stat(path); err != nil || info.Mode() != 0o600 {
		t.Errorf("%v, %v", info, err)
	}
	after, err := RetireMeshKey(path)
	if err != nil || len(after) != 1 || after[0] != both[0] {
		t.Errorf("%q, %v", after, err)
	}
}

func TestMeshKeyFileRefuses(t *testing.T) {
	one, _ := NewMeshKey()
	two, _ := NewMeshKey()
	three, _ := NewMeshKey()
	for name, text := range map[string]string{
		"empty": "", "no header": "deadbeef", "something before": "x\n" + one, "short": one[:60], "not hex": strings.Replace(one, "16/\n", "16/\nzz", 1),
		"twice": one + one, "three": one + two + three, "another encoding": strings.Replace(one, "base16", "base17", 1),
	} {
		path := filepath.Join(t.TempDir(), "key")
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		_, err := openMeshKeys(path, "")
		if err == nil || strings.Contains(err.Error(), "dead") || strings.Contains(err.Error(), one[40:60]) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// A file that becomes bad leaves the keys in force.
func TestMeshKeyReload(t *testing.T) {
	path := newKey(t)
	k, err := openMeshKeys(path, "")
	if err != nil {
		t.Fatal(err)
	}
	if k.reload() {
		t.Error("changed by itself")
	}
	before := k.all()[0].id
	if err := os.WriteFile(path, []byte("nothing"), 0o600); err != nil {
		t.Fatal(err)
	}
	if k.reload() || k.all()[0].id != before {
		t.Error("a bad file counts")
	}
	text, _ := NewMeshKey()
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	if !k.reload() || k.all()[0].id == before {
		t.Error("a new key does not count")
	}
}

// Any file gives one or two keys, or an error that does not show it.
func FuzzMeshKeyFile(f *testing.F) {
	f.Add([]byte(keyHeader + "/base16/\n" + strings.Repeat("0a", 32) + "\n"))
	f.Add([]byte(keyHeader + "/bin/\n" + strings.Repeat("x", 32) + keyHeader + "/base64/\nAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA="))
	f.Add([]byte("/key/swarm/psk/1.0.0/\r\n/base16/\r\n"))
	f.Fuzz(func(t *testing.T, raw []byte) {
		keys, err := parseMeshKeys(raw)
		if err == nil && (len(keys) < 1 || len(keys) > maxMeshKeys) {
			t.Errorf("%d keys", len(keys))
		}
		for _, k := range keys {
			if len(k.psk) != 32 || len(k.id) != 8 {
				t.Errorf("key of %d bytes, id %q", len(k.psk), k.id)
			}
		}
	})
}

// Whatever a stranger sends first, no key is found for it.
func FuzzGreeting(f *testing.F) {
	keys := testKeys(1, 2).keys
	f.Add(make([]byte, nonceSize+len(greeting)))
	f.Add(greeting)
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, head []byte) {
		if key, ok := keyOf(head, keys); ok {
			t.Errorf("%x is taken for %s", head, key.id)
		}
	})
}

func TestHandshakeErrorIsTold(t *testing.T) {
	from, to := bareHost(t, testKeys(1)), bareHost(t, testKeys(2), multiaddr.StringCast("/ip4/127.0.0.1/tcp/0"))
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	if err := connect(ctx, from, to); err == nil || !strings.Contains(err.Error(), "another mesh key?") || errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("%v", err)
	}
}
