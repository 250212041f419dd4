// SPDX-License-Identifier: Apache-2.0

package worker

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/volley-batch/volley/worker/output"
)

// limitEvery is how often the size of running tasks' output is looked at. A
// limit of the kernel on the size of files would hold for checkpoints too.
const limitEvery = time.Second

// limitLoop stops tasks that write more than they may, until ctx ends.
func (p *processes) limitLoop(ctx context.Context) {
	tick := time.NewTicker(limitEvery)
	defer tick.Stop()
	var told []output.Ref
	for {
		select {
		case <-tick.C:
			told = p.limitOutput(told)
		case <-ctx.Done():
			return
		}
	}
}

// limitOutput stops what exceeds the limit and kills what has been told before:
// the grace of a job may be long, and the disk is everyone's.
func (p *processes) limitOutput(told []output.Ref) []output.Ref {
	over := p.out.Exceeding()
	if len(over) == 0 {
		return nil
	}
	reason := fmt.Sprintf("OutputLimitExceeded: the task wrote more than %d bytes to its standard output or error", p.agent.cfg.MaxOutputBytes)
	p.agent.mu.Lock()
	defer p.agent.mu.Unlock()
	for _, ref := range over {
		for _, s := range p.agent.slots {
			t := &s.task
			if s.lease == nil || t.Job != ref.Job || t.Attempt != ref.Attempt || ref.Index-t.Index >= t.Count {
				continue
			}
			p.agent.stopSlot(s, verdictOutput, reason)
			if slices.Contains(told, ref) {
				t.kill(reason)
			}
		}
	}
	return over
}
