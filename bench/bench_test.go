// SPDX-License-Identifier: Apache-2.0

package bench

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/volley-batch/volley/client"
	"github.com/volley-batch/volley/internal/embedded"
	volleyv1 "github.com/volley-batch/volley/proto/volley/v1"
)

var build = sync.OnceValues(func() (string, error) {
	dir, err := os.MkdirTemp("", "volley-bench-")
	if err != nil {
		return "", err
	}
	path := filepath.Join(dir, "volley")
	cmd := exec.Command("go", "build", "-o", path, "github.com/volley-batch/volley/cmd/volley")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("build volley: %w\n%s", err, out)
	}
	return path, nil
})

func TestMain(m *testing.M) {
	code := m.Run()
	if path, err := build(); err == nil {
		_ = os.RemoveAll(filepath.Dir(path))
	}
	os.Exit(code)
}

func volley(b *testing.B) string {
	b.Helper()
	path, err := build()
	if err != nil {
		b.Fatal(err)
	}
	return path
}

// timed runs a command to its end in a directory and says how long it took.
func timed(b *testing.B, dir string, stdin string, name string, args ...string) time.Duration {
	b.Helper()
	cmd := exec.Command(name, args...)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "XDG_CONFIG_HOME="+dir)
	cmd.Stdin = strings.NewReader(stdin)
	var errs bytes.Buffer
	cmd.Stderr = &errs
	begin := time.Now()
	if err := cmd.Run(); err != nil {
		b.Fatalf("%s %v: %v\n%s", name, args, err, errs.String())
	}
	return time.Since(begin)
}

func writeJob(b *testing.B, dir, text string) string {
	b.Helper()
	path := filepath.Join(dir, "job.yaml")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		b.Fatal(err)
	}
	return path
}

func median(d []time.Duration) time.Duration { return percentile(d, 0.5) }

func percentile(d []time.Duration, p float64) time.Duration {
	slices.Sort(d)
	return d[min(int(p*float64(len(d))), len(d)-1)]
}

func ms(d time.Duration) float64 { return float64(d.Microseconds()) / 1e3 }

// BenchmarkTrue runs /bin/true many times through `volley run`, start-up,
// journal on disk, captured output and shutdown included, and through xargs
// with as many processes at once, in turn.
func BenchmarkTrue(b *testing.B) {
	for _, tasks := range []int{10_000} {
		procs := runtime.NumCPU()
		b.Run(fmt.Sprintf("tasks=%d/parallel=%d", tasks, procs), func(b *testing.B) {
			bin := volley(b)
			var numbers strings.Builder
			for i := range tasks {
				fmt.Fprintln(&numbers, i)
			}
			var ours, theirs []time.Duration
			for b.Loop() {
				dir := b.TempDir()
				job := writeJob(b, dir, fmt.Sprintf("name: true\narray: %d\ncommand: [/bin/true]\n", tasks))
				run := func() { ours = append(ours, timed(b, dir, "", bin, "run", "-o", "json", job)) }
				xargs := func() {
					theirs = append(theirs, timed(b, dir, numbers.String(), "xargs", "-P", strconv.Itoa(procs), "-n", "1", "/bin/true"))
				}
				// Who goes first changes: the second finds a warmer machine.
				if len(ours)%2 == 0 {
					run()
					xargs()
				} else {
					xargs()
					run()
				}
			}
			b.ReportMetric(float64(tasks)/median(ours).Seconds(), "volley-tasks/s")
			b.ReportMetric(float64(tasks)/median(theirs).Seconds(), "xargs-tasks/s")
			b.ReportMetric(median(ours).Seconds()/median(theirs).Seconds(), "volley/xargs")
		})
	}
}

// BenchmarkOneTask is the whole command for one task: start-up of coordinator,
// journal and worker, the task, and shutdown.
func BenchmarkOneTask(b *testing.B) {
	bin := volley(b)
	var runs []time.Duration
	for b.Loop() {
		dir := b.TempDir()
		job := writeJob(b, dir, "name: one\ncommand: [/bin/true]\n")
		runs = append(runs, timed(b, dir, "", bin, "run", "-o", "json", job))
	}
	b.ReportMetric(ms(median(runs)), "p50-ms")
	b.ReportMetric(ms(percentile(runs, 0.99)), "p99-ms")
}

// BenchmarkSubmitToStart measures from the call of SubmitJob until the first
// process of the job has said so itself, through a pipe: gRPC, the journal on
// disk, the lease, the fork and the start of the shell are all in it.
func BenchmarkSubmitToStart(b *testing.B) {
	ctx := b.Context()
	dir := b.TempDir()
	in, err := embedded.Open(ctx, embedded.Config{
		Dir: filepath.Join(dir, ".volley"), Worker: true, Version: "bench", Logger: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		b.Fatal(err)
	}
	defer in.Close()
	fifo := filepath.Join(dir, "fifo")
	if out, err := exec.Command("mkfifo", fifo).CombinedOutput(); err != nil {
		b.Fatalf("mkfifo: %v\n%s", err, out)
	}
	// Read and write: the read end never sees the end of the pipe.
	pipe, err := os.OpenFile(fifo, os.O_RDWR, 0)
	if err != nil {
		b.Fatal(err)
	}
	defer pipe.Close()
	spec := &volleyv1.JobSpec{Name: "start", Run: "echo >" + fifo, SubmitDir: dir}
	var starts []time.Duration
	buf := make([]byte, 1)
	for b.Loop() {
		begin := time.Now()
		r, err := in.Client().Submit(ctx, client.Submission{Spec: spec})
		if err != nil {
			b.Fatal(err)
		}
		if _, err := pipe.Read(buf); err != nil {
			b.Fatal(err)
		}
		starts = append(starts, time.Since(begin))
		for _, err := range in.Client().Watch(ctx, r.GetJobId(), time.Millisecond) {
			if err != nil {
				b.Fatal(err)
			}
		}
	}
	b.ReportMetric(ms(median(starts)), "p50-ms")
	b.ReportMetric(ms(percentile(starts, 0.99)), "p99-ms")
}

// BenchmarkSubmitArray submits and cancels arrays that nothing can run, and
// says what the server's memory grew by for each.
func BenchmarkSubmitArray(b *testing.B) {
	for _, size := range []uint64{10_000, 100_000_000, 1_000_000_000_000_000_000} {
		b.Run(fmt.Sprintf("children=%d", size), func(b *testing.B) {
			ctx := context.Background()
			dir := b.TempDir()
			in, err := embedded.Open(ctx, embedded.Config{
				Dir: filepath.Join(dir, ".volley"), Version: "bench", Logger: slog.New(slog.DiscardHandler),
			})
			if err != nil {
				b.Fatal(err)
			}
			defer in.Close()
			spec := &volleyv1.JobSpec{
				Name: "big", Command: []string{"/bin/true"}, SubmitDir: dir, Space: &volleyv1.Space{Kind: &volleyv1.Space_Array{Array: size}},
			}
			before := heap()
			var submits, cancels []time.Duration
			for b.Loop() {
				begin := time.Now()
				r, err := in.Client().Submit(ctx, client.Submission{Spec: spec})
				if err != nil {
					b.Fatal(err)
				}
				submits = append(submits, time.Since(begin))
				begin = time.Now()
				if err := in.Client().Cancel(ctx, r.GetJobId(), "bench"); err != nil {
					b.Fatal(err)
				}
				cancels = append(cancels, time.Since(begin))
			}
			b.ReportMetric(ms(percentile(submits, 0.99)), "submit-p99-ms")
			b.ReportMetric(ms(percentile(cancels, 0.99)), "cancel-p99-ms")
			b.ReportMetric(float64(heap()-before)/float64(len(submits))/1024, "KiB/job")
		})
	}
}

func heap() int64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}

// BenchmarkIdle starts `volley dev` and reads what memory it holds once it
// waits for work.
func BenchmarkIdle(b *testing.B) {
	bin := volley(b)
	var rss []float64
	for b.Loop() {
		dir := b.TempDir()
		cmd := exec.Command(bin, "dev", "--listen", "127.0.0.1:0")
		cmd.Dir = dir
		cmd.Env = append(os.Environ(), "XDG_CONFIG_HOME="+dir)
		var errs bytes.Buffer
		cmd.Stderr = &errs
		if err := cmd.Start(); err != nil {
			b.Fatal(err)
		}
		until := time.Now().Add(20 * time.Second)
		for timedOut := false; ; {
			check := exec.Command(bin, "nodes", "-o", "name")
			check.Dir = dir
			check.Env = cmd.Env
			if out, err := check.Output(); err == nil && len(out) > 0 {
				break
			}
			if timedOut = time.Now().After(until); timedOut {
				b.Fatalf("volley dev did not get ready:\n%s", errs.String())
			}
		}
		rss = append(rss, residentMiB(b, cmd.Process.Pid))
		_ = cmd.Process.Signal(os.Interrupt)
		if err := cmd.Wait(); err != nil && cmd.ProcessState.ExitCode() != 130 && cmd.ProcessState.ExitCode() != 0 {
			b.Fatalf("volley dev: %v\n%s", err, errs.String())
		}
	}
	b.ReportMetric(slices.Max(rss), "RSS-MiB")
}

// residentMiB asks ps, which Linux and macOS both have.
func residentMiB(b *testing.B, pid int) float64 {
	b.Helper()
	out, err := exec.Command("ps", "-o", "rss=", "-p", strconv.Itoa(pid)).Output()
	if err != nil {
		b.Fatalf("ps: %v", err)
	}
	kib, err := strconv.ParseFloat(strings.TrimSpace(string(out)), 64)
	if err != nil {
		b.Fatalf("ps: %v", err)
	}
	return kib / 1024
}
