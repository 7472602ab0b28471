package main

import (
	"context"
	"fmt"
	"net/http"
	"regexp"
	"strconv"
	"text/tabwriter"
	"time"

	"github.com/meshd-project/meshd/node"
)

type pinCommands struct {
	Add pinAddCommand `cmd:"" default:"withargs" help:"Keep an image on this node's disk whatever else comes, and bring in what is missing."`
	Ls  pinLsCommand  `cmd:"" name:"ls" help:"List the pinned images of this node."`
}

// pinAddCommand is `meshd pin IMAGE`.
type pinAddCommand struct {
	Image    string   `arg:"" help:"Image, as docker pull takes it. What it names now is pinned, wherever its tag moves."`
	For      days     `placeholder:"TIME" help:"End by itself after this time: 30d, 12h (default: never)."`
	Platform []string `sep:"," placeholder:"OS/ARCH" help:"Platforms of a multi-platform image, or all (default: the node's own)."`
	Wait     bool     `help:"Wait until all of it is here."`
	JSON     bool     `name:"json" help:"Print the node's answer as it is."`
	adminFlags
}

// Run pins one image.
func (p *pinAddCommand) Run(ctx context.Context, std streams) error {
	c, err := p.client()
	if err != nil {
		return err
	}
	body := map[string]any{"image": p.Image, "platforms": p.Platform}
	if p.For > 0 {
		body["for"] = time.Duration(p.For).String()
	}
	var pin node.Pin
	if err := c.Do(ctx, http.MethodPost, "/v1/pins", body, &pin); err != nil {
		return fmt.Errorf("pin %s: %w", p.Image, err)
	}
	if p.Wait {
		job, err := awaitPreheat(ctx, c, node.PreheatJob{ID: pin.Job}, func(node.PreheatJob) {})
		if err != nil {
			return err
		}
		if job.State != "succeeded" {
			return fmt.Errorf("pinned, but not all of it is here: %s", job.Reason)
		}
		pin.Bytes, pin.Missing = job.Bytes, 0
	}
	if p.JSON {
		return printJSON(std.out, pin)
	}
	fmt.Fprintf(std.out, "pinned %s%s: %d blobs, %d of them on their way (preheat %s)\n", pin.Image, untilText(pin.Until), len(pin.Blobs), pin.Missing, pin.Job)
	return nil
}

func untilText(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	return " until " + t.Local().Format(time.DateTime)
}

// days is a time that may be given in days.
type days time.Duration

var inDays = regexp.MustCompile(`^([0-9]{1,4})d$`)

// UnmarshalText reads 30d, or what time.ParseDuration does.
func (d *days) UnmarshalText(text []byte) error {
	if m := inDays.FindSubmatch(text); m != nil {
		n, err := strconv.Atoi(string(m[1]))
		*d = days(time.Duration(n) * 24 * time.Hour)
		return err
	}
	t, err := time.ParseDuration(string(text))
	if err != nil || t <= 0 {
		return fmt.Errorf("%.40q: want a time such as 30d or 12h", text)
	}
	*d = days(t)
	return nil
}

// pinLsCommand is `meshd pin ls`.
type pinLsCommand struct {
	JSON bool `name:"json" help:"Print the node's answer as it is."`
	adminFlags
}

// Run lists the pins.
func (p *pinLsCommand) Run(ctx context.Context, std streams) error {
	var pins []node.Pin
	if done, err := p.ask(ctx, std, p.JSON, "/v1/pins", &pins); done || err != nil {
		return err
	}
	t := tabwriter.NewWriter(std.out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "IMAGE\tHERE\tMISSING\tUNTIL")
	for _, pin := range pins {
		until := "for good"
		if !pin.Until.IsZero() {
			until = pin.Until.Local().Format(time.DateTime)
		}
		fmt.Fprintf(t, "%s\t%s\t%d\t%s\n", pin.Image, sizeText(pin.Bytes), pin.Missing, until)
	}
	return t.Flush()
}

// unpinCommand is `meshd unpin IMAGE`.
type unpinCommand struct {
	Image string `arg:"" help:"Image, as it was pinned."`
	adminFlags
}

// Run removes one pin.
func (p *unpinCommand) Run(ctx context.Context) error {
	c, err := p.client()
	if err != nil {
		return err
	}
	if err := c.Do(ctx, http.MethodPost, "/v1/unpin", map[string]string{"image": p.Image}, nil); err != nil {
		return fmt.Errorf("unpin %s: %w", p.Image, err)
	}
	return nil
}
