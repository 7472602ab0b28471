package demo

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"time"

	"github.com/meshd-project/meshd/netsim/testbed"
)

// RegistryCommand is the hidden subcommand that runs the registry. It prints its address and ends with its stdin.
type RegistryCommand struct {
	Addr string `default:"127.0.0.1:0" help:"Listen address."`
}

// Run serves until ctx ends or the parent closes stdin.
func (c *RegistryCommand) Run(ctx context.Context, std Streams) error {
	l, err := net.Listen("tcp", c.Addr)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	go func() {
		_, _ = io.Copy(io.Discard, os.Stdin)
		cancel()
	}()
	srv := &http.Server{Handler: testbed.NewRegistry(), ReadHeaderTimeout: 10 * time.Second}
	context.AfterFunc(ctx, func() { _ = srv.Close() })
	fmt.Fprintln(std.Out, l.Addr())
	if err := srv.Serve(l); ctx.Err() == nil {
		return err
	}
	return nil
}
