package main

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"text/tabwriter"

	"github.com/opencontainers/go-digest"

	"github.com/meshd-project/meshd/exchange/store"
	"github.com/meshd-project/meshd/node"
)

type cacheCommands struct {
	Ls cacheLsCommand `cmd:"" name:"ls" help:"Show what this node holds: images by name, or blobs."`
	Rm cacheRmCommand `cmd:"" name:"rm" help:"Remove blobs from this node's disk, unless they are in use or pinned."`
}

// cacheLsCommand is `meshd cache ls`.
type cacheLsCommand struct {
	Blobs bool `help:"List blobs in place of images, and what they are part of."`
	JSON  bool `name:"json" help:"Print the node's answer as it is: all of it."`
	adminFlags
}

// Run lists what is there.
func (p *cacheLsCommand) Run(ctx context.Context, std streams) error {
	path := "/v1/cache"
	if !p.Blobs && !p.JSON {
		path += "?blobs=false"
	}
	var cache node.Cache
	if done, err := p.ask(ctx, std, p.JSON, path, &cache); done || err != nil {
		return err
	}
	show := printImages
	if p.Blobs {
		show = printBlobs
	}
	return show(std.out, &cache)
}

// printImages lists images and files, and how much is neither.
func printImages(w io.Writer, cache *node.Cache) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	if len(cache.Images) > 0 || len(cache.Files) == 0 {
		fmt.Fprintln(t, "IMAGE\tPLATFORM\tHERE\tBLOBS\tMISSING\tBY")
	}
	for _, i := range cache.Images {
		fmt.Fprintf(t, "%s\t%s\t%s\t%d\t%d\t%s\n", shortImage(i.Image), platformsText(i.Platforms), sizeText(i.Bytes), i.Blobs, i.Missing, i.Source)
	}
	if err := t.Flush(); err != nil {
		return err
	}
	if len(cache.Files) > 0 {
		if len(cache.Images) > 0 {
			fmt.Fprintln(t)
		}
		fmt.Fprintln(t, "FILE\tSIZE\tHERE")
		for _, f := range cache.Files {
			fmt.Fprintf(t, "%s\t%s\t%s\n", cmp.Or(f.URL, shortDigest(f.Name.String())), sizeText(f.Size), sizeText(f.Bytes))
		}
		if err := t.Flush(); err != nil {
			return err
		}
	}
	if n := cache.Unnamed; n.Blobs > 0 {
		fmt.Fprintf(w, "\nOf %d more blobs (%s) the node knows no name: meshd cache ls --blobs lists all.\n", n.Blobs, sizeText(n.Bytes))
	}
	if cache.Partial {
		fmt.Fprintln(w, "\nThere is more than the node reads for one list: some names are missing.")
	}
	return nil
}

// printBlobs lists blobs.
func printBlobs(w io.Writer, cache *node.Cache) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "BLOB\tSIZE\tHERE\tPRIVATE\tPINNED\tKIND\tOF")
	for _, b := range cache.Blobs {
		of := shortImage(b.Of)
		if b.Images > 1 {
			of += fmt.Sprintf(" and %d more", b.Images-1)
		}
		fmt.Fprintf(t, "%s\t%s\t%s\t%t\t%t\t%s\t%s\n",
			b.Digest, sizeText(b.Size), sizeText(b.Bytes), b.Private, b.Pinned, cmp.Or(b.Kind, "-"), cmp.Or(of, "-"))
	}
	if err := t.Flush(); err != nil || cache.LeftOut == 0 {
		return err
	}
	_, err := fmt.Fprintf(w, "\n%d more blobs are left out.\n", cache.LeftOut)
	return err
}

// shortImage is an image for a table: of a digest as much as tells it from others.
func shortImage(image string) string {
	name, sum, ok := strings.Cut(image, "@")
	if !ok {
		return shortDigest(image)
	}
	return name + "@" + shortDigest(sum)
}

// shortDigest is the start of a digest, or of a file's name, which begin all alike; anything else as it is.
func shortDigest(s string) string {
	const most = 12
	d, err := digest.Parse(s)
	switch {
	case err != nil:
		return s
	case store.IsFile(d):
		return "file " + d.Encoded()[len(d.Encoded())-most:]
	}
	return d.Algorithm().String() + ":" + d.Encoded()[:most]
}

// platformsText is the platforms of an image for a table.
func platformsText(list []string) string {
	const most = 2
	switch {
	case len(list) == 0:
		return "-"
	case len(list) > most+1:
		return fmt.Sprintf("%s +%d", strings.Join(list[:most], ","), len(list)-most)
	}
	return strings.Join(list, ",")
}

// cacheRmCommand is `meshd cache rm DIGEST...`.
type cacheRmCommand struct {
	Digest []string `arg:"" help:"Names of blobs, as cache ls --json shows them."`
	adminFlags
}

// Run removes each and says which could not be.
func (p *cacheRmCommand) Run(ctx context.Context) error {
	c, err := p.client()
	if err != nil {
		return err
	}
	var errs []error
	for _, d := range p.Digest {
		if err := c.Do(ctx, http.MethodDelete, "/v1/cache/"+pathPart(d), nil, nil); err != nil {
			errs = append(errs, fmt.Errorf("remove %s: %w", d, err))
		}
	}
	return errors.Join(errs...)
}

// ask gets what the node shows at a path into v, or prints it as it is, and says so.
func (f *adminFlags) ask(ctx context.Context, std streams, raw bool, path string, v any) (printed bool, err error) {
	c, err := f.client()
	if err != nil {
		return false, err
	}
	data, err := c.Get(ctx, path)
	if err != nil {
		return false, fmt.Errorf("node at %s: %w", f.AdminAddr, err)
	}
	if raw {
		_, err := std.out.Write(data)
		return true, err
	}
	if err := json.Unmarshal(data, v); err != nil {
		return false, fmt.Errorf("answer of the node at %s: %w", f.AdminAddr, err)
	}
	return false, nil
}

func printJSON(w io.Writer, v any) error {
	data, err := json.MarshalIndent(v, "", "  ")
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(w, "%s\n", data)
	return err
}

// pathPart makes what a user typed one segment of a path.
func pathPart(s string) string { return url.PathEscape(s) }
