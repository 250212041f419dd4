// SPDX-License-Identifier: Apache-2.0

package engine

import (
	"bytes"
	"errors"
	"fmt"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/volley-batch/volley/coordinator/journal"
	"github.com/volley-batch/volley/coordinator/state"
	journalv1 "github.com/volley-batch/volley/proto/volley/journal/v1"
	volleyv1 "github.com/volley-batch/volley/proto/volley/v1"
)

var begin = time.UnixMilli(1_800_000_000_000)

// rig is a core on a disk that is as slow as the test wants.
type rig struct {
	t    *testing.T
	opts Options
	disk *journal.Disk
	mem  *journal.Memory
	core *Core
	now  time.Time
	// released are the effects that came out, as text.
	released []string
}

func newRig(t *testing.T, o Options) *rig {
	t.Helper()
	r := &rig{t: t, opts: o, disk: &journal.Disk{}, now: begin}
	r.open()
	r.commit()
	return r
}

// open starts a core on what the disk holds.
func (r *rig) open() {
	r.t.Helper()
	mem, err := journal.NewMemory(journal.MemoryConfig{Disk: r.disk, Hold: true})
	if err != nil {
		r.t.Fatal(err)
	}
	r.mem = mem
	r.core = NewCore(mem, "test", r.opts, func(_ *state.State, effects []state.Effect) {
		for _, e := range effects {
			r.released = append(r.released, fmt.Sprintf("%T", e))
		}
	})
	r.pump()
	if !r.core.Leading() {
		r.t.Fatal("it does not lead")
	}
}

func (r *rig) pump() {
	r.t.Helper()
	if err := r.tryPump(); err != nil {
		r.t.Fatal(err)
	}
}

func (r *rig) tryPump() error {
	for {
		ev, ok := r.mem.Next()
		if !ok {
			return r.core.Flush(r.now)
		}
		if err := r.core.Event(r.now, ev); err != nil {
			return err
		}
	}
}

// commit has the disk finish all that is on its way.
func (r *rig) commit() {
	r.t.Helper()
	for r.pump(); r.mem.Held() > 0; r.pump() {
		r.mem.Commit(-1)
	}
}

// answer is what became of a command.
type answer struct {
	done   bool
	result state.Result
	err    error
}

func (r *rig) do(e *journalv1.Entry) *answer {
	a := &answer{}
	r.core.Do(r.now, e, func(res state.Result, err error) {
		if a.done {
			r.t.Error("answered twice")
		}
		*a = answer{true, res, err}
	})
	return a
}

func submit(name string) *journalv1.Entry {
	return &journalv1.Entry{Op: &journalv1.Entry_Submit{Submit: &journalv1.Submit{Size: 1, Spec: &volleyv1.JobSpec{Name: name}}}}
}

func cancel(job uint64) *journalv1.Entry {
	return &journalv1.Entry{Op: &journalv1.Entry_Cancel{Cancel: &journalv1.Cancel{Job: job}}}
}

func hello(node string) *journalv1.Entry {
	return &journalv1.Entry{Op: &journalv1.Entry_WorkerHello{WorkerHello: &journalv1.WorkerHello{Hello: &volleyv1.Hello{
		NodeId: node, Name: node, Epoch: 1, Capacity: &volleyv1.Resources{CpuMilli: 1000},
	}}}}
}

func (r *rig) bytes() []byte {
	r.t.Helper()
	var b bytes.Buffer
	if err := r.core.State().Freeze().Write(&b); err != nil {
		r.t.Fatal(err)
	}
	return b.Bytes()
}

func TestNothingLeavesBeforeCommit(t *testing.T) {
	t.Parallel()
	r := newRig(t, Options{})
	r.released = nil
	a, h := r.do(submit("a")), r.do(hello("n"))
	read := &answer{}
	r.core.Read(func(s *state.State) {
		if s.Jobs() != 1 {
			t.Errorf("a read sees %d jobs, want the one just applied", s.Jobs())
		}
	}, func(err error) { *read = answer{done: true, err: err} })
	bad := r.do(cancel(99))
	if !bad.done || !errors.Is(bad.err, state.ErrNotFound) {
		t.Errorf("a refusal is answered with %+v, want at once", bad)
	}
	r.pump()
	if r.mem.Held() != 1 {
		t.Fatalf("%d batches are held, want one for all commands", r.mem.Held())
	}
	late := r.do(submit("b"))
	r.pump()
	if a.done || h.done || read.done || late.done || len(r.released) > 0 {
		t.Fatalf("before the commit: %v %v %v %v, released %v", a, h, read, late, r.released)
	}
	r.mem.Commit(1)
	r.pump()
	if !a.done || a.err != nil || a.result.Job != 1 || !h.done || !read.done || read.err != nil {
		t.Errorf("after the commit: %+v %+v %+v", a, h, read)
	}
	if late.done {
		t.Error("the second batch is answered with the first")
	}
	if want := "[state.JobEffect state.HelloEffect state.JobEffect state.GrantEffect]"; fmt.Sprint(r.released) != want {
		t.Errorf("released %v, want %s", r.released, want)
	}
	r.commit()
	if !late.done || late.result.Job != 2 {
		t.Errorf("the second batch: %+v", late)
	}
	// Nothing is on its way: a read is answered at once.
	read.done = false
	r.core.Read(func(*state.State) {}, func(err error) { *read = answer{done: true, err: err} })
	if !read.done {
		t.Error("a read waits for nothing")
	}
}

// TestExistedWaits: the answer that a job existed must not come before the job
// is durable.
func TestExistedWaits(t *testing.T) {
	t.Parallel()
	r := newRig(t, Options{})
	keyed := func() *journalv1.Entry {
		e := submit("a")
		e.GetSubmit().IdempotencyKey = "k"
		return e
	}
	r.do(keyed())
	r.pump()
	again := r.do(keyed())
	if again.done {
		t.Fatal("answered before the commit")
	}
	r.commit()
	if !again.result.Existed || again.result.Job != 1 || r.core.State().Jobs() != 1 {
		t.Errorf("%+v, %d jobs", again, r.core.State().Jobs())
	}
}

func TestTwoBatchesInFlight(t *testing.T) {
	t.Parallel()
	r := newRig(t, Options{})
	for i := range 5 {
		r.do(submit(fmt.Sprint("j", i)))
		r.pump()
	}
	if r.mem.Held() != maxInFlight {
		t.Errorf("%d batches are on their way, want %d", r.mem.Held(), maxInFlight)
	}
	r.commit()
	if r.core.State().Jobs() != 5 {
		t.Errorf("%d jobs", r.core.State().Jobs())
	}
}

func TestCrashKeepsThePrefix(t *testing.T) {
	t.Parallel()
	for keep := range 3 {
		t.Run(fmt.Sprint(keep), func(t *testing.T) {
			t.Parallel()
			r := newRig(t, Options{})
			r.do(submit("kept"))
			r.commit()
			want := [][]byte{r.bytes()}
			for _, name := range []string{"first", "second"} {
				r.do(submit(name))
				r.pump()
				want = append(want, r.bytes())
			}
			r.mem.Crash(keep, 7)
			r.open()
			if !bytes.Equal(r.bytes(), want[keep]) {
				t.Errorf("with %d of 2 batches on the disk the state has %d jobs", keep, r.core.State().Jobs())
			}
		})
	}
}

func TestSnapshotAndReopen(t *testing.T) {
	t.Parallel()
	r := newRig(t, Options{SnapshotRecords: 4})
	r.do(hello("n"))
	for i := range 20 {
		r.do(submit(fmt.Sprint("j", i)))
		r.commit()
		r.mem.CommitSnapshot()
	}
	if r.mem.Stats().SnapshotIndex == 0 {
		t.Fatal("no snapshot was cut")
	}
	if n := r.mem.Stats().RecordsSinceSnapshot; n > 8 {
		t.Errorf("%d records since the snapshot, want at most about 4", n)
	}
	want := r.bytes()
	r.mem.Crash(0, 0)
	r.open()
	if !bytes.Equal(r.bytes(), want) {
		t.Error("the reopened state differs")
	}
}

// TestSnapshotComesToRest: while one is due no command is taken, and after it
// the plan goes on without another event.
func TestSnapshotComesToRest(t *testing.T) {
	t.Parallel()
	r := newRig(t, Options{SnapshotRecords: 2})
	r.do(hello("n"))
	r.pump()
	r.do(submit("a"))
	r.pump()
	r.mem.Commit(1)
	r.pump()
	if r.core.Accepts() {
		t.Fatal("commands are taken while a snapshot is due")
	}
	r.mem.Commit(-1)
	r.pump()
	if !r.core.Accepts() {
		t.Fatal("commands are not taken after the cut")
	}
	r.mem.FailSnapshots(1)
	r.mem.CommitSnapshot()
	r.commit()
	if j := r.core.State().Job(1); j.State() != volleyv1.JobState_JOB_STATE_STARTING {
		t.Errorf("the job is %s after the snapshot, want it granted", j.State())
	}
}

func TestLosingLeadership(t *testing.T) {
	t.Parallel()
	r := newRig(t, Options{})
	inFlight, read := r.do(submit("a")), &answer{}
	r.pump()
	open := r.do(submit("b"))
	r.core.Read(func(*state.State) {}, func(err error) { *read = answer{done: true, err: err} })
	r.mem.Depose(1)
	if err := r.tryPump(); !errors.Is(err, ErrNotLeader) {
		t.Fatalf("the core says %v", err)
	}
	late := r.do(submit("c"))
	for name, a := range map[string]*answer{"in flight": inFlight, "open": open, "read": read, "late": late} {
		if !a.done || !errors.Is(a.err, ErrNotLeader) || a.result.Job != 0 {
			t.Errorf("%s: %+v, want ErrNotLeader", name, a)
		}
	}
	ran := false
	r.core.Read(func(*state.State) { ran = true }, func(err error) {
		if !errors.Is(err, ErrNotLeader) {
			t.Error(err)
		}
	})
	if ran {
		t.Error("a read is let in without leadership")
	}
}

func TestBrokenDisk(t *testing.T) {
	t.Parallel()
	r := newRig(t, Options{})
	a := r.do(submit("a"))
	r.mem.FailProposals(1)
	if err := r.tryPump(); !errors.Is(err, journal.ErrInjected) {
		t.Fatalf("the core says %v", err)
	}
	if !a.done || a.err == nil {
		t.Errorf("%+v", a)
	}
}

func TestNewerFormatIsRefused(t *testing.T) {
	t.Parallel()
	for name, record := range map[string]*journalv1.Batch{
		"version": {Version: state.Version + 1},
		"entry":   {Version: state.Version, Entries: []*journalv1.Entry{{}}},
		"refused": {Version: state.Version, Entries: []*journalv1.Entry{cancel(7)}},
	} {
		data, err := proto.Marshal(record)
		if err != nil {
			t.Fatal(err)
		}
		c := NewCore(nil, "x", Options{}, nil)
		if err := c.Event(begin, journal.Event{Kind: journal.EventCommitted, Records: []journal.Record{{Index: 1, Data: data}}}); err == nil {
			t.Errorf("%s: taken", name)
		}
	}
	c := NewCore(nil, "x", Options{}, nil)
	if err := c.Event(begin, journal.Event{Kind: journal.EventCommitted, Records: []journal.Record{{Index: 1, Data: []byte{0xff}}}}); err == nil {
		t.Error("garbage: taken")
	}
}

func (r *rig) status(node string) state.NodeStatus { return r.core.State().WorkerByNode(node).Status }

// run lets time pass in steps, as the engine's ticker does.
func (r *rig) run(d time.Duration) {
	r.t.Helper()
	for end := r.now.Add(d); r.now.Before(end); {
		r.now = r.now.Add(fullPlan)
		r.core.Tick(r.now)
		r.commit()
	}
}

func TestWorkerLease(t *testing.T) {
	t.Parallel()
	r := newRig(t, Options{WorkerLease: 10 * time.Second})
	for _, n := range []string{"silent", "beats"} {
		r.do(hello(n))
	}
	r.commit()
	for range 5 {
		r.run(3 * time.Second)
		r.core.Touch(r.now, "beats", 1)
		r.core.Touch(r.now, "silent", 2) // another process of the node
		r.core.Touch(r.now, "unknown", 1)
	}
	if got := r.status("silent"); got != state.NodeLost {
		t.Errorf("the silent worker is %v", got)
	}
	if got := r.status("beats"); got != state.NodeReady {
		t.Errorf("the one that beats is %v", got)
	}
	// A new leader gives the whole lease again.
	r.run(9 * time.Second)
	r.mem.Crash(0, 0)
	r.open()
	r.run(9 * time.Second)
	if got := r.status("beats"); got != state.NodeReady {
		t.Errorf("9 s after the restart it is %v", got)
	}
	r.run(2 * time.Second)
	if got := r.status("beats"); got != state.NodeLost {
		t.Errorf("11 s after the restart it is %v", got)
	}
}

// TestPauseOfTheCoordinator: a coordinator that was stopped for longer than the
// lease does not give everybody up for lost.
func TestPauseOfTheCoordinator(t *testing.T) {
	t.Parallel()
	r := newRig(t, Options{WorkerLease: 10 * time.Second})
	r.do(hello("n"))
	r.commit()
	r.run(4 * time.Second)
	r.now = r.now.Add(time.Hour)
	r.run(5 * time.Second)
	if got := r.status("n"); got != state.NodeReady {
		t.Errorf("5 s after the pause the worker is %v", got)
	}
	r.run(6 * time.Second)
	if got := r.status("n"); got != state.NodeLost {
		t.Errorf("11 s after the pause the silent worker is %v", got)
	}
}

func TestPurge(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name string
		opts Options
		want []uint64 // jobs left after 10 s
	}{
		{"by age", Options{KeepAge: 5 * time.Second}, []uint64{4, 5, 6}},
		{"by count", Options{KeepJobs: 2}, []uint64{3, 4, 5, 6}},
		{"without bound", Options{KeepAge: -1, KeepJobs: -1}, []uint64{1, 2, 3, 4, 5, 6}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			r := newRig(t, tt.opts)
			for i := range 6 {
				r.do(submit(fmt.Sprint("j", i)))
			}
			// Jobs 5 and 6 live on; the fourth ends late.
			for _, id := range []uint64{1, 2, 3} {
				r.do(cancel(id))
			}
			r.commit()
			r.run(8 * time.Second)
			r.do(cancel(4))
			r.run(2 * time.Second)
			if got := r.core.State().JobIDs(); fmt.Sprint(got) != fmt.Sprint(tt.want) {
				t.Errorf("jobs %v are left, want %v", got, tt.want)
			}
		})
	}
}
