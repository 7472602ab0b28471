package main

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/alecthomas/kong"

	"github.com/meshd-project/meshd/node"
)

// listSep separates the values of a list in one variable or default. A comma would cut --registry, a colon --bootstrap.
const listSep = ";"

// runCommand is `meshd run`. Its tags name the environment variable of each flag; the keys of the YAML file are the
// flags' names. Each field's meaning, unit and default are those of the node.Config field that config sets from it.
type runCommand struct {
	Config configFlag `env:"MESHD_CONFIG" placeholder:"FILE" help:"YAML file; its keys are the names of these flags."`

	MirrorAddr string `env:"MESHD_MIRROR_ADDR" default:"${mirror_addr}" placeholder:"HOST:PORT" help:"Where clients pull (default ${default})."`
	AdminAddr  string `env:"MESHD_ADMIN_ADDR" default:"${admin_addr}" placeholder:"HOST:PORT" help:"Where status, health and metrics answer: HOST:PORT or unix:PATH (default ${default})."`

	AdminTokenFile string `env:"MESHD_ADMIN_TOKEN_FILE" placeholder:"FILE" help:"Token that every request to the admin address has to bring. Without it only writing ones do, with DATA-DIR/admin.token."`
	AdminCert      string `env:"MESHD_ADMIN_CERT" placeholder:"FILE" help:"Certificate for TLS on the admin address, PEM. Wanted, with a token, unless that is loopback or a socket."`
	AdminKey       string `env:"MESHD_ADMIN_KEY" placeholder:"FILE" help:"Key of --admin-cert, PEM, mode 0600."`

	PreheatAddr     string             `env:"MESHD_PREHEAT_ADDR" placeholder:"HOST:PORT" help:"Where Harbor asks for preheats and registries tell of pushes (default: nowhere)."`
	PreheatAuth     string             `env:"MESHD_PREHEAT_AUTH" placeholder:"FILE" help:"Who may ask there: lines of none, basic USER:PASSWORD, bearer TOKEN or header NAME: VALUE. Wanted unless that is loopback."`
	PreheatCert     string             `env:"MESHD_PREHEAT_CERT" placeholder:"FILE" help:"Certificate for TLS on the preheat address, PEM."`
	PreheatKey      string             `env:"MESHD_PREHEAT_KEY" placeholder:"FILE" help:"Its key, PEM."`
	PreheatPlatform []string           `env:"MESHD_PREHEAT_PLATFORM" sep:";" placeholder:"OS/ARCH" help:"What is preheated of multi-platform images that Harbor or a webhook names, or all; may be repeated (default: the node's own platform)."`
	PreheatRule     []node.PreheatRule `env:"MESHD_PREHEAT_RULE" sep:";" placeholder:"[HOST/]NAME[:TAG]=SCOPE[,platform=OS/ARCH]" help:"Where what is pushed is preheated: seed, seeds, zone=NAME, all or none, with * for any text; may be repeated, the first that fits counts (default: all pushes go to the seeds)."`

	P2PAddr       []string `name:"p2p-addr" env:"MESHD_P2P_ADDR" sep:";" default:"${p2p_addr}" placeholder:"MULTIADDR" help:"Where peers connect; may be repeated (default ${default}; without --mesh-key on loopback only)."`
	DataAddr      string   `env:"MESHD_DATA_ADDR" default:"${data_addr}" placeholder:"HOST:PORT" help:"Where peers fetch pieces (default ${default}; without --mesh-key on loopback only)."`
	DataPlaintext bool     `env:"MESHD_DATA_PLAINTEXT" help:"Send pieces unencrypted to nodes that have this too, and take them so, for half the CPU: where whoever can listen may read all images."`
	DataDir       string   `env:"MESHD_DATA_DIR" default:"${data_dir}" placeholder:"DIR" help:"Identity, keys and blobs (default /var/lib/meshd for root, else ~/.local/share/meshd)."`
	Zone          string   `env:"MESHD_ZONE" default:"${zone}" placeholder:"NAME" help:"The data centre (IDC) this node stands in. Without it the node finds out by RTT."`
	ZoneFrom      string   `env:"MESHD_ZONE_FROM" placeholder:"WHERE" help:"Without --zone, ask for it: aws, gcp, azure, or file:PATH (a name, or labels with topology.kubernetes.io/zone)."`
	Seed          bool     `env:"MESHD_SEED" help:"Bring blobs from the registry into the mesh for the others."`
	Bootstrap     []string `env:"MESHD_BOOTSTRAP" sep:";" placeholder:"WHERE" help:"Where to find the mesh: MULTIADDR, dns:NAME, file:PATH or mdns; may be repeated."`
	MeshKey       string   `env:"MESHD_MESH_KEY" placeholder:"FILE" help:"Key that admits to the mesh (meshd key new). Without it the node keeps to this host."`

	OperatorPublic string `env:"MESHD_OPERATOR_PUBLIC" placeholder:"FILE" help:"Public key of the operator who may revoke peers (meshd key public). Without it nobody does."`
	AllowPeers     string `env:"MESHD_ALLOW_PEERS" placeholder:"FILE" help:"Peer ids that may be members, one a line. Without it whoever has the mesh key."`

	Registry        []node.Registry `env:"MESHD_REGISTRY" sep:";" placeholder:"HOST=URL[,ca=FILE][,insecure][,OPTION]" help:"How to reach a registry that is not plain https://HOST; may be repeated. More options: cert=FILE,key=FILE; url=URL, another address; mirror=URL, asked first; credentials=FILE or docker, of the node itself."`
	DefaultRegistry string          `env:"MESHD_DEFAULT_REGISTRY" default:"${default_registry}" placeholder:"HOST" help:"Registry of requests that name none (default ${default})."`

	ProxyRule []node.ProxyRule `env:"MESHD_PROXY_RULE" sep:";" placeholder:"HOST[:PORT]|/REGEXP/=ACTION" help:"What the proxy on the mirror's port does with a host: mesh, direct or refuse; may be repeated, the first that fits counts (default: registries mesh, others direct)."`

	TagTTL       time.Duration `name:"tag-ttl" env:"MESHD_TAG_TTL" default:"${tag_ttl}" placeholder:"DURATION" help:"How long a tag is taken to name the same image without asking the registry (default ${default}: each pull asks)."`
	RangeRest    bool          `env:"MESHD_RANGE_REST" help:"After a Range request (lazy pulls) bring in the rest of the blob too, behind what was asked for."`
	Stale        time.Duration `env:"MESHD_STALE" default:"${stale}" placeholder:"DURATION" help:"While a registry is away, serve what it allowed anybody this long ago at most, tags included; 0s for never (default ${default})."`
	StalePrivate time.Duration `env:"MESHD_STALE_PRIVATE" default:"${stale_private}" placeholder:"DURATION" help:"The same for what needed credentials, to the same credentials (default ${default})."`

	FilesAllow   []node.FileHost `env:"MESHD_FILES_ALLOW" sep:";" placeholder:"HOST[:PORT]" help:"Hosts whose files (meshd get) seeds read for others: list them on seeds and on those who ask; *.DOMAIN for all below, * for all; may be repeated."`
	GatewayAllow []node.FileHost `env:"MESHD_GATEWAY_ALLOW" sep:";" placeholder:"HOST[:PORT]" help:"Hosts whose files anybody on this host gets at /mesh/URL on the mirror address; may be repeated (default: none, and no such path)."`
	FilesCA      string          `name:"files-ca" env:"MESHD_FILES_CA" placeholder:"FILE" help:"Authorities of the certificates of file servers, PEM, besides the system's."`

	CacheSize     node.Bytes `env:"MESHD_CACHE_SIZE" default:"${cache_size}" placeholder:"SIZE" help:"Disk space for blobs, 0 for no limit (default ${default}). A larger blob is not served."`
	CacheLow      node.Bytes `env:"MESHD_CACHE_LOW" default:"${cache_low}" placeholder:"SIZE" help:"When the cache is full, blobs make way until so much is left (default: nine tenths of --cache-size)."`
	MinFree       node.Bytes `env:"MESHD_MIN_FREE" default:"${min_free}" placeholder:"SIZE" help:"Free disk space that is left to others (default ${default})."`
	FreeTarget    node.Bytes `env:"MESHD_FREE_TARGET" default:"${free_target}" placeholder:"SIZE" help:"When less than --min-free is free, blobs make way until so much is (default: half as much again)."`
	ScrubRate     node.Rate  `env:"MESHD_SCRUB_RATE" default:"${scrub_rate}" placeholder:"RATE" help:"Bytes a second read from disk to find what has rotted, every blob once a week; 0 for never (default ${default})."`
	DownloadLimit node.Rate  `env:"MESHD_DOWNLOAD_LIMIT" default:"${download_limit}" placeholder:"RATE" help:"Most bytes a second in, such as 100MB/s; 0 for no limit."`
	UploadLimit   node.Rate  `env:"MESHD_UPLOAD_LIMIT" default:"${upload_limit}" placeholder:"RATE" help:"Most bytes a second out to peers; 0 for no limit."`
	OriginLimit   node.Rate  `env:"MESHD_ORIGIN_LIMIT" default:"${origin_limit}" placeholder:"RATE" help:"Most bytes a second from all registries; 0 for no limit."`

	SeedStorage       string `env:"MESHD_SEED_STORAGE" placeholder:"URL" help:"A bucket that keeps what this seed has, shared by several seeds if you like: s3://BUCKET, gs://BUCKET, azblob://CONTAINER or file:///DIR (options in docs/seed.md)."`
	ContainerdContent string `env:"MESHD_CONTAINERD_CONTENT" placeholder:"DIR" help:"containerd's content store (/var/lib/containerd/io.containerd.content.v1.content): layers that lie there are served from there and not kept twice."`

	LogLevel string `env:"MESHD_LOG_LEVEL" default:"info" enum:"debug,info,warn,error" placeholder:"LEVEL" help:"debug, info, warn or error (default ${default})."`
}

// defaultVars gives the tags above their defaults.
func defaultVars(c node.Config) kong.Vars {
	return kong.Vars{
		"mirror_addr":      c.Mirror.Addr,
		"admin_addr":       c.Admin.Addr,
		"p2p_addr":         strings.Join(c.P2P.Addrs, listSep),
		"data_addr":        c.Exchange.DataAddr,
		"data_dir":         c.DataDir,
		"zone":             c.Zone,
		"default_registry": c.Mirror.DefaultRegistry,
		"tag_ttl":          c.Mirror.TagTTL.String(),
		"stale":            c.Mirror.Stale.String(),
		"stale_private":    c.Mirror.StalePrivate.String(),
		"cache_size":       c.Store.CacheSize.String(),
		"cache_low":        c.Store.CacheLow.String(),
		"min_free":         c.Store.MinFree.String(),
		"free_target":      c.Store.FreeTarget.String(),
		"scrub_rate":       c.Store.ScrubRate.String(),
		"download_limit":   c.Exchange.DownloadLimit.String(),
		"upload_limit":     c.Exchange.UploadLimit.String(),
		"origin_limit":     c.Origin.Limit.String(),
	}
}

// config is node.Default with what was given.
func (r *runCommand) config() node.Config {
	c := node.Default()
	c.Mirror.Addr = r.MirrorAddr
	c.Mirror.DefaultRegistry = r.DefaultRegistry
	c.Mirror.RangeRest = r.RangeRest
	c.Mirror.TagTTL, c.Mirror.Stale, c.Mirror.StalePrivate = r.TagTTL, r.Stale, r.StalePrivate
	c.Preheat = node.PreheatConfig{
		Addr: r.PreheatAddr, Auth: r.PreheatAuth, Cert: r.PreheatCert, Key: r.PreheatKey, Platforms: r.PreheatPlatform, Rules: r.PreheatRule,
	}
	c.Admin = node.AdminConfig{Addr: r.AdminAddr, TokenFile: r.AdminTokenFile, Cert: r.AdminCert, Key: r.AdminKey}
	c.P2P.Addrs = r.P2PAddr
	c.P2P.Bootstrap = r.Bootstrap
	c.P2P.MeshKey = r.MeshKey
	c.P2P.OperatorPublic, c.P2P.AllowPeers = r.OperatorPublic, r.AllowPeers
	c.Exchange.DataAddr = r.DataAddr
	c.Exchange.DataPlaintext = r.DataPlaintext
	c.Exchange.DownloadLimit = r.DownloadLimit
	c.Exchange.UploadLimit = r.UploadLimit
	c.DataDir = r.DataDir
	c.Zone = r.Zone
	c.ZoneFrom = r.ZoneFrom
	c.Seed = r.Seed
	c.Origin.Registries = r.Registry
	c.Origin.Limit = r.OriginLimit
	c.Proxy.Rules = r.ProxyRule
	c.Store.CacheSize, c.Store.CacheLow = r.CacheSize, r.CacheLow
	c.Store.MinFree, c.Store.FreeTarget = r.MinFree, r.FreeTarget
	c.Store.ScrubRate, c.Store.ContainerdContent = r.ScrubRate, r.ContainerdContent
	c.Store.SeedStorage = r.SeedStorage
	c.Files = node.FilesConfig{Allow: r.FilesAllow, Gateway: r.GatewayAllow, CA: r.FilesCA}
	return c
}

// Run runs the node until ctx ends.
func (r *runCommand) Run(ctx context.Context) error {
	c := r.config()
	if err := c.Validate(); err != nil {
		return &usageErr{err}
	}
	if err := setupLogs(r.LogLevel); err != nil {
		return fmt.Errorf("logs: %w", err)
	}
	return node.Run(ctx, c)
}
