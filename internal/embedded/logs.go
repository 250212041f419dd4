// SPDX-License-Identifier: Apache-2.0

package embedded

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"iter"
	"os"
	"path/filepath"
	"slices"
	"strconv"

	"github.com/volley-batch/volley/client"
	volleyv1 "github.com/volley-batch/volley/proto/volley/v1"
	"github.com/volley-batch/volley/worker/output"
)

// Logs yields the output of one attempt of a child, as client.Logs does.
//
// Without a worker nobody answers the coordinator's question for output, and
// starting one for it would also start the tasks that wait. The files lie in
// the directory that this process owns, so they are read from there.
func (in *Instance) Logs(ctx context.Context, ref client.Ref, req *volleyv1.ReadLogsRequest) iter.Seq2[*volleyv1.ReadLogsResponse, error] {
	req.JobId = ref.String()
	if in.Working() {
		return in.client.Logs(ctx, req)
	}
	return func(yield func(*volleyv1.ReadLogsResponse, error) bool) {
		if err := in.localLogs(ctx, ref, req, yield); err != nil && !errors.Is(err, errEnough) {
			yield(nil, err)
		}
	}
}

// errEnough ends a read whose reader has gone.
var errEnough = errors.New("enough")

func (in *Instance) localLogs(ctx context.Context, ref client.Ref, req *volleyv1.ReadLogsRequest, yield func(*volleyv1.ReadLogsResponse, error) bool) error {
	d, err := in.client.Job(ctx, ref)
	if err != nil {
		return err
	}
	job, err := strconv.ParseUint(ref.ID, 10, 64)
	if err != nil || d.Child == nil {
		return &client.Error{Kind: client.Invalid, Msg: fmt.Sprintf("job %s is an array: name one of its children, as in %s:0", ref.ID, ref.ID)}
	}
	attempt := req.Attempt
	if n := len(d.Child.Attempts); attempt == 0 && n > 0 {
		attempt = d.Child.Attempts[n-1].Attempt
	}
	// In the words of the API: who reads should not notice who answers.
	none := &client.Error{Kind: client.NotFound, Op: "read logs"}
	switch c := d.Child; {
	case c.ReusedFrom != "":
		none.Msg = fmt.Sprintf("%s was not run: its result was taken over from job %s", ref, c.ReusedFrom)
		return none
	case attempt > 0:
		none.Msg = fmt.Sprintf("there is no output of %s, attempt %d", ref, attempt)
	case client.Terminal(c.State):
		none.Msg = fmt.Sprintf("%s ended without having started, so it has no output: %s", ref, c.StatusReason)
	default:
		none.Msg = fmt.Sprintf("%s has not started, so it has no output", ref)
	}
	dir := filepath.Join(in.dir.path("worker"), "output")
	if _, err := os.Stat(dir); attempt == 0 || errors.Is(err, fs.ErrNotExist) {
		return none
	}
	store, err := output.Open(dir, output.Options{})
	if err != nil {
		return fmt.Errorf("read logs of %s: %w", ref, err)
	}
	defer func() { _ = store.Close() }()
	key := output.Ref{Job: job, Index: ref.Index, Attempt: attempt}
	info, err := store.Lookup(key)
	if err != nil {
		none.Err = err
		return none
	}
	for i, s := range []volleyv1.LogStream{volleyv1.LogStream_LOG_STREAM_STDOUT, volleyv1.LogStream_LOG_STREAM_STDERR} {
		if len(req.Streams) > 0 && !slices.Contains(req.Streams, s) {
			continue
		}
		from := int64(0)
		if req.TailBytes > 0 {
			from = max(0, info.Bytes[i]-req.TailBytes)
		}
		w := writer(func(p []byte) error {
			if ctx.Err() != nil {
				return ctx.Err()
			}
			if !yield(&volleyv1.ReadLogsResponse{Stream: s, Data: p}, nil) {
				return errEnough
			}
			return nil
		})
		if _, err := store.Read(key, []output.Stream{output.Stdout, output.Stderr}[i], from, w); err != nil {
			return err
		}
	}
	return nil
}

// writer hands out chunks; they are the reader's only until it returns.
type writer func([]byte) error

func (w writer) Write(p []byte) (int, error) {
	if err := w(p); err != nil {
		return 0, err
	}
	return len(p), nil
}
