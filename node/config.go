package node

import (
	"os"
	"path/filepath"
	"time"

	"github.com/meshd-project/meshd/exchange/store"
	"github.com/meshd-project/meshd/exchange/swarm"
)

// Names of the files that a node keeps in its data dir.
const (
	IdentityFile = "identity.key" // ed25519 private key of the peer id, mode 0600
	MeshKeyFile  = "mesh.key"     // the key a node makes for itself when none is given, mode 0600
	PeerAddrFile = "peer.addr"    // the dialable address with /p2p/ID, there while the node is up
	PeersFile    = "peers"        // members seen lately, for the way back in after a restart
	BlobDir      = "blobs"        // the store
	ZoneFile     = "zone"         // the zone that the node has found out, one line
	CAFile       = "ca.crt"       // certificate of the proxy's authority, PEM; there before the mirror listens
	CAKeyFile    = "ca.key"       // its key, PEM, mode 0600
	PreheatDir   = "preheat"      // the jobs of this node, a file each
	TagsFile     = "tags"         // what tags named last, for a start while registries are away; JSON, mode 0600

	RevokedFile    = "revoked"     // who the operator has revoked, as signed, mode 0600
	EvidenceDir    = "evidence"    // proofs that peers lied, at most 256 files
	AdminTokenFile = "admin.token" // the token that a node makes for itself when none is given, mode 0600
)

// Config is everything that a node can be told: one struct for each package that takes part. The zero value is
// not useful; start from Default. Durations are time.Duration, sizes Bytes, rates Rate (bytes a second, 0 = no limit).
type Config struct {
	// DataDir holds the identity, keys, the store and the small files named above. It is made if missing (0700).
	// Default: /var/lib/meshd for root, else $XDG_DATA_HOME/meshd or ~/.local/share/meshd. Flag --data-dir.
	DataDir string
	// Zone names the data centre (IDC) that this node stands in. Lower-case letters, digits, '.', '-' and '_', at
	// most 63 bytes. Default "": as ZoneFrom says, or else found out by RTT (package topology). Flag --zone.
	Zone string
	// ZoneFrom is where the zone is asked for when Zone is "": aws, gcp, azure (the host's metadata service) or
	// file:PATH (a name, or labels as KEY=VALUE lines or JSON with topology.kubernetes.io/zone). It is read at the
	// start only; if it does not answer within 6 s the zone is found out. Default "". Flag --zone-from.
	ZoneFrom string
	// Seed makes this node one that brings blobs out of the origin for the mesh. Default false. Flag --seed.
	Seed bool
	// DrainTimeout bounds the wait for running answers after the stop signal. Default 10 s.
	DrainTimeout time.Duration

	Mirror   MirrorConfig
	Proxy    ProxyConfig
	Admin    AdminConfig
	Preheat  PreheatConfig
	P2P      P2PConfig
	DHT      DHTConfig
	Gossip   GossipConfig
	Topology TopologyConfig
	Exchange ExchangeConfig
	Origin   OriginConfig
	Store    StoreConfig
	Files    FilesConfig
}

// MirrorConfig is what clients such as docker talk to.
type MirrorConfig struct {
	// Addr is the host:port of the pull API. Default 127.0.0.1:65001. Flag --mirror-addr.
	Addr string
	// DefaultRegistry is the registry of requests that name none. Default docker.io. Flag --default-registry.
	DefaultRegistry string
	// FirstByteTimeout bounds the wait of a client for the first byte of a blob. Default 20 s.
	FirstByteTimeout time.Duration
	// ManifestTimeout bounds the wait for a manifest from the origin. Default 15 s.
	ManifestTimeout time.Duration
	// RangeRest has the rest of a blob brought in behind the part that a Range request asks for. Default false: only what
	// covers the part is. Flag --range-rest.
	RangeRest bool
	// TagTTL is how long a tag is taken to name what it named, without asking the registry. Default 0: each pull
	// asks. Flag --tag-ttl.
	TagTTL time.Duration
	// Stale is how long after a registry's answer an image that anybody may have, tags included, is still served while the
	// registry cannot answer; 0 is never. Default 7 days. Flag --stale.
	Stale time.Duration
	// StalePrivate is the same for images that needed credentials, to those credentials. Default 24 h. Flag --stale-private.
	StalePrivate time.Duration
}

// ProxyConfig is the forward proxy on the mirror's port.
type ProxyConfig struct {
	// Rules say what happens to which hosts; the first that fits counts. Registries of OriginConfig that no rule
	// fits go through the mesh, other hosts are reached without it. Default none. Flag --proxy-rule, repeated.
	Rules []ProxyRule
}

// AdminConfig is the admin HTTP server.
type AdminConfig struct {
	// Addr is the host:port, or unix:PATH. What is neither loopback nor a socket wants TokenFile, Cert and Key.
	// Default 127.0.0.1:65002. Flag --admin-addr.
	Addr string
	// TokenFile holds the token that every request has to bring; others must not read or write it. Default "": the node
	// makes a token of its own in DataDir, for requests that change something. Flag --admin-token-file.
	TokenFile string
	// Cert and Key are PEM files of a certificate for TLS, read at the start. Default "": no TLS. Flags --admin-cert,
	// --admin-key.
	Cert, Key string
}

// PreheatConfig is what Harbor and registries are answered at, and what is done about pushes.
type PreheatConfig struct {
	// Addr is the host:port of Harbor's preheat drivers and of webhooks. Default "": there is none. Flag --preheat-addr.
	Addr string
	// Auth is a file with lines none, basic USER:PASSWORD, bearer TOKEN or header NAME: VALUE, mode 0600: who may ask at Addr. It
	// may be left out on loopback only, where then everybody may. Default "". Flag --preheat-auth.
	Auth string
	// Cert and Key are PEM files of a certificate for TLS at Addr. Default "": no TLS. Flags --preheat-cert, --preheat-key.
	Cert, Key string
	// Platforms of multi-platform images that Harbor or a webhook names, OS/ARCH or all. Default none: the node's own. Flag
	// --preheat-platform, repeated.
	Platforms []string
	// Rules say where what is pushed is preheated; the first that fits counts. Default none: on all seeds. Flag
	// --preheat-rule, repeated.
	Rules []PreheatRule
}

// P2PConfig is the control plane: the libp2p host and how it finds the mesh.
type P2PConfig struct {
	// Addrs are the multiaddrs to listen on, TCP only. Without MeshKey they are narrowed to loopback.
	// Default /ip4/0.0.0.0/tcp/65003. Flag --p2p-addr, repeated.
	Addrs []string
	// Bootstrap says where members are found: a multiaddr (with or without /p2p/ID), dns:NAME[:PORT],
	// file:PATH (one multiaddr a line, read again for every attempt), mdns. Default none. Flag --bootstrap, repeated.
	Bootstrap []string
	// MeshKey is a file in libp2p's pnet format (`meshd key new`). Default "": the node makes a key of its own in
	// DataDir and listens for peers on loopback only. Flag --mesh-key.
	MeshKey string
	// OperatorPublic is a PEM file with the ed25519 public key of who may revoke peers (`meshd key public`). Others must not
	// be able to change it. Default "": nobody revokes. Flag --operator-public.
	OperatorPublic string
	// AllowPeers is a file of the peer ids that may be members, one a line, read again when it changes. Others must not
	// be able to change it. Default "": whoever has the mesh key. Flag --allow-peers.
	AllowPeers string
	// BootstrapInterval is the time between two attempts to find members, while there are few. Default 15 s,
	// jittered; it starts at a thirtieth of that and doubles while nobody is found.
	BootstrapInterval time.Duration
	// MaxPeers bounds connected peers. Default 1024.
	MaxPeers int
}

// DHTConfig is the provider records.
type DHTConfig struct {
	// RecordTTL is how long a provider record stays valid without being renewed. Default 45 min.
	RecordTTL time.Duration
}

// GossipConfig is presence and announcements.
type GossipConfig struct {
	// PresenceInterval is the time between two presence messages of a node that knows up to 20 members, jittered by a
	// fifth; one that knows n sends them every n/20 intervals. A member is forgotten after 3.5 of its intervals of
	// silence. Default 10 s.
	PresenceInterval time.Duration
}

// TopologyConfig is where everybody is.
type TopologyConfig struct {
	// ZoneWindow is the time between two looks at the zone of a node that was not told one, jittered by a tenth.
	// Default 30 s.
	ZoneWindow time.Duration
}

// ExchangeConfig is the bulk data between nodes.
type ExchangeConfig struct {
	// DataAddr is the host:port that serves pieces to members. Without a mesh key it is narrowed to loopback.
	// Default 0.0.0.0:65004. Flag --data-addr.
	DataAddr string
	// DataPlaintext has pieces go unencrypted, by sendfile, between nodes that both have it: for networks where whoever can
	// listen may read all images. Default false. Flag --data-plaintext.
	DataPlaintext bool
	// DownloadLimit bounds bytes a second received from peers and origins. Default 0 (none). Flag --download-limit.
	DownloadLimit Rate
	// UploadLimit bounds bytes a second sent to peers. Default 0 (none). Flag --upload-limit.
	UploadLimit Rate
}

// OriginConfig is the registries.
type OriginConfig struct {
	// Registries says how to reach registries that are not plain https://HOST. Flag --registry, repeated.
	Registries []Registry
	// Limit bounds bytes a second read from all origins together. Default 0 (none). Flag --origin-limit.
	Limit Rate
}

// FilesConfig is plain files by URL.
type FilesConfig struct {
	// Allow lists the hosts of which this node reads files for peers, if it is a seed, and tells seeds the URLs that are
	// wanted here. Default none: who wants a file reads it, shared with others who do. Flag --files-allow, repeated.
	Allow []FileHost
	// Gateway lists the hosts of which anybody on this host may have files at /mesh/URL on the mirror's port. Default none:
	// there is no such path. Flag --gateway-allow, repeated.
	Gateway []FileHost
	// CA is a PEM file of authorities that servers of files may have their certificates from, besides the system's. Default
	// "": none. Flag --files-ca.
	CA string
}

// StoreConfig is the pieces on disk.
type StoreConfig struct {
	// CacheSize bounds the bytes of blobs kept; 0 = no limit. Default 50 GiB. Flag --cache-size.
	CacheSize Bytes
	// CacheLow is how far blobs make way once CacheSize is reached, so that not every pull deletes some. Default 0: nine
	// tenths of CacheSize. Flag --cache-low.
	CacheLow Bytes
	// MinFree is the free disk space that is never used up; blobs make way for what others write there. Default 1 GiB.
	// Flag --min-free.
	MinFree Bytes
	// FreeTarget is how much is free when blobs have made way because of MinFree. Default 0: half as much again.
	// Flag --free-target.
	FreeTarget Bytes
	// ContainerdContent is containerd's content store (/var/lib/containerd/io.containerd.content.v1.content): layers that lie
	// there are served from there and not kept twice. Default "": none. Flag --containerd-content.
	ContainerdContent string
	// SeedStorage is the URL of a bucket that keeps what this seed has: s3://BUCKET, gs://BUCKET, azblob://CONTAINER or
	// file:///DIR. Default "": none. Flag --seed-storage.
	SeedStorage string
	// ScrubRate is how many bytes a second are read to find what has rotted on disk, every blob once a week; 0 = none.
	// Default 8 MiB/s. Flag --scrub-rate.
	ScrubRate Rate
}

// store is the configuration of package store.
func (c StoreConfig) store(dir string) store.Config {
	out := store.Config{
		Dir: dir, Shelf: c.ContainerdContent, Capacity: int64(c.CacheSize), LowWater: int64(c.CacheLow), MinFree: int64(c.MinFree),
		FreeTarget: int64(c.FreeTarget), ScrubRate: int64(c.ScrubRate),
		PieceSize: func(size int64) int64 { return swarm.LayoutOf(size).PieceSize },
	}
	if c.CacheLow == 0 {
		out.LowWater = out.Capacity / 10 * 9
	}
	if c.FreeTarget == 0 && c.MinFree > 0 {
		out.FreeTarget = out.MinFree + out.MinFree/2
	}
	return out
}

// Default returns the configuration of `meshd run` without flags.
func Default() Config {
	return Config{
		DataDir:      defaultDataDir(),
		DrainTimeout: 10 * time.Second,
		Mirror: MirrorConfig{
			Addr: "127.0.0.1:65001", DefaultRegistry: "docker.io",
			FirstByteTimeout: 20 * time.Second, ManifestTimeout: 15 * time.Second,
			Stale: 7 * 24 * time.Hour, StalePrivate: 24 * time.Hour,
		},
		Admin: AdminConfig{Addr: "127.0.0.1:65002"},
		P2P: P2PConfig{
			Addrs:             []string{"/ip4/0.0.0.0/tcp/65003"},
			BootstrapInterval: 15 * time.Second,
			MaxPeers:          1024,
		},
		DHT:      DHTConfig{RecordTTL: 45 * time.Minute},
		Gossip:   GossipConfig{PresenceInterval: 10 * time.Second},
		Topology: TopologyConfig{ZoneWindow: 30 * time.Second},
		Exchange: ExchangeConfig{DataAddr: "0.0.0.0:65004"},
		Store:    StoreConfig{CacheSize: 50 << 30, MinFree: 1 << 30, ScrubRate: 8 << 20},
	}
}

func defaultDataDir() string {
	if os.Getuid() == 0 {
		return "/var/lib/meshd"
	}
	if dir := os.Getenv("XDG_DATA_HOME"); filepath.IsAbs(dir) {
		return filepath.Join(dir, "meshd")
	}
	if home, err := os.UserHomeDir(); err == nil {
		return filepath.Join(home, ".local", "share", "meshd")
	}
	return "meshd-data"
}
