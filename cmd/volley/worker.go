// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"time"

	"github.com/gofrs/flock"
	"github.com/spf13/cobra"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/volley-batch/volley/client"
	volleyv1 "github.com/volley-batch/volley/proto/volley/v1"
	"github.com/volley-batch/volley/worker"
)

type workerOptions struct {
	data, name string
	cpus       float64
	memory     string
	gpus       int64
	maxOutput  string
	labels     []string
}

func (a *app) workerCommand() *cobra.Command {
	var o workerOptions
	c := &cobra.Command{
		Use:   "worker --coordinator ADDR",
		Short: "Run a worker",
		Long: `Run a worker until SIGINT or SIGTERM. Without --coordinator and VOLLEY_ADDR it
works for the one at 127.0.0.1:7480. It waits for its coordinator, and goes on
with what it holds while the coordinator is away. At the signal it hands back
what has not started and stops what runs, which is queued again.`,
		Example: "  volley worker --coordinator 127.0.0.1:7480 --cpus 8 --label disk=fast",
		Args:    cobra.NoArgs,
		RunE:    func(cmd *cobra.Command, _ []string) error { return a.work(cmd.Context(), o) },
	}
	f := c.Flags()
	f.StringVar(&o.data, "data", "", "`directory` for output and work directories (default: one of the user's own that no other worker has)")
	f.StringVar(&o.name, "name", "", "`name` of the node (default: the host name)")
	f.Float64Var(&o.cpus, "cpus", 0, "CPUs to offer (default: all)")
	f.StringVar(&o.memory, "memory", "", "memory to offer, as in 16GiB (default: all)")
	f.Int64Var(&o.gpus, "gpus", 0, "GPUs to offer")
	f.StringVar(&o.maxOutput, "max-output", "1GiB", "stop a task that has written more than this `size` to stdout or stderr; at most 2GiB")
	f.StringArrayVarP(&o.labels, "label", "l", nil, "label of the node, `key=value` (repeatable)")
	return c
}

func (a *app) work(ctx context.Context, o workerOptions) error {
	addr := a.addr()
	if addr == "" {
		addr = defaultListen
	}
	c, err := o.config()
	if err != nil {
		return err
	}
	// A wrong address is told now: later it would look like a coordinator
	// that is away.
	probe, err := client.Connect(client.Options{Addr: addr, Token: "-"})
	if err != nil {
		return err
	}
	_ = probe.Close()
	if c.DataDir == "" {
		dir, n, release, err := freeWorkerDir(a.getenv, addr)
		if err != nil {
			return err
		}
		defer release()
		c.DataDir = dir
		if host, err := os.Hostname(); err == nil && n > 1 && c.Name == "" {
			c.Name = fmt.Sprintf("%s-%d", host, n)
		}
	}
	c.Logger, c.Version = a.serverLogger(), version()
	c.Dial = func(ctx context.Context) (grpc.ClientConnInterface, io.Closer, error) {
		// A coordinator saves its credential before it listens. Read before
		// somebody listens, "there is none" would be out of date by the time
		// of the call, which would be refused for good.
		d := net.Dialer{Timeout: dialTimeout}
		probe, err := d.DialContext(ctx, "tcp", addr)
		if err != nil {
			return nil, nil, err
		}
		_ = probe.Close()
		conn, err := client.Connect(client.Options{Addr: addr}, worker.DialOptions()...)
		if err != nil {
			return nil, nil, err
		}
		return conn, conn, nil
	}
	agent, err := worker.New(*c)
	if errors.Is(err, worker.ErrInUse) {
		return &client.Error{Kind: client.Refused, Err: err, Msg: err.Error()}
	}
	if err != nil {
		return err
	}
	c.Logger.Info("worker begins", "coordinator", addr, "data", c.DataDir)
	if err := agent.Run(ctx); err != nil {
		return workerError(addr, err)
	}
	return nil
}

// dialTimeout is how long a coordinator may take to accept a connection.
const dialTimeout = 10 * time.Second

// workerError is why a worker could not go on.
func workerError(addr string, err error) error {
	e := &client.Error{Kind: client.Refused, Op: "worker", Msg: err.Error(), Err: err}
	var s interface{ GRPCStatus() *status.Status }
	if !errors.As(err, &s) {
		return e
	}
	e.Msg = fmt.Sprintf("the coordinator at %s refuses it: %s", addr, s.GRPCStatus().Message())
	if s.GRPCStatus().Code() == codes.Unauthenticated {
		e.Kind = client.Unauthenticated
		e.Msg += " (only the user who started the coordinator may bring workers)"
	}
	return e
}

// maxOutput is what worker.Config.MaxOutputBytes may be.
const maxOutput = 2 << 30

// config checks the flags.
func (o *workerOptions) config() (*worker.Config, error) {
	c := &worker.Config{DataDir: o.data, Name: o.name, Capacity: &volleyv1.Resources{Gpu: o.gpus}}
	// NaN is not above 0 either.
	if o.cpus != 0 && !(o.cpus >= 0.001 && o.cpus <= 1e6) {
		return nil, usagef("--cpus %v: want a number from 0.001", o.cpus)
	}
	c.Capacity.CpuMilli = int64(o.cpus * 1000)
	if o.gpus < 0 {
		return nil, usagef("--gpus %d: want a number from 0", o.gpus)
	}
	if o.memory != "" {
		n, err := parseSize(o.memory)
		if err != nil {
			return nil, usagef("--memory %q: %w", o.memory, err)
		}
		c.Capacity.MemoryBytes = n
	}
	n, err := parseSize(o.maxOutput)
	if err == nil && n > maxOutput {
		err = errors.New("want at most 2GiB")
	}
	if err != nil {
		return nil, usagef("--max-output %q: %w", o.maxOutput, err)
	}
	c.MaxOutputBytes = n
	c.Labels, err = parseLabels(o.labels)
	return c, err
}

// parseSize reads 16GiB, 1.5GB or a number of bytes.
func parseSize(s string) (int64, error) {
	digits := strings.TrimRight(s, "BKMGTikmgt ")
	unit := strings.TrimSpace(s[len(digits):])
	factors := map[string]float64{"": 1, "B": 1, "kB": 1e3, "KB": 1e3, "MB": 1e6, "GB": 1e9, "TB": 1e12, "KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30, "TiB": 1 << 40}
	f, ok := factors[unit]
	n, err := strconv.ParseFloat(digits, 64)
	if err != nil || !ok || !(n > 0) || n*f < 1 || n*f > 1<<60 {
		return 0, errors.New("want a size such as 512MiB or 16GiB")
	}
	return int64(n * f), nil
}

// freeWorkerDir finds a directory of the user's own for a worker of the
// address: the first whose lock is free, so that a worker that starts again
// finds its spool and a second one beside it has another. The lock is held
// until release; the kernel releases it with the process.
func freeWorkerDir(getenv func(string) string, addr string) (dir string, n int, release func(), err error) {
	base := getenv("XDG_STATE_HOME")
	if base == "" {
		home, err := os.UserHomeDir()
		if err != nil {
			return "", 0, nil, usagef("--data is missing, and there is no home directory to take one from: %w", err)
		}
		base = filepath.Join(home, ".local", "state")
		if runtime.GOOS == "darwin" {
			base = filepath.Join(home, "Library", "Application Support")
		}
	}
	base = filepath.Join(base, "volley", "workers", strings.NewReplacer("/", "_", ":", "_").Replace(addr))
	if err := os.MkdirAll(base, 0o700); err != nil {
		return "", 0, nil, fmt.Errorf("worker directory: %w", err)
	}
	const most = 1000
	for n := 1; n <= most; n++ {
		dir := filepath.Join(base, strconv.Itoa(n))
		l := flock.New(dir + ".lock")
		ok, err := l.TryLock()
		if err != nil {
			return "", 0, nil, fmt.Errorf("worker directory: %w", err)
		}
		if ok {
			return dir, n, func() { _ = l.Close() }, nil
		}
		_ = l.Close()
	}
	return "", 0, nil, fmt.Errorf("worker directory: %d workers of %s run already; name another with --data", most, addr)
}
