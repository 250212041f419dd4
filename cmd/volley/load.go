// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"

	"github.com/spf13/cobra"

	"github.com/volley-batch/volley/client"
	"github.com/volley-batch/volley/internal/jobfile"
)

func setFlag(cmd *cobra.Command, set *[]string) {
	cmd.Flags().StringArrayVar(set, "set", nil, "override a `key=value` of the job file, as in sweep.points=64 (repeatable)")
}

// load reads a job file and prints its warnings.
func (a *app) load(ctx context.Context, path string, set []string) (*jobfile.Loaded, client.Submission, error) {
	l, err := jobfile.Load(ctx, path, jobfile.Options{Set: set})
	if err != nil {
		if errors.Is(err, fs.ErrNotExist) {
			err = fmt.Errorf("job file %s: there is no such file", path)
		}
		return nil, client.Submission{}, err
	}
	for _, w := range l.Warnings {
		w.Message = "warning: " + w.Message
		fmt.Fprintln(a.err, w.Format(a.errStyle().Color))
	}
	sub := client.Submission{Spec: l.Spec, Files: make([]string, len(l.Inputs))}
	for i, in := range l.Inputs {
		sub.Files[i] = in.Path
	}
	return l, sub, nil
}

// placed shows where in the job file an error of the coordinator points. What
// it says about other things stays as it is.
func placed(l *jobfile.Loaded, err error) error {
	e, ok := errors.AsType[*client.Error](err)
	if !ok || e.Kind != client.Invalid && e.Kind != client.NotFound {
		return err
	}
	if at, ok := l.Locate(e.Msg, ""); ok {
		return at
	}
	return err
}
