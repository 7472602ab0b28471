package main

import (
	"context"
	"crypto/rand"
	"errors"
	"flag"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/libp2p/go-libp2p/core/crypto"
	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/pnet"
	"github.com/libp2p/go-libp2p/core/sec"
	basichost "github.com/libp2p/go-libp2p/p2p/host/basic"
	"github.com/libp2p/go-libp2p/p2p/host/eventbus"
	"github.com/libp2p/go-libp2p/p2p/host/peerstore/pstoremem"
	"github.com/libp2p/go-libp2p/p2p/muxer/yamux"
	"github.com/libp2p/go-libp2p/p2p/net/swarm"
	"github.com/libp2p/go-libp2p/p2p/net/upgrader"
	libp2ptls "github.com/libp2p/go-libp2p/p2p/security/tls"
	"github.com/libp2p/go-libp2p/p2p/transport/tcp"
	"github.com/multiformats/go-multiaddr"
	"github.com/opencontainers/go-digest"

	"github.com/meshd-project/meshd/dht"
	"github.com/meshd-project/meshd/dht/gossip"
)

// Ports are those of a node.
const (
	controlPort = 65003
	dataPort    = 65004
)

// liar is the process.
type liar struct {
	addr, zone, blobs string
	seed              bool
	lies              []string
	key               crypto.PrivKey
	host              host.Host
	gossip            *gossip.Gossip
	dht               *dht.DHT
	turn              atomic.Uint64 // of the lies

	mu  sync.Mutex
	out map[peer.ID]network.Stream // control streams to those who believe
}

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, "liar:", err)
		os.Exit(1)
	}
}

func run() error {
	// Another host would lie with a processor of its own: here a flood takes what the honest leave.
	if err := syscall.Setpriority(syscall.PRIO_PGRP, 0, 10); err != nil {
		return fmt.Errorf("nice: %w", err)
	}
	l := &liar{out: map[peer.ID]network.Stream{}}
	var keyFile, lies string
	flag.StringVar(&keyFile, "mesh-key", "", "")
	flag.StringVar(&l.addr, "addr", "127.0.0.1", "")
	flag.StringVar(&l.zone, "zone", "default", "")
	flag.StringVar(&l.blobs, "blobs", "", "")
	flag.StringVar(&lies, "lies", "", "")
	flag.BoolVar(&l.seed, "seed", false, "")
	flag.Parse()
	l.lies = strings.Split(lies, ",")
	for _, kind := range l.lies {
		if !slices.Contains(kinds, kind) {
			return fmt.Errorf("no such lie: %q", kind)
		}
	}
	var err error
	if l.key, _, err = crypto.GenerateEd25519Key(rand.Reader); err != nil {
		return err
	}
	if err := l.openHost(keyFile); err != nil {
		return err
	}
	if err := l.openMesh(); err != nil {
		return err
	}
	if err := l.openData(); err != nil {
		return err
	}
	l.host.SetStreamHandler(controlProtocol, l.listen)
	ctx := context.Background()
	go l.gossip.Run(ctx) //nolint:errcheck // it ends with the process
	go l.dht.Run(ctx)    //nolint:errcheck
	fmt.Println(l.host.ID())
	for _, a := range flag.Args() {
		info, err := peer.AddrInfoFromString(strings.TrimSpace(a))
		if err != nil {
			return err
		}
		if err := l.connect(ctx, *info); err != nil {
			return err
		}
	}
	return l.tell(ctx)
}

// openHost makes a host like a node's: TCP, TLS and yamux under the mesh key.
func (l *liar) openHost(keyFile string) error {
	f, err := os.Open(keyFile)
	if err != nil {
		return err
	}
	defer f.Close()
	psk, err := pnet.DecodeV1PSK(f)
	if err != nil {
		return err
	}
	id, err := peer.IDFromPrivateKey(l.key)
	if err != nil {
		return err
	}
	ps, err := pstoremem.NewPeerstore()
	if err != nil {
		return err
	}
	if err := errors.Join(ps.AddPrivKey(id, l.key), ps.AddPubKey(id, l.key.GetPublic())); err != nil {
		return err
	}
	bus := eventbus.NewBus()
	rm := &network.NullResourceManager{}
	sw, err := swarm.NewSwarm(id, ps, bus, swarm.WithResourceManager(rm), swarm.WithUDPBlackHoleSuccessCounter(nil), swarm.WithIPv6BlackHoleSuccessCounter(nil))
	if err != nil {
		return err
	}
	muxers := []upgrader.StreamMuxer{{ID: yamux.ID, Muxer: yamux.DefaultTransport}}
	security, err := libp2ptls.New(libp2ptls.ID, l.key, muxers)
	if err != nil {
		return err
	}
	up, err := upgrader.New([]sec.SecureTransport{security}, muxers, psk, rm, nil)
	if err != nil {
		return err
	}
	t, err := tcp.NewTCPTransport(up, rm, nil, tcp.DisableReuseport())
	if err != nil {
		return err
	}
	listen, err := multiaddr.NewMultiaddr(fmt.Sprintf("/ip4/%s/tcp/%d", l.addr, controlPort))
	if err != nil {
		return err
	}
	if err := errors.Join(sw.AddTransport(t), sw.Listen(listen)); err != nil {
		return err
	}
	h, err := basichost.NewHost(sw, &basichost.HostOpts{EventBus: bus, EnablePing: true, UserAgent: "meshd"})
	if err != nil {
		return err
	}
	h.Start()
	l.host = h
	return nil
}

func (l *liar) openMesh() (err error) {
	l.gossip, err = gossip.New(l.host, gossip.Config{Zone: l.zone, Seed: l.seed, DataHost: l.addr, DataPort: dataPort, Interval: time.Second})
	if err != nil {
		return err
	}
	l.dht, err = dht.New(l.host, dht.Config{Zone: l.zone, Seed: l.seed, Members: l.gossip})
	return err
}

// openData serves the data port.
func (l *liar) openData() error {
	listener, err := net.Listen("tcp", net.JoinHostPort(l.addr, fmt.Sprint(dataPort)))
	if err != nil {
		return err
	}
	identity, err := libp2ptls.NewIdentity(l.key)
	if err != nil {
		return err
	}
	server := &http.Server{Handler: http.HandlerFunc(l.servePiece), ErrorLog: log.New(io.Discard, "", 0)} // liars fill it for each other
	go server.Serve(&dataListener{listener, identity})                                                    //nolint:errcheck // it ends with the process
	return nil
}

// connect tries for half a minute, as the machine may be busy.
func (l *liar) connect(ctx context.Context, to peer.AddrInfo) error {
	for deadline := time.Now().Add(30 * time.Second); ; time.Sleep(time.Second) {
		err := l.host.Connect(ctx, to)
		if err == nil || time.Now().After(deadline) {
			return err
		}
	}
}

// digests lists the true blobs.
func (l *liar) digests() []digest.Digest {
	entries, err := os.ReadDir(l.blobs)
	if err != nil {
		return nil
	}
	var out []digest.Digest
	for _, e := range entries {
		if d := digest.NewDigestFromEncoded(digest.SHA256, e.Name()); d.Validate() == nil {
			out = append(out, d)
		}
	}
	return out
}

func (l *liar) path(d digest.Digest) string { return filepath.Join(l.blobs, d.Encoded()) }

// size is the true size of a blob, -1 if this liar does not know the blob.
func (l *liar) size(d digest.Digest) int64 {
	info, err := os.Stat(l.path(d))
	if err != nil {
		return -1
	}
	return info.Size()
}

// lie is the next kind of those that concern what is asked.
func (l *liar) lie(of []string) string {
	var mine []string
	for _, kind := range l.lies {
		if slices.Contains(of, kind) {
			mine = append(mine, kind)
		}
	}
	if len(mine) == 0 {
		return ""
	}
	return mine[l.turn.Add(1)%uint64(len(mine))]
}

// tell says everywhere, again and again, that this liar holds all blobs, and floods if that is its kind.
func (l *liar) tell(ctx context.Context) error {
	for _, kind := range l.lies {
		if flood := floods[kind]; flood != nil {
			go flood(l, ctx)
		}
	}
	told := map[digest.Digest]bool{}
	for ctx.Err() == nil {
		for _, d := range l.digests() {
			l.gossip.Announce(d, true)
			if !told[d] {
				told[d] = true
				go l.dht.Provide(ctx, d, true) //nolint:errcheck // it tries again
			}
		}
		time.Sleep(200 * time.Millisecond)
	}
	return ctx.Err()
}
