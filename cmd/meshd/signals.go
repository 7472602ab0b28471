package main

import (
	"context"
	"os"
	"os/signal"
	"syscall"
)

// signalContext ends with the first SIGINT or SIGTERM, from which time on signals do what they do by default: a second
// one kills the process.
func signalContext(parent context.Context) (context.Context, context.CancelFunc) {
	ctx, stop := signal.NotifyContext(parent, os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(ctx, stop)
	return ctx, stop
}
