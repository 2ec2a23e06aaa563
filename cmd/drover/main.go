// Command drover is a self-hosted server for AWS IoT Jobs, and the tools around it.
package main

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"os"
	"os/signal"
	"runtime"
	"runtime/debug"
	"syscall"

	"github.com/alecthomas/kong"
)

// cli is the command line. Every flag can also be set as an environment variable
// DROVER_FLAG_NAME, and those of serve in the file that --config names.
type cli struct {
	Serve    serveCmd    `cmd:"" help:"Run the server."`
	Demo     demoCmd     `cmd:"" help:"Run a server in a temporary folder with simulated devices, and one job until it completes."`
	Fleet    fleetCmd    `cmd:"" help:"Run simulated devices against a server."`
	Rehearse rehearseCmd `cmd:"" help:"Run a job on a simulated fleet under a virtual clock: how long it takes, when it aborts, how many devices are hit by then."`
	Bench    benchCmd    `cmd:"" help:"Measure what this machine carries: servers in temporary folders, devices, and mosquitto beside them if installed."`
	Import   importCmd   `cmd:"" help:"Register things in bulk from a file of JSON lines."`
	Backup   backupCmd   `cmd:"" help:"Copy everything that a server keeps into a new folder, while it runs, or check such a copy."`
	Restore  restoreCmd  `cmd:"" help:"Put a backup into an empty data folder, once it has been checked."`
	Migrate  migrateCmd  `cmd:"" name:"migrate-store" help:"Move everything from SQLite to PostgreSQL or back, while no server runs."`
	CA       caCmd       `cmd:"" name:"ca" help:"Drover's own certificate authority: print its root, sign, rotate."`
	Keys     keysCmd     `cmd:"" help:"API keys: who may use the API of a running server, and for what."`
	Users    usersCmd    `cmd:"" help:"Users of the console: who signs in with a password, and what he may do."`
	Audit    auditCmd    `cmd:"" help:"Who did what by the API of a running server, from where, and what was denied."`
	Client   clientCmd   `cmd:"" help:"What a running server knows of an MQTT client: whether it is connected, and what it does in vain."`
	Init     initCmd     `cmd:"" help:"Make the keys that the nodes of one database share, in a folder for --keys."`
	Ready    readyCmd    `cmd:"" help:"Ask a running server whether it is ready; exit with 1 if it is not."`
	Env      envCmd      `cmd:"" help:"Print shell variables that point the AWS CLI and SDKs at a running server."`
	Version  versionCmd  `cmd:"" help:"Print the version."`
}

const description = `A self-hosted server for AWS IoT Jobs.

Point the AWS CLI, the AWS SDKs and the AWS IoT device SDKs at it, and send jobs to one
device or a million. Start with "drover demo", then "drover serve".`

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	// A second signal ends the program at once.
	context.AfterFunc(ctx, stop)
	os.Exit(run(ctx, os.Args[1:], os.Stdout, os.Stderr))
}

// run is the program without its surroundings; it returns the exit code.
func run(ctx context.Context, args []string, stdout, stderr *os.File) int {
	var c cli
	exit := -1
	parser, err := kong.New(&c,
		kong.Name("drover"),
		kong.Description(description),
		kong.UsageOnError(),
		kong.DefaultEnvars("DROVER"),
		kong.Configuration(loadConfig),
		kong.Writers(stdout, stderr),
		kong.Exit(func(code int) {
			if exit < 0 {
				exit = code
			}
		}),
		kong.Bind(&streams{out: stdout, err: stderr}),
		kong.BindTo(ctx, (*context.Context)(nil)),
	)
	if err != nil {
		say(stderr, "drover: %v\n", err)
		return 1
	}
	command, err := parser.Parse(args)
	if exit >= 0 { // --help
		return exit
	}
	if err != nil {
		say(stderr, "drover: %v\n", err)
		return 2
	}
	if err := command.Run(); err != nil {
		say(stderr, "drover: %v\n", err)
		return 1
	}
	return 0
}

// streams is where commands write: results to out, everything else to err.
type streams struct{ out, err *os.File }

// say writes for people. If nobody reads it any more, that is no reason to stop.
func say(w io.Writer, format string, args ...any) { _, _ = fmt.Fprintf(w, format, args...) }

type versionCmd struct{}

func (versionCmd) Run(s *streams) error {
	_, err := fmt.Fprintln(s.out, "drover", version())
	return err
}

// version says what program this is, and which Go built it.
func version() string { return release() + " " + runtime.Version() }

// release is the version of the module, or the commit it was built from.
func release() string {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return "unknown"
	}
	v := info.Main.Version
	for _, s := range info.Settings {
		if s.Key == "vcs.revision" && (v == "" || v == "(devel)") {
			v = "devel " + s.Value
		}
	}
	return cmp.Or(v, "(devel)")
}
