// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"

	"github.com/spf13/cobra"

	"github.com/volley-batch/volley/internal/jobfile"
)

// jobfileTopic is `volley help jobfile`. The text is made when it is asked
// for: every command would pay for it otherwise.
func jobfileTopic() *cobra.Command {
	c := &cobra.Command{Use: "jobfile", Short: "What a job file may say"}
	c.SetHelpFunc(func(cmd *cobra.Command, _ []string) { fmt.Fprint(cmd.OutOrStdout(), jobfile.Reference()) })
	return c
}
