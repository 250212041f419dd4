// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"sync/atomic"

	"github.com/mattn/go-isatty"
	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/volley-batch/volley/internal/embedded"
	"github.com/volley-batch/volley/internal/render"
)

// app is one run of the program: its streams and global flags.
type app struct {
	in       io.Reader
	out, err io.Writer
	getenv   func(string) string

	coordinator string
	dir         string
	output      string
	noColor     bool
	verbose     bool

	// working is the instance of this process that runs tasks; nil: none.
	working atomic.Pointer[embedded.Instance]
}

const rootHelp = `Volley runs array jobs, sweeps and maps on your own machines.

  volley run sweep.yaml        run a job here, with its state in ./.volley
  volley help jobfile          what a job file may say
  volley ls                    what has run
  volley logs 3:17             the output of task 17 of job 3
  volley results 3 -o csv      one row for each task: parameters, metrics, times
  volley why 3                 why a job waits, or how it failed

Without --coordinator and VOLLEY_ADDR, commands use the directory .volley of
the current directory or the nearest one above: they join the process that
works in it, or open it themselves.

A JOB is an id, or a name, which means the newest job of that name. JOB:INDEX
is one child of an array job.
`

// main runs the command and answers with the exit status.
func (a *app) main(ctx context.Context, args []string) int {
	root := a.root()
	mendCompletion(root)
	root.SetArgs(args)
	cmd, err := root.ExecuteContextC(ctx)
	if err != nil && strings.HasPrefix(err.Error(), "unknown command") {
		err = &usageError{err: err, command: "volley"}
	}
	if e, ok := errors.AsType[*usageError](err); ok && e.command == "" {
		e.command = cmd.CommandPath()
	}
	status := exitStatus(ctx, err)
	if _, told := errors.AsType[*reportedError](err); err != nil && !told {
		a.report(a.err, status, err)
	}
	return status
}

func (a *app) root() *cobra.Command {
	root := &cobra.Command{
		Use:           "volley",
		Short:         "Run array jobs, sweeps and maps",
		Long:          rootHelp + exitHelp("volley"),
		SilenceErrors: true,
		SilenceUsage:  true,
		RunE:          func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	root.SetIn(a.in)
	root.SetOut(a.out)
	root.SetErr(a.err)
	root.SetFlagErrorFunc(func(cmd *cobra.Command, err error) error {
		return &usageError{err: suggestFlag(cmd, err), command: cmd.CommandPath()}
	})
	f := root.PersistentFlags()
	f.StringVar(&a.coordinator, "coordinator", "", "address of the coordinator, `host:port` (default: $VOLLEY_ADDR, else .volley)")
	f.StringVar(&a.dir, "dir", "", "state `directory` of the embedded coordinator (default: .volley here or above)")
	f.BoolVar(&a.noColor, "no-color", false, "no colours, also on a terminal (as NO_COLOR)")
	f.BoolVarP(&a.verbose, "verbose", "v", false, "log to stderr what coordinator and worker do in this process")
	root.AddGroup(&cobra.Group{ID: "job", Title: "Jobs:"}, &cobra.Group{ID: "server", Title: "Servers:"})
	add := func(group string, cmds ...*cobra.Command) {
		for _, c := range cmds {
			c.GroupID = group
			c.Long = strings.TrimRight(c.Long, "\n") + "\n" + exitHelp(c.Name())
			c.DisableFlagsInUseLine = true
			args := c.Args
			c.Args = func(cmd *cobra.Command, list []string) error {
				if err := args(cmd, list); err != nil {
					return &usageError{err: wrongArgs(cmd, list), command: cmd.CommandPath()}
				}
				return nil
			}
			root.AddCommand(c)
		}
	}
	add("job", a.runCommand(), a.submitCommand(), a.lsCommand(), a.showCommand(), a.logsCommand(), a.waitCommand(),
		a.cancelCommand(), a.rerunCommand(), a.whyCommand(), a.resultsCommand(), a.nodesCommand())
	add("server", a.coordinatorCommand(), a.workerCommand(), a.devCommand(), a.benchCommand())
	add("", a.versionCommand())
	root.AddCommand(jobfileTopic())
	root.SetHelpCommand(helpCommand())
	root.SuggestionsMinimumDistance = 2
	return root
}

// wrongArgs says what the command takes: "accepts 1 arg(s), received 0" names
// neither.
func wrongArgs(cmd *cobra.Command, args []string) error {
	_, takes, _ := strings.Cut(cmd.Use, " ")
	switch {
	case takes == "":
		return fmt.Errorf("%s takes no arguments, not %q", cmd.Name(), args[0])
	case len(args) == 0:
		return fmt.Errorf("%s wants %s", cmd.Name(), takes)
	}
	return fmt.Errorf("%s wants %s, not %d arguments", cmd.Name(), takes, len(args))
}

// outputFlag adds -o. The formats differ: results has its own.
func (a *app) outputFlag(cmd *cobra.Command, standard, formats string) {
	cmd.Flags().StringVarP(&a.output, "output", "o", standard, "output `format`: "+formats)
	completeWords(cmd, "output", formats)
}

// addr is the coordinator that was asked for; empty: the embedded one.
func (a *app) addr() string {
	if a.coordinator != "" || a.dir != "" {
		return a.coordinator
	}
	return a.getenv("VOLLEY_ADDR")
}

// format is the value of -o of a listing.
func (a *app) format() (render.Format, error) {
	f, err := render.ParseFormat(a.output)
	if err != nil {
		return "", usagef("%w", err)
	}
	return f, nil
}

// terminal says whether a stream is one that can be drawn on.
func (a *app) terminal(w io.Writer) bool {
	f, ok := w.(*os.File)
	return ok && isatty.IsTerminal(f.Fd()) && a.getenv("TERM") != "dumb"
}

func (a *app) style(w io.Writer) render.Style {
	return render.Style{Color: !a.noColor && a.getenv("NO_COLOR") == "" && a.terminal(w)}
}

func (a *app) outStyle() render.Style { return a.style(a.out) }
func (a *app) errStyle() render.Style { return a.style(a.err) }

// width is that of the terminal behind a stream; 0 when there is none, so that
// nothing is cut in a pipe.
func (a *app) width(w io.Writer) int {
	if f, ok := w.(*os.File); ok && a.terminal(w) {
		if n, _, err := term.GetSize(int(f.Fd())); err == nil {
			return n
		}
	}
	return 0
}
