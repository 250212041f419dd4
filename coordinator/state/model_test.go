// SPDX-License-Identifier: Apache-2.0

package state

import (
	"bytes"
	"fmt"
	"testing"

	"google.golang.org/protobuf/proto"
	"pgregory.net/rapid"

	journalv1 "github.com/volley-batch/volley/proto/volley/journal/v1"
	volleyv1 "github.com/volley-batch/volley/proto/volley/v1"
	"github.com/volley-batch/volley/sharding"
)

// model is the state once more, as simply as can be: a struct for every child.
// It knows arrays without dependencies.
type model struct {
	jobs   map[uint64]*modelJob
	leases map[uint64]*modelLease
	lastID uint64
}

type modelJob struct {
	kids   []modelChild
	budget int
	cancel bool
}

type modelChild struct {
	lease    uint64 // 0: none
	running  bool
	ended    bool
	ok       bool
	killing  bool
	attempts int // recorded, the running one not counted
	charged  int
	lost     int
	floor    uint64 // it may have run under any lease up to this
}

type modelLease struct {
	job    uint64
	worker string
}

func (m *model) each(lease uint64, f func(j *modelJob, c *modelChild, i uint64)) {
	l := m.leases[lease]
	for i := range m.jobs[l.job].kids {
		if c := &m.jobs[l.job].kids[i]; c.lease == lease {
			f(m.jobs[l.job], c, uint64(i))
		}
	}
}

func (m *model) finish(j *modelJob, c *modelChild, ok, charged bool) {
	c.lease, c.running = 0, false
	c.attempts++
	retry := false
	switch {
	case ok:
	case j.cancel || c.killing:
	case charged:
		c.charged++
		retry = c.charged < j.budget
	default:
		c.lost++
		retry = c.lost <= maxLost
	}
	c.ended, c.ok = !retry, ok
	if !retry {
		c.killing = false
	}
}

func (m *model) back(j *modelJob, c *modelChild) {
	c.lease = 0
	if j.cancel || c.killing {
		c.ended, c.ok, c.killing = true, false, false
	}
}

// lose is the worker not holding the child any more.
func (m *model) lose(j *modelJob, c *modelChild) {
	if c.running {
		m.finish(j, c, false, false)
	} else {
		c.floor = c.lease
		m.back(j, c)
	}
}

func (m *model) terminal(j *modelJob) bool {
	for i := range j.kids {
		if !j.kids[i].ended {
			return false
		}
	}
	return true
}

var modelNodes = []string{"n1", "n2"}

func TestAgainstModel(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		m := &model{jobs: map[uint64]*modelJob{}, leases: map[uint64]*modelLease{}}
		st := New()
		var log [][]byte
		seq := uint64(0)
		apply := func(e *journalv1.Entry) (Result, []Effect, error) {
			data, err := proto.Marshal(e)
			if err != nil {
				t.Fatal(err)
			}
			r, effects, err := st.Apply(e)
			if err == nil {
				log = append(log, data)
			}
			return r, effects, err
		}
		must := func(e *journalv1.Entry) (Result, []Effect) {
			r, effects, err := apply(e)
			if err != nil {
				t.Fatalf("%v: %v", e, err)
			}
			return r, effects
		}
		hello := func(node string, forget bool) {
			h := &volleyv1.Hello{NodeId: node, Name: node, Epoch: 1, LastSeq: seq, Capacity: &volleyv1.Resources{CpuMilli: 1 << 40}}
			for id := range st.nextLease { // not the map: draws need an order
				l := m.leases[id]
				if l == nil || l.worker != node {
					continue
				}
				held := &volleyv1.HeldLease{LeaseId: id}
				un, run := new(sharding.Set), new(sharding.Set)
				m.each(id, func(j *modelJob, c *modelChild, i uint64) {
					if forget && rapid.Bool().Draw(t, "forget") {
						m.lose(j, c)
						return
					}
					un.Add(i)
					if c.running {
						run.Add(i)
					}
				})
				held.Unfinished, held.Running = un.AppendPacked(nil), run.AppendPacked(nil)
				h.Held = append(h.Held, held)
			}
			must(&journalv1.Entry{Op: &journalv1.Entry_WorkerHello{WorkerHello: &journalv1.WorkerHello{Hello: h}}})
		}
		for _, n := range modelNodes {
			hello(n, false)
		}
		node := func(t *rapid.T) string { return rapid.SampledFrom(modelNodes).Draw(t, "node") }
		job := func(t *rapid.T) (uint64, *modelJob) {
			if m.lastID == 0 {
				t.Skip()
			}
			id := rapid.Uint64Range(1, m.lastID).Draw(t, "job")
			return id, m.jobs[id]
		}
		report := func(lease uint64, lr *volleyv1.LeaseReport) {
			l := m.leases[lease]
			lr.LeaseId = lease
			seq++
			must(&journalv1.Entry{Op: &journalv1.Entry_WorkerReport{WorkerReport: &journalv1.WorkerReport{
				NodeId: l.worker, Epoch: 1, Session: st.WorkerByNode(l.worker).Session, Report: &volleyv1.Report{Seq: seq, Leases: []*volleyv1.LeaseReport{lr}},
			}}})
		}
		// lease picks any lease that ever was: reports about those that are gone
		// must change nothing.
		lease := func(t *rapid.T) uint64 {
			if st.nextLease == 1 {
				t.Skip()
			}
			return rapid.Uint64Range(1, st.nextLease-1).Draw(t, "lease")
		}
		t.Repeat(map[string]func(*rapid.T){
			"submit": func(t *rapid.T) {
				size, budget := rapid.IntRange(1, 6).Draw(t, "size"), rapid.IntRange(1, 3).Draw(t, "budget")
				r, _ := must(&journalv1.Entry{Op: &journalv1.Entry_Submit{Submit: &journalv1.Submit{
					Size: uint64(size), Array: true, Spec: &volleyv1.JobSpec{Name: "j", Retry: &volleyv1.Retry{Attempts: int32(budget)}},
				}}})
				m.jobs[r.Job] = &modelJob{kids: make([]modelChild, size), budget: budget}
				m.lastID = r.Job
			},
			"grant": func(t *rapid.T) {
				id, j := job(t)
				set, attempt := new(sharding.Set), 0
				floor := uint64(0)
				for i := range j.kids {
					c := &j.kids[i]
					if c.ended || c.lease != 0 || attempt != 0 && attempt != c.attempts+1 || !rapid.Bool().Draw(t, "take") {
						continue
					}
					attempt = c.attempts + 1
					set.Add(uint64(i))
					floor = max(floor, c.floor)
				}
				if set.Empty() {
					t.Skip()
				}
				n := node(t)
				into := uint64(0)
				for l := range st.nextLease {
					if m.leases[l] != nil && m.leases[l].job == id && m.leases[l].worker == n && st.Lease(l) != nil && rapid.Bool().Draw(t, "into") {
						into = l
					}
				}
				r, _, err := apply(&journalv1.Entry{Op: &journalv1.Entry_Grant{Grant: &journalv1.Grant{
					NodeId: n, Job: id, LeaseId: into, Attempt: uint32(attempt), Parallel: uint32(rapid.IntRange(1, 4).Draw(t, "parallel")), Runs: set.AppendPacked(nil),
				}}})
				if err != nil {
					if into == 0 && st.WorkerByNode(n).Status == NodeReady {
						t.Fatalf("a new lease is refused: %v", err)
					}
					return
				}
				if r.Lease <= floor {
					t.Fatalf("granted under lease %d what may have run under %d", r.Lease, floor)
				}
				m.leases[r.Lease] = &modelLease{job: id, worker: n}
				for i := range set.All() {
					j.kids[i].lease = r.Lease
				}
			},
			"finish": func(t *rapid.T) {
				l := lease(t)
				ok := rapid.Bool().Draw(t, "ok")
				lr := &volleyv1.LeaseReport{}
				for i := range m.jobs[m.leases[l].job].kids {
					if rapid.Bool().Draw(t, "finish") {
						lr.Finished = append(lr.Finished, uint64(i), 1)
						lr.Outcome = append(lr.Outcome, map[bool]uint32{true: 0, false: 1}[ok])
					}
				}
				report(l, lr)
				m.each(l, func(j *modelJob, c *modelChild, i uint64) {
					for k := 0; k < len(lr.Finished); k += 2 {
						if lr.Finished[k] == i {
							m.finish(j, c, ok, true)
							return
						}
					}
				})
			},
			"start": func(t *rapid.T) {
				l := lease(t)
				report(l, &volleyv1.LeaseReport{Started: []uint64{0, 3}})
				m.each(l, func(_ *modelJob, c *modelChild, i uint64) { c.running = c.running || i < 3 })
			},
			"return": func(t *rapid.T) {
				l := lease(t)
				report(l, &volleyv1.LeaseReport{Returned: []uint64{1, 4}})
				m.each(l, func(j *modelJob, c *modelChild, i uint64) {
					if i >= 1 && i < 5 && !c.running {
						m.back(j, c)
					}
				})
			},
			"preempt": func(t *rapid.T) {
				l := lease(t)
				report(l, &volleyv1.LeaseReport{Preempted: []uint64{0, 2}})
				m.each(l, func(j *modelJob, c *modelChild, i uint64) {
					if i < 2 {
						m.finish(j, c, false, false)
					}
				})
			},
			"hello": func(t *rapid.T) { hello(node(t), true) },
			"lost": func(t *rapid.T) {
				n := node(t)
				must(&journalv1.Entry{Op: &journalv1.Entry_WorkerLost{WorkerLost: &journalv1.WorkerLost{NodeId: n, Epoch: 1}}})
				for id, l := range m.leases {
					if l.worker == n {
						m.each(id, func(j *modelJob, c *modelChild, _ uint64) { m.lose(j, c) })
					}
				}
			},
			"cancel": func(t *rapid.T) {
				id, j := job(t)
				must(&journalv1.Entry{Op: &journalv1.Entry_Cancel{Cancel: &journalv1.Cancel{Job: id, Terminate: rapid.Bool().Draw(t, "kill")}}})
				if m.terminal(j) {
					return
				}
				j.cancel = true
				for i := range j.kids {
					if c := &j.kids[i]; !c.ended && c.lease == 0 {
						m.back(j, c)
					}
				}
			},
			"terminate child": func(t *rapid.T) {
				id, j := job(t)
				i := rapid.Uint64Range(0, uint64(len(j.kids)-1)).Draw(t, "index")
				must(&journalv1.Entry{Op: &journalv1.Entry_Cancel{Cancel: &journalv1.Cancel{Job: id, Index: &i, Terminate: true}}})
				if c := &j.kids[i]; !c.ended {
					if c.killing = true; c.lease == 0 {
						m.back(j, c)
					}
				}
			},
			"rerun": func(t *rapid.T) {
				id, j := job(t)
				failed := rapid.Bool().Draw(t, "failed")
				_, _, err := apply(&journalv1.Entry{Op: &journalv1.Entry_Rerun{Rerun: &journalv1.Rerun{Job: id, FailedOnly: failed}}})
				if (err == nil) != m.terminal(j) {
					t.Fatalf("rerun of job %d: %v", id, err)
				}
				if err != nil {
					return
				}
				for i := range j.kids {
					if c := &j.kids[i]; !failed || !c.ok {
						*c = modelChild{attempts: c.attempts, floor: c.floor}
						j.cancel = false
					}
				}
			},
			"snapshot": func(t *rapid.T) {
				frozen := st.Freeze()
				a := write(t, frozen)
				again, err := Read(bytes.NewReader(a))
				if err != nil {
					t.Fatal(err)
				}
				if !bytes.Equal(a, write(t, again.Freeze())) {
					t.Fatal("a snapshot that was read writes another one")
				}
				// The frozen copy must not see what the next entries do.
				old := st
				must(&journalv1.Entry{Op: &journalv1.Entry_WorkerLost{WorkerLost: &journalv1.WorkerLost{NodeId: "n1", Epoch: 1}}})
				for id, l := range m.leases {
					if l.worker == "n1" {
						m.each(id, func(j *modelJob, c *modelChild, _ uint64) { m.lose(j, c) })
					}
				}
				if old != st || !bytes.Equal(a, write(t, frozen)) {
					t.Fatal("a frozen state has changed")
				}
				hello("n1", false)
			},
			"": func(t *rapid.T) { compare(t, st, m) },
		})
		twin := New()
		for _, data := range log {
			var e journalv1.Entry
			if err := proto.Unmarshal(data, &e); err != nil {
				t.Fatal(err)
			}
			if _, _, err := twin.Apply(&e); err != nil {
				t.Fatalf("the replay refuses %v: %v", &e, err)
			}
		}
		if !bytes.Equal(write(t, st.Freeze()), write(t, twin.Freeze())) {
			t.Fatal("the same entries end in another state")
		}
	})
}

func write(t interface{ Fatal(...any) }, f *Frozen) []byte {
	var b bytes.Buffer
	if err := f.Write(&b); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func compare(t *rapid.T, st *State, m *model) {
	if err := st.CheckInvariants(); err != nil {
		t.Fatal(err)
	}
	for id, mj := range m.jobs {
		j := st.Job(id)
		for i := range mj.kids {
			c := st.Child(j, uint64(i))
			k := &mj.kids[i]
			want, attempts := volleyv1.JobState_JOB_STATE_RUNNABLE, k.attempts
			switch {
			case k.ended && k.ok:
				want = volleyv1.JobState_JOB_STATE_SUCCEEDED
			case k.ended:
				want = volleyv1.JobState_JOB_STATE_FAILED
			case k.running:
				want = volleyv1.JobState_JOB_STATE_RUNNING
				attempts++
			case k.lease != 0:
				want = volleyv1.JobState_JOB_STATE_STARTING
			}
			got := fmt.Sprintf("%s, %d attempts", c.GetState(), len(c.GetAttempts()))
			if w := fmt.Sprintf("%s, %d attempts", want, attempts); got != w {
				t.Fatalf("child %d:%d is %s, the model says %s", id, i, got, w)
			}
		}
		if j.Terminal() != m.terminal(mj) {
			t.Fatalf("job %d: terminal is %v", id, j.Terminal())
		}
	}
}
