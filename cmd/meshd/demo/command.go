package demo

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/meshd-project/meshd/netsim/testbed"
	"github.com/meshd-project/meshd/node"
)

// Streams are where the command writes: the table to Out, progress to Err.
type Streams struct {
	Out, Err io.Writer
}

// Command is the command line of `meshd demo`.
type Command struct {
	Nodes        int           `default:"6" help:"Nodes in all."`
	Zones        int           `default:"2" help:"Zones they are spread over."`
	SeedsPerZone int           `default:"1" help:"Seeds in each zone."`
	Size         node.Bytes    `default:"256MiB" placeholder:"SIZE" help:"Size of the image (default ${default})."`
	Layers       int           `default:"5" help:"Layers of the image."`
	ImageSeed    uint64        `placeholder:"N" help:"Make the same image again; 0 for a new one each time."`
	Timeout      time.Duration `default:"5m" placeholder:"TIME" help:"Give up after this time (default ${default})."`
	Keep         bool          `help:"Leave the mesh running until Ctrl-C and say how to pull by hand."`
}

// Bounds of a mesh that one machine can be asked for.
const (
	maxNodes  = 64
	maxLayers = 64
	minSize   = 1 << 20
)

// Validate is called by kong.
func (c *Command) Validate() error {
	switch {
	case c.Nodes < 1 || c.Nodes > maxNodes:
		return fmt.Errorf("--nodes: want 1 to %d", maxNodes)
	case c.Zones < 1 || c.Zones > c.Nodes:
		return errors.New("--zones: want 1 to the number of nodes")
	case c.SeedsPerZone < 0 || c.SeedsPerZone*c.Zones > c.Nodes:
		return errors.New("--seeds-per-zone: more seeds than nodes")
	case c.Layers < 1 || c.Layers > maxLayers:
		return fmt.Errorf("--layers: want 1 to %d", maxLayers)
	case c.Size < minSize:
		return fmt.Errorf("--size: want at least %v", node.Bytes(minSize))
	case c.Timeout <= 0:
		return errors.New("--timeout: want more than 0")
	}
	return nil
}

// Run runs the demo. Its error says what did not hold.
func (c *Command) Run(ctx context.Context, std Streams) (err error) {
	dir, err := os.MkdirTemp("", "meshd-demo-")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	m := &mesh{dir: dir}
	defer m.stop()

	bounded, cancel := context.WithTimeoutCause(ctx, c.Timeout, fmt.Errorf("not done after %v (--timeout)", c.Timeout))
	defer cancel()
	held := c.run(bounded, m, std)
	if cause := context.Cause(bounded); cause != nil && held != nil {
		held = fmt.Errorf("%w: %w", cause, held)
	}
	if c.Keep && bounded.Err() == nil {
		m.explain(std.Out)
		<-ctx.Done()
	}
	return held
}

// run builds the mesh, pulls and reports.
func (c *Command) run(ctx context.Context, m *mesh, std Streams) error {
	fmt.Fprintf(std.Err, "starting a registry and %d nodes in %d zones\n", c.Nodes, c.Zones)
	if err := m.start(ctx, c.Nodes, c.Zones, c.SeedsPerZone); err != nil {
		return err
	}
	fmt.Fprintf(std.Err, "pushing an image of %v in %d layers\n", c.Size, c.Layers)
	img, err := pushImage(ctx, m.registry.address, int64(c.Size), c.Layers, c.ImageSeed)
	if err != nil {
		return fmt.Errorf("push to the demo registry: %w", err)
	}
	before, err := m.registry.counts(ctx)
	if err != nil {
		return err
	}
	bar := newProgress(std.Err, img.Size*int64(c.Nodes))
	results := m.pullAll(ctx, img, bar)
	bar.done()
	after, err := m.registry.counts(ctx)
	if err != nil {
		return err
	}
	r := newReport(img, results, after.BlobBytes-before.BlobBytes)
	for _, x := range results {
		if x.err != nil {
			fmt.Fprintf(std.Err, "--- end of the log of %s\n%s", x.node.Name, testbed.Tail(x.node.Log, 3000))
		}
	}
	r.write(std.Out)
	return r.verdict()
}
