// SPDX-License-Identifier: Apache-2.0

package load

import (
	"context"
	"errors"
	"fmt"
	"os/exec"

	volleyv1 "github.com/volley-batch/volley/proto/volley/v1"
)

// processes starts the workers that run processes; a coordinator that runs
// already has its own.
func (r *run) processes(ctx context.Context, cpus int) (stop func() error, err error) {
	if !r.t.own {
		r.selfRole = "client"
		return func() error { return nil }, nil
	}
	r.selfRole, r.childRole = "workers, client", "task processes"
	r.report.Setup.Workers, r.report.Setup.Slots = r.c.Workers, cpus
	return r.agents(ctx, cpus, nil)
}

// spawn runs processes with their output captured.
func (r *run) spawn(ctx context.Context) (err error) {
	command := r.c.Command
	if len(command) == 0 {
		path, err := exec.LookPath("true")
		if err != nil {
			return fmt.Errorf("the command to run: %w", err)
		}
		command = []string{path}
	}
	r.report.Setup.Command, r.report.Setup.Tasks, r.perTask = command, r.c.Tasks, true
	stop, err := r.processes(ctx, r.c.Slots)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, stop()) }()
	spec := r.spec("spawn")
	spec.Command = command
	spec.Space = &volleyv1.Space{Kind: &volleyv1.Space_Array{Array: r.c.Tasks}}
	return r.rounds(ctx, spec, nil)
}
