package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"text/tabwriter"

	"github.com/meshd-project/meshd/node"
)

type cacheCommands struct {
	Ls cacheLsCommand `cmd:"" name:"ls" help:"Show what this node holds: images by name, or blobs."`
	Rm cacheRmCommand `cmd:"" name:"rm" help:"Remove blobs from this node's disk, unless they are in use or pinned."`
}

// cacheLsCommand is `meshd cache ls`.
type cacheLsCommand struct {
	Blobs bool `help:"List blobs in place of images."`
	JSON  bool `name:"json" help:"Print the node's answer as it is: both."`
	adminFlags
}

// Run lists what is there.
func (p *cacheLsCommand) Run(ctx context.Context, std streams) error {
	var cache node.Cache
	if done, err := p.ask(ctx, std, p.JSON, "/v1/cache", &cache); done || err != nil {
		return err
	}
	t := tabwriter.NewWriter(std.out, 0, 0, 2, ' ', 0)
	if p.Blobs {
		fmt.Fprintln(t, "BLOB\tSIZE\tHERE\tPRIVATE\tPINNED")
		for _, b := range cache.Blobs {
			fmt.Fprintf(t, "%s\t%s\t%s\t%t\t%t\n", b.Digest, sizeText(b.Size), sizeText(b.Bytes), b.Private, b.Pinned)
		}
		return t.Flush()
	}
	fmt.Fprintln(t, "IMAGE\tHERE\tBLOBS\tMISSING\tBY")
	for _, i := range cache.Images {
		fmt.Fprintf(t, "%s\t%s\t%d\t%d\t%s\n", i.Image, sizeText(i.Bytes), i.Blobs, i.Missing, i.Source)
	}
	return t.Flush()
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
