package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/textproto"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/time/rate"

	"github.com/meshd-project/meshd/cmd/meshd/get"
	"github.com/meshd-project/meshd/node"
	"github.com/meshd-project/meshd/seed/file"
	"github.com/meshd-project/meshd/seed/origin"
)

// getCommand is `meshd get`.
type getCommand struct {
	adminFlags
	URL        []string      `arg:"" name:"url" help:"http:// or https:// URL of a file, or docker://IMAGE."`
	Output     string        `short:"o" placeholder:"PATH" help:"Where to: a file, a directory (several URLs want one), or - for standard output; of an image a directory or FILE.tar. Default: the URL's last part, here."`
	Header     []string      `short:"H" sep:"none" placeholder:"NAME: VALUE" help:"Header for the file's server and no other; may be repeated. With one, only those who send the same share the file."`
	Digest     string        `placeholder:"ALGORITHM:HEX" help:"What the file has to be: sha256 (then nobody's word has to be taken, and the URL does not count), sha512, sha1 or md5."`
	Filter     []string      `placeholder:"NAME,NAME" help:"Query parameters that do not tell one file from another: signatures, tokens."`
	Limit      node.Rate     `placeholder:"RATE" help:"Most bytes a second that this command takes, such as 10MB/s; the node's own limits bound what it fetches."`
	Timeout    time.Duration `placeholder:"DURATION" help:"Give up after this long; what came is kept for the next time."`
	Platform   string        `placeholder:"OS/ARCH" help:"Of an image: which, or all (default: linux on this machine's architecture)."`
	JSON       bool          `name:"json" help:"Print what happens as JSON, an object a line."`
	FilesCA    string        `name:"files-ca" env:"MESHD_FILES_CA" placeholder:"FILE" help:"Authorities of the server's certificate, PEM, besides the system's, where the node is not asked; the node has its own."`
	Alone      bool          `help:"Do not ask the node on this host."`
	MirrorAddr string        `env:"MESHD_MIRROR_ADDR" default:"${mirror_addr}" placeholder:"HOST:PORT" help:"Mirror address of the node (default ${default})."`
}

// Run gets one after the other. It goes on after a failure; the first decides the exit code.
func (g *getCommand) Run(ctx context.Context, std streams) error {
	header, err := g.check()
	if err != nil {
		return &usageErr{err}
	}
	if g.Timeout > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, g.Timeout)
		defer cancel()
	}
	conf := file.Config{UserAgent: "meshd-get"}
	if g.FilesCA != "" {
		if conf.RootCAs, err = origin.Authorities(g.FilesCA); err != nil {
			return &usageErr{fmt.Errorf("--files-ca: %w", err)}
		}
	}
	client := file.New(conf)
	defer client.Close()
	sources, err := g.sources(client)
	if err != nil {
		return err
	}
	var first error
	for _, url := range g.URL {
		err := g.one(ctx, std, url, header, sources)
		if err == nil {
			continue
		}
		if first == nil {
			first = err
		} else {
			fmt.Fprintf(std.err, "meshd: %v\n", err)
		}
		if ctx.Err() != nil {
			break
		}
	}
	return first
}

// check reads the flags.
func (g *getCommand) check() (http.Header, error) {
	header := http.Header{}
	for _, h := range g.Header {
		name, value, ok := strings.Cut(h, ":")
		if !ok {
			return nil, errors.New("--header: want NAME: VALUE")
		}
		header.Add(textproto.TrimString(name), textproto.TrimString(value))
	}
	if g.Digest != "" {
		var err error
		if g.Digest, err = get.CheckDigest(g.Digest); err != nil {
			return nil, fmt.Errorf("--digest: %w", err)
		}
		if len(g.URL) > 1 {
			return nil, errors.New("--digest is for one URL")
		}
	}
	for _, url := range g.URL {
		if _, err := file.Parse(url, header, g.Filter); err != nil && !isImage(url) {
			return nil, err
		}
		if isImage(url) && (len(header) > 0 || g.Digest != "" || len(g.Filter) > 0 || g.Limit > 0 || g.Output == "" || g.Output == "-") {
			return nil, errors.New("docker://IMAGE wants -o DIRECTORY or -o FILE.tar, and takes no --header, --digest, --filter and --limit")
		}
	}
	if len(g.URL) > 1 && g.Output != "" && !isDir(g.Output) {
		return nil, errors.New("--output: several URLs want a directory")
	}
	if g.Timeout < 0 {
		return nil, errors.New("--timeout: want a time above 0")
	}
	targets := map[string]bool{}
	for _, url := range g.URL {
		path, _, err := g.target(url)
		if err != nil {
			return nil, err
		}
		if targets[path] {
			return nil, fmt.Errorf("two URLs would be written to %s: get them one by one, with --output", path)
		}
		targets[path] = true
	}
	return header, nil
}

func isImage(url string) bool { return strings.HasPrefix(url, "docker://") }

func isDir(path string) bool {
	info, err := os.Stat(path)
	return err == nil && info.IsDir()
}

// sources are those that may be asked for a file, the best first.
func (g *getCommand) sources(client *file.Client) ([]get.Source, error) {
	alone := get.Alone{Client: client}
	if g.Alone {
		return []get.Source{alone}, nil
	}
	c, err := g.client()
	if err != nil {
		return nil, err
	}
	return []get.Source{get.Admin{Post: c.Stream}, get.Gateway{Addr: g.MirrorAddr, HTTP: &http.Client{Transport: &http.Transport{DisableCompression: true}}}, alone}, nil
}

// one gets one file or image.
func (g *getCommand) one(ctx context.Context, std streams, url string, header http.Header, sources []get.Source) error {
	target, shown, err := g.target(url)
	if err != nil {
		return err // check has seen it
	}
	see := std.err
	if g.JSON && target != "" {
		see = std.out
	}
	say := func(s string) { fmt.Fprintf(std.err, "meshd: %s: %s\n", shown, s) }
	if isImage(url) {
		m := &get.Image{
			Ref: strings.TrimPrefix(url, "docker://"), Platform: g.Platform, Mirror: g.MirrorAddr, Target: target,
			See: get.NewProgress(see, g.JSON, shown), Say: say,
		}
		if g.Alone {
			m.Mirror = ""
		}
		return named(shown, m.Run(ctx))
	}
	j := &get.Job{
		File: get.File{URL: url, Header: header, Filter: g.Filter}, Sources: sources, Target: target, Out: std.out,
		Digest: g.Digest, See: get.NewProgress(see, g.JSON, shown), Say: say,
	}
	if strings.HasPrefix(g.Digest, "sha256:") {
		j.File.SHA256 = g.Digest
	}
	if g.Limit > 0 {
		j.Limit = rate.NewLimiter(rate.Limit(g.Limit), int(min(max(int64(g.Limit)/20, 1<<10), 256<<10)))
	}
	return named(shown, j.Run(ctx))
}

// named says which of several it was.
func named(shown string, err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("%s: %w", shown, err)
}

// target is where a URL goes, "" for standard output, and what people are shown.
func (g *getCommand) target(url string) (path, shown string, err error) {
	if isImage(url) {
		return filepath.Clean(g.Output), strings.TrimPrefix(url, "docker://"), nil
	}
	r, err := file.Parse(url, nil, nil)
	if err != nil {
		return "", "", err
	}
	name := file.BaseName(r.URL)
	switch {
	case g.Output == "-":
		return "", r.String(), nil
	case g.Output != "" && !isDir(g.Output) && !strings.HasSuffix(g.Output, "/"):
		return g.Output, g.Output, nil
	case name == "":
		return "", "", fmt.Errorf("%s: the URL has no name for a file: give --output FILE", r)
	}
	path = filepath.Join(g.Output, name)
	return path, path, nil
}
