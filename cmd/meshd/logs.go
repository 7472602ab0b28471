package main

import (
	"log/slog"
	"os"

	logging "github.com/ipfs/go-log/v2"
	"github.com/libp2p/go-libp2p/gologshim"
)

// setupLogs sends every log to stderr at the given level. libp2p and other users of slog go into the same output, and
// speak up only from warnings on, unless GOLOG_LOG_LEVEL says otherwise.
func setupLogs(level string) error {
	c := logging.GetConfig()
	c.Stderr = true
	c.Stdout = false
	if os.Getenv("GOLOG_LOG_LEVEL") == "" {
		c.Level = logging.LevelWarn
	}
	logging.SetupLogging(c)
	if err := logging.SetLogLevelRegex("^meshd/", level); err != nil {
		return err
	}
	slog.SetDefault(slog.New(logging.SlogHandler()))
	gologshim.SetDefaultHandler(logging.SlogHandler())
	return nil
}
