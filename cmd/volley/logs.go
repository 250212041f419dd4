// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"time"

	"github.com/spf13/cobra"

	"github.com/volley-batch/volley/client"
	volleyv1 "github.com/volley-batch/volley/proto/volley/v1"
)

type logsOptions struct {
	follow         bool
	stdout, stderr bool
	attempt        uint32
	tail           int
	all, failed    bool
}

func (a *app) logsCommand() *cobra.Command {
	var o logsOptions
	c := &cobra.Command{
		Use:   "logs JOB[:INDEX]",
		Short: "Print the output of a task",
		Long: `Print the output of a task: its stdout to stdout, its stderr to stderr.

Of an array job name one child, or take --all or --failed for the children one
after the other, each line with its index.`,
		Example:           "  volley logs 3:17\n  volley logs -f 4\n  volley logs 3 --failed --tail 5",
		Args:              cobra.ExactArgs(1),
		ValidArgsFunction: a.completeJob(1),
		RunE:              func(cmd *cobra.Command, args []string) error { return a.logs(cmd.Context(), args[0], o) },
	}
	f := c.Flags()
	f.BoolVarP(&o.follow, "follow", "f", false, "go on until the task ends")
	f.BoolVar(&o.stdout, "stdout", false, "stdout only")
	f.BoolVar(&o.stderr, "stderr", false, "stderr only")
	f.Uint32Var(&o.attempt, "attempt", 0, "`number` of the attempt (default: the last)")
	f.IntVarP(&o.tail, "tail", "n", 0, "only the last so many `lines` of each stream")
	f.BoolVar(&o.all, "all", false, "all children of an array job")
	f.BoolVar(&o.failed, "failed", false, "the failed children of an array job")
	c.MarkFlagsMutuallyExclusive("all", "failed")
	c.MarkFlagsMutuallyExclusive("stdout", "stderr")
	c.MarkFlagsMutuallyExclusive("follow", "all")
	c.MarkFlagsMutuallyExclusive("follow", "failed")
	return c
}

func (a *app) logs(ctx context.Context, name string, o logsOptions) error {
	if o.tail < 0 {
		return usagef("--tail %d: want a number of lines from 1", o.tail)
	}
	return a.with(ctx, func(s *session) error {
		ref, err := s.Resolve(ctx, name)
		if err != nil {
			return err
		}
		d, err := s.Job(ctx, ref)
		if err != nil {
			return err
		}
		if !d.Job.Array || ref.Child {
			if o.all || o.failed {
				return usagef("--all and --failed are for array jobs; %s is one task", ref)
			}
			return a.printLogs(ctx, s, ref, o, a.out, a.err)
		}
		if !o.all && !o.failed {
			return arrayNeedsIndex(d.Job)
		}
		return a.manyLogs(ctx, s, ref, o)
	})
}

// arrayNeedsIndex says how to name a child, with one that exists.
func arrayNeedsIndex(j *volleyv1.Job) error {
	hint := ""
	if j.GetCounts().GetFailed() > 0 {
		hint = ", or --failed for those that failed"
	}
	return usagef("job %s is an array of %d: name a child, as in `volley logs %s:0`%s", j.Id, j.Size, j.Id, hint)
}

// manyLogs prints child after child.
func (a *app) manyLogs(ctx context.Context, s *session, ref client.Ref, o logsOptions) error {
	req := &volleyv1.ListChildrenRequest{JobId: ref.ID}
	if o.failed {
		req.States = []volleyv1.JobState{volleyv1.JobState_JOB_STATE_FAILED}
	}
	for c, err := range s.Children(ctx, req) {
		if err != nil {
			return err
		}
		if len(c.Attempts) == 0 {
			continue // never ran: it has no output
		}
		prefix := a.outStyle().Dim(fmt.Sprintf("%d| ", c.Index))
		out, errs := &prefixer{w: a.out, prefix: prefix}, &prefixer{w: a.err, prefix: prefix}
		err := a.printLogs(ctx, s, client.Ref{ID: ref.ID, Index: c.Index, Child: true}, o, out, errs)
		out.end()
		errs.end()
		if err != nil && client.Kind(err) != client.NotFound {
			return err
		}
	}
	return nil
}

func (a *app) printLogs(ctx context.Context, s *session, ref client.Ref, o logsOptions, out, errs io.Writer) error {
	streams := []volleyv1.LogStream{volleyv1.LogStream_LOG_STREAM_STDOUT, volleyv1.LogStream_LOG_STREAM_STDERR}
	switch {
	case o.stdout:
		streams = streams[:1]
	case o.stderr:
		streams = streams[1:]
	}
	request := func() *volleyv1.ReadLogsRequest {
		return &volleyv1.ReadLogsRequest{Attempt: o.attempt, Streams: streams, Follow: o.follow}
	}
	if o.tail == 0 && o.follow {
		return a.followLogs(ctx, s, ref, request(), out, errs)
	}
	if o.tail == 0 {
		return copyLogs(ctx, s, ref, request(), out, errs)
	}
	// Streams have tails of different lengths, so each is asked for by itself.
	// Followed ones come together again: one request with the longer tail.
	longest := int64(1)
	for _, stream := range streams {
		req := request()
		req.Streams, req.Follow = []volleyv1.LogStream{stream}, false
		tail, err := lastLines(ctx, s, ref, req, o.tail)
		if err != nil {
			return err
		}
		if longest = max(longest, int64(len(tail))); o.follow {
			continue
		}
		w := out
		if stream == volleyv1.LogStream_LOG_STREAM_STDERR {
			w = errs
		}
		if _, err := w.Write(tail); err != nil {
			return err
		}
	}
	if !o.follow {
		return nil
	}
	req := request()
	req.TailBytes = longest
	return a.followLogs(ctx, s, ref, req, out, errs)
}

// yield is how long logs leave the directory to those who would run its tasks.
const yield = time.Second

// followLogs is copyLogs for a task that may outlast the process which has the
// directory. One that has not begun is waited for with the next process. The
// output of one that has ends with its process: its next attempt has another.
func (a *app) followLogs(ctx context.Context, s *session, ref client.Ref, req *volleyv1.ReadLogsRequest, out, errs io.Writer) error {
	toOut := &counter{w: out}
	toErr := &counter{w: errs}
	for tries := 0; ; tries++ {
		err := copyLogs(ctx, s, ref, req, toOut, toErr)
		// The worker of a process that is about to leave goes first: ask again,
		// and the next answer is that of whoever has the directory then.
		going := s.in != nil && client.Kind(err) == client.Refused && toOut.n+toErr.n == 0 && tries < maxGoing
		if err == nil || s.in == nil || !going && !s.in.Left(err) {
			return err
		}
		if toOut.n+toErr.n > 0 {
			return &client.Error{Kind: client.Unreachable, Err: err, Msg: fmt.Sprintf(
				"the process that ran %s has left, and stopped it; `volley logs -f %s` follows its next attempt", ref, ref)}
		}
		select {
		case <-time.After(yield):
		case <-ctx.Done():
			return ctx.Err()
		}
		if going {
			continue
		}
		if again, err := a.rejoin(ctx, s, need{}, err); !again {
			return err
		}
	}
}

// maxGoing bounds how often followLogs asks a process that has lost its worker.
const maxGoing = 50

// counter counts what goes through it.
type counter struct {
	w io.Writer
	n int
}

func (c *counter) Write(p []byte) (int, error) {
	c.n += len(p)
	return c.w.Write(p)
}

func copyLogs(ctx context.Context, s *session, ref client.Ref, req *volleyv1.ReadLogsRequest, out, errs io.Writer) error {
	for m, err := range s.logs(ctx, ref, req) {
		if err != nil {
			return err
		}
		w := out
		if m.Stream == volleyv1.LogStream_LOG_STREAM_STDERR {
			w = errs
		}
		if _, err := w.Write(m.Data); err != nil {
			return err
		}
	}
	return nil
}

// lastLines reads the last n lines of one stream. The API counts bytes, so it
// asks for more until the lines are there or the stream is all.
func lastLines(ctx context.Context, s *session, ref client.Ref, req *volleyv1.ReadLogsRequest, n int) ([]byte, error) {
	for size := int64(n) * 128; ; size *= 8 {
		req.TailBytes = size
		var b bytes.Buffer
		if err := copyLogs(ctx, s, ref, req, &b, &b); err != nil {
			return nil, err
		}
		data := b.Bytes()
		at := len(data)
		if at > 0 && data[at-1] == '\n' {
			at-- // the last line's own end
		}
		for lines := 0; at >= 0; lines++ {
			if at = bytes.LastIndexByte(data[:at], '\n'); at >= 0 && lines == n-1 {
				return data[at+1:], nil
			}
		}
		if int64(len(data)) < size {
			return data, nil
		}
	}
}

// prefixer puts a prefix before every line.
type prefixer struct {
	w      io.Writer
	prefix string
	inLine bool
}

func (p *prefixer) Write(b []byte) (int, error) {
	for line := range bytes.Lines(b) {
		if !p.inLine {
			if _, err := io.WriteString(p.w, p.prefix); err != nil {
				return 0, err
			}
		}
		if _, err := p.w.Write(line); err != nil {
			return 0, err
		}
		p.inLine = line[len(line)-1] != '\n'
	}
	return len(b), nil
}

// end ends a line that the task did not: the next one is another task's.
func (p *prefixer) end() {
	if p.inLine {
		_, _ = io.WriteString(p.w, "\n")
		p.inLine = false
	}
}
