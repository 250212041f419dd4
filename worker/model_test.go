// SPDX-License-Identifier: Apache-2.0

package worker

import (
	"fmt"
	"math/rand/v2"
	"os"
	"strconv"
	"strings"
	"sync"
	"testing"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	volleyv1 "github.com/volley-batch/volley/proto/volley/v1"
	"github.com/volley-batch/volley/sharding"
)

// key is an index under a lease.
type key struct{ lease, index uint64 }

// census is an Executor that counts, and ends its tasks at random or when the
// test lets them.
type census struct {
	t     testing.TB
	let   chan struct{}
	total int

	mu       sync.Mutex
	rng      *rand.Rand
	starts   map[key]int
	running  map[uint64]int
	all      int
	parallel map[uint64]int
}

func (c *census) Execute(t *Task, r *Result) {
	c.mu.Lock()
	c.starts[key{t.Lease, t.Index}]++
	c.running[t.Lease]++
	c.all++
	if c.all > c.total {
		c.t.Errorf("%d tasks run on a node of %d CPUs", c.all, c.total)
	}
	if p := c.parallel[t.Lease]; c.running[t.Lease] > p {
		c.t.Errorf("%d tasks of lease %d run, at most %d may", c.running[t.Lease], t.Lease, p)
	}
	linger, fail := c.rng.IntN(3) == 0, c.rng.IntN(5) == 0
	c.mu.Unlock()
	if linger {
		t.MarkStarted()
		select {
		case <-c.let:
		case <-t.Stopped():
		}
	}
	if fail {
		r.Outcome, r.ExitCode = volleyv1.Outcome_OUTCOME_FAILED, 1
	}
	c.mu.Lock()
	c.running[t.Lease]--
	c.all--
	c.mu.Unlock()
}

// model is what a coordinator knows. It follows the rules of package
// coordinator/state, which the worker's tests may not import: results of a
// repeated report count, the rest of it does not; what a Hello does not hold is
// never granted again under that lease; what was handed back may be, with or
// after the acknowledgement of the hand-back or after a Hello.
type model struct {
	t        *testing.T
	rng      *rand.Rand
	c        *coordinator
	s        *fakeSession
	exec     *census
	held     map[key]bool
	finished map[key]int
	free     map[uint64]*sharding.Set // by lease: handed back
	dropped  map[uint64]bool
	seq      uint64 // applied
	seen     uint64 // of this session
	lastSeq  uint64 // of the Hello
	next     uint64
	trace    []string
}

// note keeps the last messages, for the report of a failure.
func (m *model) note(who string, message fmt.Stringer) {
	const most = 50
	if len(m.trace) == most {
		m.trace = append(m.trace[:0], m.trace[1:]...)
	}
	m.trace = append(m.trace, who+" "+message.String())
}

func (m *model) send(r *volleyv1.ConnectResponse) {
	m.t.Helper()
	m.note("coordinator:", r)
	m.s.send(r)
}

func (m *model) connect() {
	m.t.Helper()
	m.s = m.c.next()
	m.note("worker:", m.s.hello)
	m.seen, m.lastSeq = 0, m.s.hello.GetLastSeq()
	// What the worker does not have is lost.
	has := map[key]bool{}
	for _, h := range m.s.hello.GetHeld() {
		unfinished, err := sharding.ParsePacked(h.GetUnfinished())
		if err != nil {
			m.t.Fatal(err)
		}
		finished, err := sharding.ParsePacked(h.GetFinished())
		if err != nil {
			m.t.Fatal(err)
		}
		both := unfinished.Clone()
		both.Intersect(finished)
		if !both.Empty() {
			m.t.Fatalf("lease %d: %v is both finished and not", h.GetLeaseId(), both.AppendPacked(nil))
		}
		for i := range unfinished.All() {
			k := key{h.GetLeaseId(), i}
			has[k] = true
			if !m.held[k] && !m.dropped[k.lease] {
				m.t.Fatalf("lease %d index %d is held and was not granted, or came back before", k.lease, i)
			}
		}
		for i := range finished.All() {
			has[key{h.GetLeaseId(), i}] = true
		}
	}
	for k := range m.held {
		if !has[k] {
			delete(m.held, k)
		}
	}
	m.send(&volleyv1.ConnectResponse{Welcome: &volleyv1.Welcome{LeaseTtlMs: 30000}, Jobs: []*volleyv1.WorkerJob{jobOf(1, 1<<30, nil)}})
}

// absorb applies the reports that have come.
func (m *model) absorb() {
	m.t.Helper()
	m.s.mu.Lock()
	messages := m.s.messages[m.s.seen:]
	m.s.seen = len(m.s.messages)
	m.s.mu.Unlock()
	for _, x := range messages {
		m.note("worker:", x)
		if r := x.GetReport(); r != nil {
			m.apply(r)
		}
	}
}

func (m *model) apply(r *volleyv1.Report) {
	m.t.Helper()
	m.seen = r.GetSeq()
	if r.GetSeq() <= m.seq {
		return
	}
	if r.GetSeq() != m.seq+1 {
		m.t.Fatalf("report %d follows %d", r.GetSeq(), m.seq)
	}
	m.seq = r.GetSeq()
	for _, l := range r.GetLeases() {
		id := l.GetLeaseId()
		runs(l.GetFinished(), func(i uint64) {
			k := key{id, i}
			m.finished[k]++
			if m.finished[k] > 1 {
				m.t.Fatalf("lease %d index %d finished twice", id, i)
			}
			if !m.held[k] && !m.dropped[id] {
				m.t.Fatalf("lease %d index %d finished and was not held", id, i)
			}
			delete(m.held, k)
		})
		if len(l.GetPreempted()) > 0 {
			m.t.Fatalf("lease %d: %v preempted although the worker stays", id, l.GetPreempted())
		}
		if r.GetSeq() <= m.lastSeq {
			continue
		}
		runs(l.GetReturned(), func(i uint64) {
			if k := (key{id, i}); m.held[k] {
				delete(m.held, k)
				m.free[id].Add(i)
			}
		})
	}
}

func runs(flat []uint64, f func(i uint64)) {
	for k := 0; k < len(flat); k += 2 {
		for i := range flat[k+1] {
			f(flat[k] + i)
		}
	}
}

// ack acknowledges what came in this session.
func (m *model) ack() *volleyv1.ConnectResponse { return &volleyv1.ConnectResponse{AckedSeq: m.seen} }

// grant gives indexes of a lease that are free: fresh ones, handed-back ones,
// and now and then some that are held already.
func (m *model) grant(lease uint64) *volleyv1.Grant {
	set := sharding.NewSet()
	if m.rng.IntN(2) == 0 {
		set.AddRange(m.next, 1+m.rng.Uint64N(40))
		m.next += set.Len()
	} else {
		for _, r := range m.free[lease].PopFront(1 + m.rng.Uint64N(10)) {
			set.AddRange(r.First, r.Count)
		}
	}
	for i := range set.All() {
		m.held[key{lease, i}] = true
	}
	if m.rng.IntN(4) == 0 {
		for k := range m.held {
			if k.lease == lease {
				set.Add(k.index)
				break
			}
		}
	}
	if set.Empty() {
		return nil
	}
	return &volleyv1.Grant{LeaseId: lease, Job: 1, Attempt: 1, Parallel: uint32(m.exec.parallel[lease]), Runs: set.AppendPacked(nil), Priority: int32(lease % 3)}
}

func (m *model) step() {
	lease := 1 + m.rng.Uint64N(6)
	switch m.rng.IntN(12) {
	case 0, 1, 2, 3:
		if m.dropped[lease] {
			return
		}
		r := m.ack()
		if g := m.grant(lease); g != nil {
			r.Grants = append(r.Grants, g)
		}
		m.send(r)
	case 4, 5:
		r := &volleyv1.Revoke{LeaseId: lease, Kill: m.rng.IntN(3) == 0}
		if m.rng.IntN(2) == 0 {
			first := m.rng.Uint64N(m.next + 1)
			r.Runs = []uint64{first, 1 + m.rng.Uint64N(50)}
		}
		m.send(&volleyv1.ConnectResponse{Revokes: []*volleyv1.Revoke{r}})
	case 6:
		if m.rng.IntN(20) == 0 {
			m.dropped[lease] = true
			for k := range m.held {
				if k.lease == lease {
					delete(m.held, k)
				}
			}
			m.send(&volleyv1.ConnectResponse{Revokes: []*volleyv1.Revoke{{LeaseId: lease, Drop: true}}})
		}
	case 7, 8:
		m.send(m.ack())
	case 9:
		if m.rng.IntN(4) == 0 {
			m.s.end <- status.Error(codes.Unavailable, "gone")
			m.connect()
		}
	default:
		select {
		case m.exec.let <- struct{}{}:
		default:
		}
	}
}

// TestModel gives, takes back and breaks connections at random, and checks
// every report and every Hello against what a coordinator would know.
func TestModel(t *testing.T) {
	t.Parallel()
	seeds := []uint64{}
	for i := range uint64(12) {
		seeds = append(seeds, i)
	}
	if text := os.Getenv("VOLLEY_SEED"); text != "" {
		seed, err := strconv.ParseUint(text, 10, 64)
		if err != nil {
			t.Fatalf("VOLLEY_SEED: %v", err)
		}
		seeds = []uint64{seed}
	}
	for _, seed := range seeds {
		t.Run(fmt.Sprintf("seed=%d", seed), func(t *testing.T) {
			t.Parallel()
			t.Cleanup(func() {
				if t.Failed() {
					t.Logf("again: VOLLEY_SEED=%d go test -run TestModel ./worker", seed)
				}
			})
			testModel(t, seed)
		})
	}
}

func testModel(t *testing.T, seed uint64) {
	rng := rand.New(rand.NewPCG(seed, 1))
	exec := &census{
		t: t, let: make(chan struct{}), total: 5, rng: rand.New(rand.NewPCG(seed, 2)),
		starts: map[key]int{}, running: map[uint64]int{}, parallel: map[uint64]int{},
	}
	m := &model{
		t: t, rng: rng, c: newCoordinator(t), exec: exec,
		held: map[key]bool{}, finished: map[key]int{}, free: map[uint64]*sharding.Set{}, dropped: map[uint64]bool{},
	}
	for l := range uint64(8) {
		exec.parallel[l] = 1 + int(l%4)
		m.free[l] = sharding.NewSet()
	}
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("the last messages:\n%s", strings.Join(m.trace, "\n"))
		}
	})
	m.c.start(Config{Executor: exec, Capacity: cpus(5)})
	m.connect()
	for range 400 {
		m.absorb()
		m.step()
	}
	close(exec.let)
	// Everything ends, over one more reconnect.
	m.s.end <- status.Error(codes.Unavailable, "gone")
	m.connect()
	for len(m.held) > 0 {
		m.absorb()
		m.send(m.ack())
		if len(m.held) > 0 {
			m.s.peek(fmt.Sprintf("end of the last %d indexes", len(m.held)))
		}
	}
	exec.mu.Lock()
	defer exec.mu.Unlock()
	for k, n := range exec.starts {
		if m.dropped[k.lease] {
			continue
		}
		if n != 1 || m.finished[k] != 1 {
			t.Errorf("lease %d index %d: started %d times, finished %d times", k.lease, k.index, n, m.finished[k])
		}
	}
	if len(exec.starts) == 0 {
		t.Error("nothing was started")
	}
}

// peek waits until there is a message that was not looked at.
func (s *fakeSession) peek(what string) {
	s.t.Helper()
	s.await(what, func(*volleyv1.ConnectRequest) bool { return true })
	s.mu.Lock()
	s.seen--
	s.mu.Unlock()
}
