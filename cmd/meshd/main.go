package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/alecthomas/kong"

	"github.com/meshd-project/meshd/cmd/meshd/demo"
	"github.com/meshd-project/meshd/cmd/meshd/setup"
	"github.com/meshd-project/meshd/cmd/meshd/sim"
	"github.com/meshd-project/meshd/node"
)

// Exit codes of the program.
const (
	exitFailed = 1 // the work failed
	exitUsage  = 2 // command line, environment or file wrong
)

// commands is the whole command line.
type commands struct {
	Run      runCommand      `cmd:"" help:"Run a node: the mirror for this host and its part in the mesh. Works without any flag."`
	Demo     demo.Command    `cmd:"" help:"Run a whole mesh and a registry on this machine, pull an image through every node, print the table."`
	Status   statusCommand   `cmd:"" help:"Show what the node on this host is doing."`
	Preheat  preheatCommands `cmd:"" help:"Have nodes fetch images before anybody pulls them."`
	Pin      pinCommands     `cmd:"" help:"Keep images on this node's disk whatever else comes."`
	Unpin    unpinCommand    `cmd:"" help:"Let a pinned image go when room is needed."`
	Cache    cacheCommands   `cmd:"" help:"What this node holds on its disk."`
	Doctor   doctorCommand   `cmd:"" help:"Check the node on this host and say what to do; exit code 1 if something fails."`
	Limits   limitsCommand   `cmd:"" help:"Show the rates of the node on this host, or change them until it ends."`
	Get      getCommand      `cmd:"" help:"Get files by URL, or images, through the mesh."`
	CA       setup.CACommand `cmd:"" name:"ca" help:"The certificate by which the proxy ends TLS: print it, have clients trust it."`
	Setup    setup.Command   `cmd:"" help:"Have a container client on this host pull through meshd, or take that back."`
	Evidence evidenceCommand `cmd:"" help:"Show the proofs that peers lied, and check them."`
	Revoke   revokeCommand   `cmd:"" help:"Revoke peers: sign the list anew and hand it to the mesh, which cuts them."`
	Key      keyCommands     `cmd:"" help:"Make keys, rotate the mesh key."`
	Sim      sim.Command     `cmd:"" help:"Simulate meshes of up to thousands of nodes with the policy that ships, and rivals beside it."`
	Version  versionCommand  `cmd:"" help:"Print the version."`

	DemoRegistry demo.RegistryCommand `cmd:"" name:"demo-registry" hidden:"" help:"The registry of meshd demo and meshd sim lab, in its own process."`
}

type keyCommands struct {
	New      keyNewCommand      `cmd:"" name:"new" help:"Print a new mesh key: nodes that share it are one mesh."`
	Operator keyOperatorCommand `cmd:"" help:"Print a new operator key: who has it can revoke peers."`
	Public   keyPublicCommand   `cmd:"" help:"Print the public half of an operator key, for --operator-public of the nodes."`
	Rotate   keyRotateCommand   `cmd:"" help:"Put a new key before the one in a file: nodes use the new one and accept both."`
	Retire   keyRetireCommand   `cmd:"" help:"Take the old key out of a file, when every node has the new one."`
	Show     keyShowCommand     `cmd:"" help:"Print the ids of the keys in a file; they are no secret."`
}

// streams are the standard streams of a run of the program.
type streams struct {
	out, err io.Writer
}

func main() {
	os.Exit(run(os.Args[1:], streams{out: os.Stdout, err: os.Stderr}))
}

// run is the program with its edges passed in; it returns the exit code.
func run(args []string, std streams) int {
	var cmds commands
	exited := -1
	parser, err := newParser(&cmds, std, func(code int) { exited = code })
	if err != nil {
		fmt.Fprintf(std.err, "meshd: %v\n", err)
		return exitFailed
	}
	parsed, err := parser.Parse(args)
	if exited >= 0 { // --help
		return exited
	}
	if err != nil {
		return usageError(std, err)
	}
	ctx, stop := signalContext(context.Background())
	defer stop()
	parsed.BindTo(ctx, (*context.Context)(nil))
	parsed.Bind(std)
	parsed.Bind(demo.Streams{Out: std.out, Err: std.err})
	parsed.Bind(sim.Streams{Out: std.out, Err: std.err})
	parsed.Bind(setup.Streams{Out: std.out, Err: std.err})
	if err := parsed.Run(); err != nil {
		usage, simUsage, setupUsage := (*usageErr)(nil), (*sim.UsageError)(nil), (*setup.UsageError)(nil)
		if errors.As(err, &usage) || errors.As(err, &simUsage) || errors.As(err, &setupUsage) {
			return usageError(std, err)
		}
		fmt.Fprintf(std.err, "meshd: %v\n", err)
		var coded interface{ ExitCode() int }
		if errors.As(err, &coded) {
			return coded.ExitCode()
		}
		return exitFailed
	}
	return 0
}

// usageErr marks a mistake of the user that was found after parsing.
type usageErr struct{ error }

func (e *usageErr) Unwrap() error { return e.error }

func usageError(std streams, err error) int {
	fmt.Fprintf(std.err, "meshd: %v\n", err)
	var parse *kong.ParseError
	if errors.As(err, &parse) && parse.Context != nil && parse.Context.Command() == "" {
		fmt.Fprintln(std.err, "meshd: see meshd --help")
	}
	return exitUsage
}

// newParser makes the command line parser. Defaults have one home, node.Default, and get into the tags by name.
func newParser(cmds *commands, std streams, exit func(int)) (*kong.Kong, error) {
	return kong.New(cmds,
		kong.Name("meshd"),
		kong.Description("A mesh that distributes container images: every host pulls through its own meshd, and the registry sends each byte once."),
		kong.UsageOnError(),
		kong.ConfigureHelp(kong.HelpOptions{Compact: true, WrapUpperBound: 120}),
		kong.Writers(std.out, std.err),
		kong.Exit(exit),
		defaultVars(node.Default()),
	)
}
