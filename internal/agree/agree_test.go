// SPDX-License-Identifier: Apache-2.0

package agree

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"
	"google.golang.org/grpc"

	"github.com/volley-batch/volley/client"
	"github.com/volley-batch/volley/coordinator"
	volleyv1 "github.com/volley-batch/volley/proto/volley/v1"
	"github.com/volley-batch/volley/worker"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// patience bounds a run: beyond it something hangs.
const patience = 60 * time.Second

// The jobs of a run.
const (
	plain      = "plain"
	retried    = "retried"
	narrow     = "narrow"
	terminated = "terminated"
)

// TestCuts cuts connections while jobs run. No worker is given up, so each
// attempt is executed once and recorded once.
func TestCuts(t *testing.T) {
	t.Parallel()
	seeds(t, func(t *testing.T, seed uint64) { run(t, seed, true) })
}

// TestLosses also lets messages of a cut connection arrive after the next
// Hello, workers run out of their lease, leave and return, and restarts the
// coordinator. Executions may be repeated then; results may not.
func TestLosses(t *testing.T) {
	t.Parallel()
	seeds(t, func(t *testing.T, seed uint64) { run(t, seed, false) })
}

func seeds(t *testing.T, f func(*testing.T, uint64)) {
	list := []uint64{1, 2}
	if text := os.Getenv("VOLLEY_SEED"); text != "" {
		seed, err := strconv.ParseUint(text, 10, 64)
		if err != nil {
			t.Fatalf("VOLLEY_SEED: %v", err)
		}
		list = []uint64{seed}
	}
	for _, seed := range list {
		t.Run(fmt.Sprintf("seed=%d", seed), func(t *testing.T) {
			t.Parallel()
			f(t, seed)
		})
	}
}

// world is one coordinator with its workers.
type world struct {
	t      *testing.T
	seed   uint64
	strict bool
	dir    string
	trace  *trace
	census *census
	conn   func() grpc.ClientConnInterface

	mu  sync.Mutex
	srv *coordinator.Server
}

func newWorld(t *testing.T, seed uint64, strict bool) *world {
	w := &world{t: t, seed: seed, strict: strict, dir: t.TempDir(), trace: &trace{}, census: newCensus(t, seed, strict)}
	w.conn = func() grpc.ClientConnInterface {
		w.mu.Lock()
		defer w.mu.Unlock()
		return w.srv.Conn()
	}
	w.census.concurrency[narrow] = narrowness
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("again: VOLLEY_SEED=%d go test -run '^%s$' ./internal/agree\nthe last messages:\n%s",
				seed, strings.SplitN(t.Name(), "/", 2)[0], strings.Join(w.trace.all(), "\n"))
		}
	})
	return w
}

// narrowness is the concurrency of the narrow job.
const narrowness = 4

// jobs are arrays of these sizes, in the order of the names above.
func jobs(sizes ...uint64) []*volleyv1.JobSpec {
	var specs []*volleyv1.JobSpec
	for i, name := range []string{plain, retried, narrow, terminated} {
		specs = append(specs, &volleyv1.JobSpec{
			Name: name, Command: []string{"true"}, Space: &volleyv1.Space{Kind: &volleyv1.Space_Array{Array: sizes[i]}},
		})
	}
	specs[1].Retry = &volleyv1.Retry{Attempts: 3}
	specs[2].Concurrency, specs[2].Priority = narrowness, 5
	specs[3].Priority = 1
	return specs
}

func (w *world) client() *client.Client { return client.New(w.conn()) }

func (w *world) open(ctx context.Context) {
	w.t.Helper()
	lease := time.Minute
	if !w.strict {
		lease = 300 * time.Millisecond
	}
	srv, err := coordinator.Open(ctx, coordinator.Config{DataDir: filepath.Join(w.dir, "coordinator"), WorkerLease: lease})
	if err != nil {
		w.t.Fatal(err)
	}
	w.mu.Lock()
	w.srv = srv
	w.mu.Unlock()
}

// restart ends the coordinator and starts it on the same directory. Until then
// workers find a server that is closed.
func (w *world) restart(ctx context.Context) {
	w.t.Helper()
	w.mu.Lock()
	old := w.srv
	w.mu.Unlock()
	if err := old.Close(); err != nil {
		w.t.Fatal(err)
	}
	w.trace.add("coordinator restarts")
	w.open(ctx)
}

const slots = 3

// node runs a worker, and another process of it after the next has left, until
// ctx ends.
func (w *world) node(ctx context.Context, n int, leave []<-chan struct{}) {
	name := fmt.Sprintf("w%d", n)
	l := &link{
		name: name, conn: w.conn, ghosts: !w.strict, every: 60, trace: w.trace,
		rng: rand.New(rand.NewPCG(w.seed, uint64(100+n))),
	}
	defer l.wg.Wait()
	for ctx.Err() == nil {
		a, err := worker.New(worker.Config{
			DataDir: filepath.Join(w.dir, name), Name: name, Dial: l.dial, Executor: w.census.on(name, slots),
			Capacity: &volleyv1.Resources{CpuMilli: slots * 1000, MemoryBytes: 1 << 30},
		})
		if err != nil {
			w.t.Errorf("%s: %v", name, err)
			return
		}
		life, end := context.WithCancel(ctx)
		var mark <-chan struct{}
		if len(leave) > 0 {
			mark, leave = leave[0], leave[1:]
		}
		stopped := make(chan struct{})
		go func() {
			defer close(stopped)
			select {
			case <-mark:
				w.trace.add("%s: leaves", name)
			case <-life.Done():
			}
			end()
		}()
		if err := a.Run(life); err != nil {
			w.t.Errorf("%s: %v", name, err)
		}
		end()
		<-stopped
	}
}

func run(t *testing.T, seed uint64, strict bool) {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	w := newWorld(t, seed, strict)
	w.open(ctx)
	defer func() {
		if err := w.srv.Close(); err != nil {
			t.Errorf("close: %v", err)
		}
	}()
	submit := func(spec *volleyv1.JobSpec) string {
		r, err := w.client().Submit(ctx, client.Submission{Spec: spec})
		if err != nil {
			t.Fatal(err)
		}
		return r.GetJobId()
	}
	specs := jobs(900, 300, 200, 3000)
	ids := map[string]string{}
	for _, s := range specs {
		ids[s.Name] = submit(s)
	}
	marks := rand.New(rand.NewPCG(seed, 3))
	at := func(low, high int) <-chan struct{} { return w.census.after(low + marks.IntN(high-low)) }
	terminate, restart := at(400, 700), at(700, 1000)

	work, stop := context.WithCancel(ctx)
	var nodes sync.WaitGroup
	defer nodes.Wait()
	defer stop()
	for n := range 3 {
		var leave []<-chan struct{}
		if !strict && n == 0 {
			leave = []<-chan struct{}{at(300, 500), at(700, 1100)}
		}
		nodes.Go(func() { w.node(work, n, leave) })
	}
	await(ctx, t, terminate, "the first tasks")
	if err := w.client().Terminate(ctx, ids[terminated], "enough"); err != nil {
		t.Fatal(err)
	}
	if !strict {
		await(ctx, t, restart, "half of the tasks")
		w.restart(ctx)
	}
	for _, s := range specs {
		j := w.ended(ctx, ids[s.Name])
		var children []*volleyv1.Child
		for c, err := range w.client().Children(ctx, &volleyv1.ListChildrenRequest{JobId: j.GetId()}) {
			if err != nil {
				t.Fatal(err)
			}
			children = append(children, c)
		}
		w.compare(s, j, children)
	}
	stop()
	nodes.Wait()
}

func await(ctx context.Context, t *testing.T, c <-chan struct{}, what string) {
	t.Helper()
	select {
	case <-c:
	case <-ctx.Done():
		t.Fatalf("%s: %v", what, ctx.Err())
	}
}

func (w *world) ended(ctx context.Context, id string) *volleyv1.Job {
	w.t.Helper()
	var last *volleyv1.Job
	for j, err := range w.client().Watch(ctx, id, 0) {
		if err != nil {
			w.t.Fatalf("job %s has not ended: %v; it is %v", id, err, last)
		}
		last = j
	}
	return last
}

// compare holds the records of a job against what was executed.
func (w *world) compare(spec *volleyv1.JobSpec, j *volleyv1.Job, children []*volleyv1.Child) {
	w.t.Helper()
	name := spec.GetName()
	want := volleyv1.JobState_JOB_STATE_SUCCEEDED
	if name == terminated {
		want = volleyv1.JobState_JOB_STATE_FAILED
	}
	counts := j.GetCounts()
	if j.GetState() != want || counts.GetSucceeded()+counts.GetFailed() != j.GetSize() {
		w.t.Errorf("job %s: %v, %v of %d", name, j.GetState(), counts, j.GetSize())
	}
	number, err := strconv.ParseUint(j.GetId(), 10, 64)
	if err != nil {
		w.t.Fatal(err)
	}
	executions, recorded := uint64(0), uint64(0)
	seen := map[uint64]bool{}
	for _, c := range children {
		if seen[c.GetIndex()] {
			w.t.Errorf("job %s: index %d is listed twice", name, c.GetIndex())
		}
		seen[c.GetIndex()] = true
		w.census.mu.Lock()
		xs := append([]execution(nil), w.census.executions[place{number, c.GetIndex()}]...)
		w.census.mu.Unlock()
		executions += uint64(len(xs))
		recorded += uint64(len(c.GetAttempts()))
		w.child(name, c, xs)
	}
	if uint64(len(seen)) != j.GetSize() {
		w.t.Errorf("job %s lists %d children of %d", name, len(seen), j.GetSize())
	}
	if w.strict && (executions != recorded || j.GetFinishedAttempts() != executions || j.GetStaleResults() != 0 || j.GetLostAttempts() != 0) {
		w.t.Errorf("job %s: %d executions, %d attempts listed, %d recorded, %d stale results, %d lost attempts",
			name, executions, recorded, j.GetFinishedAttempts(), j.GetStaleResults(), j.GetLostAttempts())
	}
}

// child holds one record against the executions of its index.
func (w *world) child(name string, c *volleyv1.Child, xs []execution) {
	w.t.Helper()
	if len(xs) == 0 {
		if name != terminated || c.GetState() != volleyv1.JobState_JOB_STATE_FAILED {
			w.t.Errorf("job %s index %d is %v and was never executed", name, c.GetIndex(), c.GetState())
		}
		return
	}
	if c.GetState() == volleyv1.JobState_JOB_STATE_SUCCEEDED && !came(c, xs) {
		w.t.Errorf("job %s index %d: output %s is that of no execution that succeeded: %+v", name, c.GetIndex(), c.GetOutput(), xs)
	}
	if w.strict && name == retried && len(xs) != 1+int(c.GetIndex()%7)%3 {
		w.t.Errorf("job %s index %d: %d executions: %+v", name, c.GetIndex(), len(xs), xs)
	}
}

// came says that the recorded output is that of an execution which ended by
// itself.
func came(c *volleyv1.Child, xs []execution) bool {
	for _, x := range xs {
		if x.token == c.GetOutput() && !x.killed {
			return true
		}
	}
	return false
}
