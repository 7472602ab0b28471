package setup

import (
	"context"
	"errors"
	"fmt"
	"net"
	"path/filepath"
)

// Command is `meshd setup`.
type Command struct {
	Docker     dockerCommand     `cmd:"" help:"Have docker pull docker.io images through meshd (daemon.json)."`
	Containerd containerdCommand `cmd:"" help:"Have containerd, nerdctl and Kubernetes pull through meshd (hosts.toml, config.toml)."`
	Podman     podmanCommand     `cmd:"" help:"Have podman, buildah and skopeo pull through meshd (registries.conf.d)."`
	Crio       crioCommand       `cmd:"" help:"Have CRI-O pull through meshd (registries.conf.d)."`
}

// common is what all clients have.
type common struct {
	MirrorAddr string `env:"MESHD_MIRROR_ADDR" default:"${mirror_addr}" placeholder:"HOST:PORT" help:"Where the node answers clients (default ${default})."`
	Undo       bool   `help:"Take out what setup put in, and leave what others have changed since."`
	DryRun     bool   `help:"Show what would be changed, and change nothing."`
	Check      string `placeholder:"IMAGE" help:"Pull this image's manifest and config through the node."`
	Root       string `default:"/" placeholder:"DIR" help:"The files are below this folder, for images and chroots; the node is asked nothing then."`
}

// host is the machine that is set up, and the node on it.
type host struct {
	root string
	addr string // of the mirror as clients on the machine see it
}

func (c common) host() (host, error) {
	name, port, err := net.SplitHostPort(c.MirrorAddr)
	if err != nil || port == "" {
		return host{}, &UsageError{fmt.Errorf("--mirror-addr %q is not HOST:PORT", c.MirrorAddr)}
	}
	if ip := net.ParseIP(name); name == "" || ip != nil && ip.IsUnspecified() {
		name = "127.0.0.1"
	}
	return host{root: c.Root, addr: net.JoinHostPort(name, port)}, nil
}

func (h host) path(p string) string { return filepath.Join(h.root, p) }
func (h host) url() string          { return "http://" + h.addr }

type dockerCommand struct{ common }

// Run sets docker up.
func (c *dockerCommand) Run(ctx context.Context, std Streams) error {
	h, err := c.host()
	if err != nil {
		return err
	}
	parts, err := docker(h)
	return c.carryOut(ctx, std, h, parts, err)
}

type containerdCommand struct {
	common
	Config string `default:"/etc/containerd/config.toml" placeholder:"FILE" help:"containerd's configuration (default ${default})."`
}

// Run sets containerd up.
func (c *containerdCommand) Run(ctx context.Context, std Streams) error {
	h, err := c.host()
	if err != nil {
		return err
	}
	parts, err := containerd(h, c.Config)
	if err == nil && !c.Undo {
		warnOthers(std.Out, parts[0].path)
	}
	return c.carryOut(ctx, std, h, parts, err)
}

type registriesFlags struct {
	Registry []string `sep:"," default:"docker.io,ghcr.io,quay.io,registry.k8s.io" placeholder:"HOST" help:"Registries that go through meshd; may be repeated (default ${default})."`
}

type podmanCommand struct {
	common
	registriesFlags
}

// Run sets podman, buildah and skopeo up.
func (c *podmanCommand) Run(ctx context.Context, std Streams) error {
	return c.registries(ctx, std, c.Registry, "")
}

type crioCommand struct {
	common
	registriesFlags
}

// Run sets CRI-O up.
func (c *crioCommand) Run(ctx context.Context, std Streams) error {
	return c.registries(ctx, std, c.Registry, "systemctl reload crio")
}

func (c common) registries(ctx context.Context, std Streams, names []string, after string) error {
	h, err := c.host()
	if err != nil {
		return err
	}
	parts, err := registries(h, names, after, std.Out)
	return c.carryOut(ctx, std, h, parts, err)
}

// carryOut computes all edits, shows them, makes them, says what is left to do, and asks the node. err is of the
// finding of parts.
func (c common) carryOut(ctx context.Context, std Streams, h host, parts []part, err error) error {
	if err != nil {
		return err
	}
	edits, err := c.edits(parts)
	if err != nil {
		return err
	}
	for _, e := range edits {
		if err := c.make(std, e); err != nil {
			return err
		}
	}
	next(std, edits)
	if c.DryRun || c.Undo || h.root != "/" && c.Check == "" {
		return nil
	}
	return c.ask(ctx, std, h)
}

// make shows an edit and, but for --dry-run, makes it.
func (c common) make(std Streams, e edit) error {
	if e.changes() {
		if _, err := std.Out.Write(e.diff()); err != nil {
			return err
		}
	}
	if c.DryRun {
		return nil
	}
	if err := e.write(); err != nil {
		return err
	}
	if e.backup {
		fmt.Fprintf(std.Out, "what was there is kept in %s\n", e.path+backupSuffix)
	}
	return nil
}

// next says what the user has to do for the edits to count.
func next(std Streams, edits []edit) {
	said := "nothing to change"
	for _, e := range edits {
		switch {
		case !e.changes():
		case e.after != "":
			fmt.Fprintf(std.Out, "then: %s\n", e.after)
			return
		default:
			said = "no restart needed"
		}
	}
	fmt.Fprintln(std.Out, said)
}

func (c common) edits(parts []part) ([]edit, error) {
	var edits []edit
	var errs []error
	for _, p := range parts {
		compute := p.install
		if c.Undo {
			compute = p.undo
		}
		e, err := compute()
		edits, errs = append(edits, e), append(errs, err)
	}
	return edits, errors.Join(errs...)
}

// ask checks that the node is there, and with --check that a pull passes through it.
func (c common) ask(ctx context.Context, std Streams, h host) error {
	if err := h.answers(ctx); err != nil {
		return err
	}
	fmt.Fprintf(std.Out, "the mirror on %s answers\n", h.addr)
	if c.Check == "" {
		return nil
	}
	if err := h.pulls(ctx, c.Check); err != nil {
		return err
	}
	fmt.Fprintf(std.Out, "a pull of %s passes through it\n", c.Check)
	return nil
}
