// SPDX-License-Identifier: Apache-2.0

package load

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"syscall"
	"time"

	"github.com/volley-batch/volley/client"
	volleyv1 "github.com/volley-batch/volley/proto/volley/v1"
)

// fifo is the pipe through which processes say that they have started. It is
// open for reading and writing, so that reading never ends by itself.
type fifo struct {
	path  string
	file  *os.File
	lines chan said
	ended chan struct{}
}

type said struct {
	line string
	at   time.Time
}

// fifoEnd is what close says to its reader.
const fifoEnd = "end"

func openFifo(path string) (*fifo, error) {
	if err := syscall.Mkfifo(path, 0o600); err != nil {
		return nil, fmt.Errorf("make the pipe %s: %w", path, err)
	}
	file, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		return nil, fmt.Errorf("open the pipe: %w", err)
	}
	f := &fifo{path: path, file: file, lines: make(chan said, 64), ended: make(chan struct{})}
	go f.read()
	return f, nil
}

func (f *fifo) read() {
	defer close(f.ended)
	for s := bufio.NewScanner(f.file); s.Scan() && s.Text() != fifoEnd; {
		select {
		case f.lines <- said{s.Text(), time.Now()}:
		default: // nobody waits for it: of a sample that was given up
		}
	}
}

// close says the last line itself: not every system wakes a reader whose pipe
// is closed.
func (f *fifo) close() error {
	_, err := f.file.WriteString(fifoEnd + "\n")
	if err == nil {
		<-f.ended
	}
	return errors.Join(err, f.file.Close())
}

// await waits for a line.
func (f *fifo) await(ctx context.Context, line string) (time.Time, error) {
	for {
		select {
		case s := <-f.lines:
			if s.line == line {
				return s.at, nil
			}
		case <-ctx.Done():
			return time.Time{}, ctx.Err()
		}
	}
}

// startTimeout is how long a process may take to start.
const startTimeout = 30 * time.Second

// latency measures from the call of SubmitJob until the first process of the
// job has written a line: the start of the process is in it, which a shell is.
func (r *run) latency(ctx context.Context) (err error) {
	s := &r.report.Setup
	s.Samples = r.c.Samples
	cpus := r.c.Slots
	if r.c.Queued > 0 && r.c.QueuedOn == Busy {
		cpus = max(cpus, 3) // with 2, two of the queued ones would fit beside each other
	}
	stop, err := r.processes(ctx, cpus)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, stop()) }()
	pipe, err := openFifo(filepath.Join(r.t.dir, "started"))
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, pipe.close()) }()
	if r.c.Queued > 0 {
		id, err := r.queue(ctx, cpus)
		if err != nil {
			return err
		}
		defer r.terminate(ctx, id)
	}
	m, err := r.begin(ctx)
	if err != nil {
		return err
	}
	defer func() { r.end(ctx, m) }()
	acked, started := newHistogram("submit until acknowledged"), newHistogram("submit until the first process has started")
	defer func() { r.report.Latencies = started.appendTo(acked.appendTo(nil)) }()
	random := rand.New(rand.NewPCG(r.c.Seed, 0))
	for n := range r.c.Samples {
		if r.c.Duration > 0 && time.Since(m.begin) >= r.c.Duration {
			break
		}
		if err := r.submitted(ctx, pipe, strconv.Itoa(n), acked, started); err != nil {
			return err
		}
		res := &r.report.Result
		res.Jobs++
		res.Tasks++
		res.Seconds = time.Since(m.begin).Seconds()
		// Without a pause of changing length all samples would stand in one
		// phase to the coordinator's ticks.
		pause(ctx, time.Duration(random.Int64N(int64(20*time.Millisecond))))
	}
	return ctx.Err()
}

// submitted is one sample.
func (r *run) submitted(ctx context.Context, pipe *fifo, n string, acked, started *histogram) error {
	spec := r.spec("latency")
	spec.Command = []string{"/bin/sh", "-c", `echo "$BENCH_SAMPLE" >"$BENCH_PIPE"`}
	spec.Env = []*volleyv1.EnvVar{{Name: "BENCH_SAMPLE", Value: n}, {Name: "BENCH_PIPE", Value: pipe.path}}
	// Else it would wait for its turn behind older work of the same priority.
	spec.Priority = 1
	begin := time.Now()
	resp, err := r.t.client.Submit(context.WithoutCancel(ctx), client.Submission{Spec: spec})
	if err != nil {
		return err
	}
	acknowledged := time.Now()
	wait, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	at, err := pipe.await(wait, n)
	if err != nil {
		r.terminate(ctx, resp.GetJobId())
		if ctx.Err() == nil {
			err = fmt.Errorf("no process of job %s said within %v that it has started; do the workers run on this machine?", resp.GetJobId(), startTimeout)
		}
		return err
	}
	acked.add(acknowledged.Sub(begin))
	started.add(at.Sub(begin))
	// To its end, so that the next one finds the server idle.
	for job, err := range r.t.client.Watch(ctx, resp.GetJobId(), time.Millisecond) {
		if err != nil {
			return err
		}
		r.last = job
	}
	r.check("succeeded", r.last.GetState() == volleyv1.JobState_JOB_STATE_SUCCEEDED, "job %s ended as %s", r.last.GetId(), r.last.GetState())
	return nil
}

// queue submits the tasks that wait beside what is measured.
func (r *run) queue(ctx context.Context, cpus int) (string, error) {
	s := &r.report.Setup
	s.Queued = r.c.Queued
	spec := r.spec("queued")
	spec.Queue = "bench-queued"
	spec.Command = []string{"/bin/sleep", "86400"}
	spec.Space = &volleyv1.Space{Kind: &volleyv1.Space_Array{Array: r.c.Queued}}
	spec.Resources = &volleyv1.Resources{CpuMilli: 1000, Gpu: 1 << 20}
	s.QueuedOn = "GPUs that no node has"
	busy := r.c.QueuedOn == Busy
	if busy {
		spec.Resources = &volleyv1.Resources{CpuMilli: int64(cpus-1) * 1000}
		s.QueuedOn = fmt.Sprintf("a worker that one of them fills but for 1 of %d CPUs; what is measured has priority", cpus)
	}
	resp, err := r.t.client.Submit(ctx, client.Submission{Spec: spec})
	if err != nil || !busy {
		return resp.GetJobId(), err
	}
	// Until each worker has its task: then nothing moves any more.
	for job, err := range r.t.client.Watch(ctx, resp.GetJobId(), time.Millisecond) {
		if err != nil {
			return "", err
		}
		if job.GetCounts().GetRunning() >= min(uint64(r.c.Workers), r.c.Queued) {
			break
		}
	}
	return resp.GetJobId(), ctx.Err()
}

func pause(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
	case <-ctx.Done():
	}
}
