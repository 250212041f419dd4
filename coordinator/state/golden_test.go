// SPDX-License-Identifier: Apache-2.0

package state

import (
	"bytes"
	"flag"
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/proto"

	journalv1 "github.com/volley-batch/volley/proto/volley/journal/v1"
	volleyv1 "github.com/volley-batch/volley/proto/volley/v1"
)

// The files of a format version are written once. A later program must read
// them; -write-golden is for a new version only.
var writeGolden = flag.Bool("write-golden", false, "write testdata/golden anew")

// goldenEntries touch everything that a snapshot holds.
func goldenEntries() []*journalv1.Entry {
	index := uint64(1)
	hello := func(node string, epoch uint64) *journalv1.Entry {
		return &journalv1.Entry{Op: &journalv1.Entry_WorkerHello{WorkerHello: &journalv1.WorkerHello{Hello: &volleyv1.Hello{
			NodeId: node, Name: node, Epoch: epoch, Version: "1", Platform: "linux/amd64",
			Capacity: &volleyv1.Resources{CpuMilli: 8000, MemoryBytes: 1 << 33}, Labels: []*volleyv1.Label{{Key: "zone", Value: "a"}},
		}}}}
	}
	submit := func(s *journalv1.Submit) *journalv1.Entry {
		return &journalv1.Entry{Op: &journalv1.Entry_Submit{Submit: s}}
	}
	grant := func(g *journalv1.Grant) *journalv1.Entry {
		return &journalv1.Entry{Op: &journalv1.Entry_Grant{Grant: g}}
	}
	report := func(node string, seq uint64, lr *volleyv1.LeaseReport) *journalv1.Entry {
		return &journalv1.Entry{Op: &journalv1.Entry_WorkerReport{WorkerReport: &journalv1.WorkerReport{
			NodeId: node, Epoch: 1, Session: 1, Report: &volleyv1.Report{Seq: seq, Leases: []*volleyv1.LeaseReport{lr}},
		}}}
	}
	es := []*journalv1.Entry{
		{Op: &journalv1.Entry_Init{Init: &journalv1.Init{ClusterId: "golden"}}},
		hello("n1", 1), hello("n2", 1),
		submit(&journalv1.Submit{Size: 2000, Array: true, IdempotencyKey: "key", Spec: &volleyv1.JobSpec{
			Name: "sweep", Queue: "default", Command: []string{"train", "{lr}"}, Priority: 3, Concurrency: 100,
			Resources: &volleyv1.Resources{CpuMilli: 500, MemoryBytes: 1 << 20}, Metric: &volleyv1.Metric{Name: "loss", Goal: volleyv1.Goal_GOAL_MIN},
			Retry: &volleyv1.Retry{Attempts: 3, Rules: []*volleyv1.RetryRule{{OnExitCode: "2", Action: volleyv1.RetryAction_RETRY_ACTION_EXIT}}},
		}}),
		submit(&journalv1.Submit{Size: 2000, Array: true, Spec: &volleyv1.JobSpec{Name: "after"}, DependsOn: []*journalv1.Depend{
			{Job: 1, Type: volleyv1.DependencyType_DEPENDENCY_TYPE_N_TO_N},
			{Type: volleyv1.DependencyType_DEPENDENCY_TYPE_SEQUENTIAL},
		}}),
		submit(&journalv1.Submit{Size: 1, Spec: &volleyv1.JobSpec{Name: "one"}, DependsOn: []*journalv1.Depend{{Job: 1, Index: &index, Type: volleyv1.DependencyType_DEPENDENCY_TYPE_WHOLE}}}),
		grant(&journalv1.Grant{NodeId: "n1", Job: 1, Attempt: 1, Parallel: 4, Runs: []uint64{0, 20, 1020, 10}}),
		grant(&journalv1.Grant{NodeId: "n2", Job: 1, Attempt: 1, Parallel: 2, Runs: []uint64{500, 4}}),
		report("n1", 1, &volleyv1.LeaseReport{
			LeaseId: 1, Finished: []uint64{0, 2, 1023, 2}, StartMs: []int64{1000_001, 2, 3, -1}, DurationUs: []uint64{12, 1 << 31, 3, 4},
			Outcome: []uint32{0, 1, 0, 1}, ExitCode: []uint32{0, 1, 0, 2}, PeakKib: []uint64{1, 2, 3, 4}, CpuMs: []uint64{1, 2, 3, 4},
			Reason: []uint32{0, 1, 0, 1}, Reasons: []string{"boom"}, Metric: []float64{0.5, 2, 0.25, 3}, Output: [][]byte{[]byte(`{"a":1}`), nil, nil, nil},
		}),
		grant(&journalv1.Grant{NodeId: "n1", Job: 1, Attempt: 2, Parallel: 1, Runs: []uint64{1, 1}}),
		report("n1", 2, &volleyv1.LeaseReport{LeaseId: 3, Started: []uint64{1, 1}}),
		{Op: &journalv1.Entry_TakeBack{TakeBack: &journalv1.TakeBack{LeaseId: 1, Runs: []uint64{1020, 2}}}},
		report("n2", 1, &volleyv1.LeaseReport{LeaseId: 2, Started: []uint64{500, 1}, Preempted: []uint64{501, 1}, Returned: []uint64{503, 1}}),
		{Op: &journalv1.Entry_WorkerLost{WorkerLost: &journalv1.WorkerLost{NodeId: "n2", Epoch: 1}}},
		{Op: &journalv1.Entry_WorkerDrain{WorkerDrain: &journalv1.WorkerDrain{NodeId: "n1", Drain: true}}},
		{Op: &journalv1.Entry_Cancel{Cancel: &journalv1.Cancel{Job: 1, Index: &index, Terminate: true, Reason: "enough"}}},
		submit(&journalv1.Submit{Size: 3, Array: true, Spec: &volleyv1.JobSpec{Name: "sweep"}, Reuse: []*journalv1.Reuse{{First: 0, Count: 1, FromJob: 1, FromFirst: 0}}}),
		{Op: &journalv1.Entry_Cancel{Cancel: &journalv1.Cancel{Job: 4}}},
		{Op: &journalv1.Entry_Rerun{Rerun: &journalv1.Rerun{Job: 4, FailedOnly: true}}},
		{Op: &journalv1.Entry_Cancel{Cancel: &journalv1.Cancel{Job: 4}}},
		submit(&journalv1.Submit{Size: 1, Spec: &volleyv1.JobSpec{Name: "gone"}}),
		{Op: &journalv1.Entry_Cancel{Cancel: &journalv1.Cancel{Job: 5}}},
		{Op: &journalv1.Entry_Purge{Purge: &journalv1.Purge{Jobs: []uint64{5}}}},
		hello("n3", 7),
		{Op: &journalv1.Entry_WorkerLeft{WorkerLeft: &journalv1.WorkerLeft{NodeId: "n3", Epoch: 7}}},
	}
	for i, e := range es {
		e.TimeMs = 1_800_000_000_000 + int64(i)*1000
	}
	return es
}

// TestGolden: batch and snapshot of format version 1 are read, the batch
// replays to the snapshot, and both are written as they were.
func TestGolden(t *testing.T) {
	t.Parallel()
	if *writeGolden {
		s := New()
		for _, e := range goldenEntries() {
			if _, _, err := s.Apply(e); err != nil {
				t.Fatal(err)
			}
		}
		data, err := proto.MarshalOptions{Deterministic: true}.Marshal(&journalv1.Batch{Version: Version, Entries: goldenEntries()})
		if err != nil {
			t.Fatal(err)
		}
		for name, data := range map[string][]byte{"batch.v1": data, "snapshot.v1": write(t, s.Freeze())} {
			if err := os.WriteFile(filepath.Join("testdata", "golden", name), data, 0o600); err != nil {
				t.Fatal(err)
			}
		}
	}
	var b journalv1.Batch
	if err := proto.Unmarshal(golden(t, "batch.v1"), &b); err != nil {
		t.Fatal(err)
	}
	if b.GetVersion() != 1 || len(b.GetEntries()) == 0 {
		t.Fatalf("version %d, %d entries", b.GetVersion(), len(b.GetEntries()))
	}
	s := New()
	for n, e := range b.GetEntries() {
		if _, _, err := s.Apply(e); err != nil {
			t.Fatalf("entry %d: %v", n, err)
		}
		if err := s.CheckInvariants(); err != nil {
			t.Fatalf("entry %d: %v", n, err)
		}
	}
	old, err := Read(bytes.NewReader(golden(t, "snapshot.v1")))
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(write(t, s.Freeze()), write(t, old.Freeze())) {
		t.Error("the batch replays to another state than that of the snapshot")
	}
	// What people see of it does not change either.
	type view struct {
		Counts map[uint64]string
		Child  map[string]string
	}
	got := view{Counts: map[uint64]string{}, Child: map[string]string{}}
	for _, id := range old.JobIDs() {
		got.Counts[id] = old.Job(id).State().String()
	}
	for name, i := range map[string]uint64{"best": 1023, "retried": 1, "failed": 1024, "preempted": 501, "lost": 500} {
		c := old.Child(old.Job(1), i)
		last := c.GetAttempts()[len(c.GetAttempts())-1]
		got.Child[name] = c.GetState().String() + " " + last.GetReason() + " on " + last.GetNode()
	}
	want := view{
		Counts: map[uint64]string{1: "JOB_STATE_RUNNING", 2: "JOB_STATE_RUNNABLE", 3: "JOB_STATE_PENDING", 4: "JOB_STATE_FAILED"},
		Child: map[string]string{
			"best": "JOB_STATE_SUCCEEDED  on n1", "retried": "JOB_STATE_RUNNING  on n1", "failed": "JOB_STATE_FAILED boom on n1",
			"preempted": "JOB_STATE_RUNNABLE  on n2", "lost": "JOB_STATE_RUNNABLE  on n2",
		},
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("(-want +got)\n%s", d)
	}
	if b := old.Job(1).Best(); !b.OK || b.Index != 1023 || b.Value != 0.25 {
		t.Errorf("best is %+v", b)
	}
}
