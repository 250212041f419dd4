// SPDX-License-Identifier: Apache-2.0

package progress

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/volley-batch/volley/client"
	"github.com/volley-batch/volley/internal/render"
	volleyv1 "github.com/volley-batch/volley/proto/volley/v1"
)

const (
	// frames is the time between two redraws.
	frames = 100 * time.Millisecond
	// extras is the time between two looks at what the counts do not say.
	extras = time.Second
	// maxKinds is how many kinds of failures are told as they happen.
	maxKinds = 5
	// idle is how long nothing runs before the view says why.
	idle = 2 * time.Second
	// tailLines and tailBytes bound what is quoted of a failed task's stderr.
	tailLines = 6
	tailBytes = 4096
)

// ErrStopped is the answer of Follow when StopWhen said so.
var ErrStopped = errors.New("stopped following")

// NeverError is the answer of Follow with OnlyNode set when the job can never
// start.
type NeverError struct {
	// Reason is a sentence with numbers.
	Reason string
}

func (e *NeverError) Error() string { return e.Reason }

// Follower follows jobs.
type Follower struct {
	Client *client.Client
	View   View
	Style  render.Style
	// Stopping is shown in the view, and failures are not told any more: they
	// are those of the stop.
	Stopping bool
	// StopWhen ends the following with ErrStopped. Nil: never.
	StopWhen func(*volleyv1.Job) bool
	// OnlyNode: no node can come beside those that are there, so a job that
	// none of them can run ends the following with a NeverError instead of
	// being waited for.
	OnlyNode bool

	wait  waiting
	kinds map[string]bool
	best  *volleyv1.Child
	// seen are the failures at the last look.
	seen uint64
	next time.Time
}

// Follow shows the job until it is terminal, and answers with its last state.
// When the context ends, the answer is the last state seen, with the error.
func (f *Follower) Follow(ctx context.Context, id string) (*volleyv1.Job, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	type event struct {
		job *volleyv1.Job
		err error
	}
	events := make(chan event)
	go func() {
		defer close(events)
		for j, err := range f.Client.Watch(ctx, id, frames) {
			select {
			case events <- event{j, err}:
			case <-ctx.Done():
				return
			}
		}
	}()
	tick := time.NewTicker(frames)
	defer tick.Stop()
	defer f.View.Close()
	var job *volleyv1.Job
	for {
		select {
		case e, ok := <-events:
			switch {
			case !ok && job != nil && client.Terminal(job.State):
				f.look(context.WithoutCancel(ctx), job, time.Now(), true)
				return job, nil
			case !ok:
				return job, context.Cause(ctx)
			case e.err != nil:
				return job, e.err
			}
			job = e.job
			if f.StopWhen != nil && !client.Terminal(job.State) && f.StopWhen(job) {
				f.look(ctx, job, time.Now(), true)
				return job, ErrStopped
			}
		case <-tick.C:
		}
		if job == nil {
			continue
		}
		now := time.Now()
		f.look(ctx, job, now, false)
		if err := f.explain(ctx, job, now); err != nil {
			return job, err
		}
		f.View.Update(State{Job: job, Best: f.best, Stopping: f.Stopping, Wait: f.wait.said}, now)
	}
}

// look fetches what the counts do not say, when there is reason to.
func (f *Follower) look(ctx context.Context, job *volleyv1.Job, now time.Time, last bool) {
	best := job.Best != nil && (f.best == nil || f.best.Index != job.Best.Index || f.best.GetMetric() != job.Best.Value)
	failed := job.GetCounts().GetFailed() > f.seen && !f.Stopping
	if !best && !failed || now.Before(f.next) && !last {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, extras)
	defer cancel()
	// The larger the job, the more the answer costs the coordinator.
	defer func() { f.next = now.Add(max(extras, 50*time.Since(now))) }()
	if best {
		d, err := f.Client.Describe(ctx, false, client.Ref{ID: job.Id, Index: job.Best.Index, Child: job.Array}.String())
		if err == nil && len(d) == 1 && d[0].Child != nil {
			f.best = d[0].Child
			if f.best.Metric == nil {
				f.best.Metric = &job.Best.Value
			}
		}
	}
	if failed {
		f.failures(ctx, job)
	}
}

// failures tells the kinds of failures that are new.
func (f *Follower) failures(ctx context.Context, job *volleyv1.Job) {
	if len(f.kinds) >= maxKinds {
		f.seen = job.GetCounts().GetFailed()
		return
	}
	e, err := f.Client.Explain(ctx, client.Ref{ID: job.Id})
	if err != nil || len(e.Failures) == 0 {
		return
	}
	f.seen = job.GetCounts().GetFailed()
	for _, g := range e.Failures {
		kind := Kind(g)
		if f.kinds[kind] || len(f.kinds) >= maxKinds || len(g.Examples) == 0 {
			continue
		}
		if f.kinds == nil {
			f.kinds = map[string]bool{}
		}
		f.kinds[kind] = true
		ref := client.Ref{ID: job.Id, Index: g.Examples[0], Child: job.Array}
		f.View.Note(Notice(f.Style, ref, kind, f.tail(ctx, ref)))
	}
}

// tail reads the end of a child's stderr.
func (f *Follower) tail(ctx context.Context, ref client.Ref) []byte {
	var b bytes.Buffer
	req := &volleyv1.ReadLogsRequest{JobId: ref.String(), TailBytes: tailBytes, Streams: []volleyv1.LogStream{volleyv1.LogStream_LOG_STREAM_STDERR}}
	for m, err := range f.Client.Logs(ctx, req) {
		if err != nil || b.Len() > 4*tailBytes {
			break
		}
		b.Write(m.Data)
	}
	return b.Bytes()
}

// Notice is the text about a first failure.
func Notice(s render.Style, ref client.Ref, kind string, stderr []byte) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s %s: %s\n", s.Red("failed"), ref, kind)
	lines := strings.Split(strings.TrimRight(string(stderr), "\n"), "\n")
	for _, l := range lines[max(0, len(lines)-tailLines):] {
		if l = strings.TrimRight(render.Clean(l), " "); l != "" {
			fmt.Fprintf(&b, "  %s\n", s.Dim("| ")+l)
		}
	}
	return b.String()
}

// Kind says in words what the failures of a group have in common.
func Kind(g *volleyv1.FailureGroup) string {
	return Why(g.ExitCode, g.Reason, g.StatusReason)
}

// usual is AWS Batch's word for "the process ended with a code": the code says
// it better.
const usual = "Essential container in task exited"

// revoked is what a worker says of a task that it was told to stop.
const revoked = "revoked by the coordinator"

// Why says in words why an attempt failed: the specific reason, the exit code,
// and the status reason when it is not the usual one.
func Why(exit *int32, reason, statusReason string) string {
	var parts []string
	// Who revoked it says why, in the status reason. How the process took the
	// signal does not matter: "exit code 0" of a failed task only puzzles.
	if rest, ok := strings.CutPrefix(reason, revoked); ok && statusReason != "" && statusReason != usual {
		reason, statusReason, exit = statusReason+", while it ran"+rest, "", nil
	}
	if reason != "" {
		parts = append(parts, render.Clean(reason))
	}
	if exit != nil {
		parts = append(parts, fmt.Sprintf("exit code %d%s", *exit, signal(*exit)))
	}
	if statusReason != "" && statusReason != reason && (statusReason != usual || len(parts) == 0) {
		parts = append(parts, render.Clean(statusReason))
	}
	if len(parts) == 0 {
		return "no reason was recorded"
	}
	return strings.Join(parts, ", ")
}

// signal names the signals that people meet.
func signal(exit int32) string {
	names := map[int32]string{1: "SIGHUP", 2: "SIGINT", 3: "SIGQUIT", 4: "SIGILL", 6: "SIGABRT", 7: "SIGBUS", 8: "SIGFPE", 9: "SIGKILL", 11: "SIGSEGV", 13: "SIGPIPE", 14: "SIGALRM", 15: "SIGTERM"}
	if n, ok := names[exit-128]; ok {
		return " (" + n + ")"
	}
	return ""
}
