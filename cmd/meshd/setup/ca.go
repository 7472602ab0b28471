package setup

import (
	"bytes"
	"context"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/meshd-project/meshd/node"
)

// caName is the file of the authority in other programs' folders.
const caName = "meshd.crt"

// updateTimeout bounds the system's own program that puts certificates together.
const updateTimeout = 2 * time.Minute

// Streams are the standard streams of a command.
type Streams struct{ Out, Err io.Writer }

// CACommand is `meshd ca`.
type CACommand struct {
	Show    caShow    `cmd:"" default:"withargs" help:"Print the certificate to stdout, and to stderr where it lies (what meshd ca alone does)."`
	Install caInstall `cmd:"" help:"Have clients on this host trust the certificate."`
}

type caDir struct {
	DataDir string `env:"MESHD_DATA_DIR" default:"${data_dir}" placeholder:"DIR" help:"Data dir of the node (default /var/lib/meshd for root, else ~/.local/share/meshd)."`
}

// certificate reads the authority of the node. Where it lies comes with it.
func (d caDir) certificate() (path string, data []byte, err error) {
	path = filepath.Join(d.DataDir, node.CAFile)
	data, err = read(path)
	switch {
	case err != nil:
		return path, nil, err
	case data == nil:
		return path, nil, fmt.Errorf("%s is not there: meshd run makes it on its first start (--data-dir names another place)", path)
	case !isCA(data):
		return path, nil, fmt.Errorf("%s is not the certificate of a meshd proxy", path)
	}
	return path, data, nil
}

// isCA reports whether data is the certificate of a meshd's authority, this node's or another's.
func isCA(data []byte) bool {
	block, _ := pem.Decode(data)
	if block == nil {
		return false
	}
	cert, err := x509.ParseCertificate(block.Bytes)
	return err == nil && cert.IsCA && strings.HasPrefix(cert.Subject.CommonName, node.CAName)
}

type caShow struct{ caDir }

// Run prints the certificate.
func (c *caShow) Run(std Streams) error {
	path, data, err := c.certificate()
	if err != nil {
		return err
	}
	fmt.Fprintln(std.Err, path)
	_, err = std.Out.Write(data)
	return err
}

type caInstall struct {
	caDir
	Docker []string `placeholder:"HOST[:PORT]" sep:"none" help:"Have docker trust it for this registry; may be repeated."`
	System bool     `help:"Have every program on this host trust it. Docker Hub through docker's proxy needs this."`
	Undo   bool     `help:"Take it out again."`
	Root   string   `default:"/" placeholder:"DIR" help:"Write below this folder, for images and chroots; no program is run then."`
}

// Run installs or removes.
func (c *caInstall) Run(ctx context.Context, std Streams) error {
	if len(c.Docker) == 0 && !c.System {
		return &UsageError{errors.New("want --docker HOST or --system")}
	}
	var data []byte
	if !c.Undo {
		var err error
		if _, data, err = c.certificate(); err != nil {
			return err
		}
	}
	for _, host := range c.Docker {
		if host == "docker.io" {
			return &UsageError{errors.New("docker looks for Docker Hub's authorities in the system's store only: use --system")}
		}
		if host == "" || strings.ContainsAny(host, "/\\") || strings.HasPrefix(host, ".") {
			return &UsageError{fmt.Errorf("--docker %q: want HOST or HOST:PORT of a registry", host)}
		}
		if _, err := c.place(std, filepath.Join(c.Root, "etc/docker/certs.d", host, caName), data); err != nil {
			return err
		}
	}
	if c.System {
		return c.system(ctx, std, data)
	}
	return nil
}

// place makes the file hold data, or with --undo none, and reports whether that was a change.
func (c *caInstall) place(std Streams, path string, data []byte) (bool, error) {
	old, err := read(path)
	switch {
	case err != nil:
		return false, err
	case bytes.Equal(old, data):
		fmt.Fprintf(std.Out, "%s: nothing to do\n", path)
		return false, nil
	case old != nil && !isCA(old):
		return false, fmt.Errorf("%s is not a certificate that meshd put there: it is left alone", path)
	case c.Undo:
		fmt.Fprintf(std.Out, "%s: removed\n", path)
		return true, errors.Join(discard(path), removeEmpty(filepath.Dir(path)))
	}
	fmt.Fprintf(std.Out, "%s: written\n", path)
	return true, replace(path, data)
}

// removeEmpty removes the folder of a registry if nothing else is in it.
func removeEmpty(dir string) error {
	if filepath.Base(filepath.Dir(dir)) != "certs.d" {
		return nil
	}
	if entries, err := os.ReadDir(dir); err != nil || len(entries) > 0 {
		return err
	}
	return os.Remove(dir)
}

// stores are where systems keep their own authorities, and what puts them together.
var stores = []struct {
	dir          string
	update, undo []string
}{
	{"usr/local/share/ca-certificates", []string{"update-ca-certificates"}, []string{"update-ca-certificates", "--fresh"}}, // Debian, Ubuntu, Alpine
	{"etc/pki/ca-trust/source/anchors", []string{"update-ca-trust", "extract"}, []string{"update-ca-trust", "extract"}},    // Fedora, RHEL
	{"etc/ca-certificates/trust-source/anchors", []string{"trust", "extract-compat"}, []string{"trust", "extract-compat"}}, // Arch
	{"etc/pki/trust/anchors", []string{"update-ca-certificates"}, []string{"update-ca-certificates"}},                      // SUSE
}

func (c *caInstall) system(ctx context.Context, std Streams, data []byte) error {
	for _, s := range stores {
		dir := filepath.Join(c.Root, s.dir)
		if info, err := os.Stat(dir); err != nil || !info.IsDir() {
			continue
		}
		changed, err := c.place(std, filepath.Join(dir, caName), data)
		if err != nil || !changed {
			return err
		}
		update := s.update
		if c.Undo {
			update = s.undo
		}
		if c.Root != "/" {
			fmt.Fprintf(std.Out, "then run there: %s\n", strings.Join(update, " "))
			return nil
		}
		return c.update(ctx, std, update)
	}
	return errors.New("no certificate store of Debian, Fedora, Arch or SUSE is here: add the output of `meshd ca` to this system's by hand")
}

func (c *caInstall) update(ctx context.Context, std Streams, program []string) error {
	ctx, cancel := context.WithTimeout(ctx, updateTimeout)
	defer cancel()
	if out, err := exec.CommandContext(ctx, program[0], program[1:]...).CombinedOutput(); err != nil {
		return fmt.Errorf("%s: %w\n%s", strings.Join(program, " "), err, out)
	}
	fmt.Fprintln(std.Out, "Restart docker, containerd and CRI-O: they read the system's certificates when they start.")
	return nil
}

// UsageError marks a mistake on the command line.
type UsageError struct{ error }

// Unwrap is for errors.Is.
func (e *UsageError) Unwrap() error { return e.error }
