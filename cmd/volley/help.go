// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"strings"

	"github.com/spf13/cobra"
)

// helpCommand takes the place of cobra's, which prints the help of everything
// with status 0 when there is none on what was asked.
func helpCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "help [COMMAND]",
		Short: "Help on a command, or on job files",
		Long:  "Print what `COMMAND --help` prints. `volley help jobfile` says what a job file may say.",
		ValidArgsFunction: func(cmd *cobra.Command, args []string, prefix string) ([]cobra.Completion, cobra.ShellCompDirective) {
			at, rest, err := cmd.Root().Find(args)
			if err != nil || len(rest) > 0 {
				return nil, cobra.ShellCompDirectiveNoFileComp
			}
			var list []cobra.Completion
			for _, c := range at.Commands() {
				if strings.HasPrefix(c.Name(), prefix) && !c.Hidden {
					list = append(list, cobra.CompletionWithDesc(c.Name(), c.Short))
				}
			}
			return list, cobra.ShellCompDirectiveNoFileComp
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			at := cmd.Root()
			for i, name := range args {
				next := child(at, name)
				if next == nil {
					return &usageError{command: "volley", err: fmt.Errorf("there is no help on %q%s", strings.Join(args[:i+1], " "), nearest(at, name))}
				}
				at = next
			}
			at.InitDefaultHelpFlag()
			return at.Help()
		},
	}
}

// mendCompletion gives cobra's completion command our errors: of a shell that
// it does not know it prints its help, with status 0.
func mendCompletion(root *cobra.Command) {
	root.InitDefaultCompletionCmd()
	c := child(root, "completion")
	c.Args = cobra.ArbitraryArgs
	c.RunE = func(cmd *cobra.Command, args []string) error {
		if len(args) == 0 {
			return cmd.Help()
		}
		var shells []string
		for _, s := range cmd.Commands() {
			shells = append(shells, s.Name())
		}
		last := len(shells) - 1
		return &usageError{command: cmd.CommandPath(), err: fmt.Errorf("completion %q: want %s or %s%s",
			args[0], strings.Join(shells[:last], ", "), shells[last], nearest(cmd, args[0]))}
	}
	for _, s := range c.Commands() {
		s.Args = func(cmd *cobra.Command, args []string) error {
			if len(args) > 0 {
				return &usageError{command: cmd.CommandPath(), err: wrongArgs(cmd, args)}
			}
			return nil
		}
	}
}

func child(of *cobra.Command, name string) *cobra.Command {
	for _, c := range of.Commands() {
		if c.Name() == name || c.HasAlias(name) {
			return c
		}
	}
	return nil
}

// nearest proposes a command for one that there is not.
func nearest(of *cobra.Command, name string) string {
	best := closest(name, func(yield func(string) bool) {
		for _, c := range of.Commands() {
			if !c.Hidden && !yield(c.Name()) {
				return
			}
		}
	})
	if best == "" {
		return ""
	}
	return fmt.Sprintf("; did you mean %s?", best)
}
