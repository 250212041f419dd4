// SPDX-License-Identifier: Apache-2.0

package load

import (
	"context"
	"os"
	"time"

	"github.com/volley-batch/volley/internal/usage"
	volleyv1 "github.com/volley-batch/volley/proto/volley/v1"
)

// meter measures what a stretch of the run costs.
type meter struct {
	begin          time.Time
	self, children usage.Usage
	info           *volleyv1.GetServerInfoResponse
}

func (r *run) begin(ctx context.Context) (*meter, error) {
	info, err := r.t.client.ServerInfo(ctx)
	if err != nil {
		return nil, err
	}
	return &meter{begin: time.Now(), self: usage.Self(), children: usage.Children(), info: info}, nil
}

// end puts the costs into the report. It asks also when ctx has ended. A
// coordinator that does not answer any more leaves its part out.
func (r *run) end(ctx context.Context, m *meter) {
	self, children := usage.Self(), usage.Children()
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), patience)
	defer cancel()
	tasks := float64(r.report.Result.Tasks)
	add := func(role string, cpu time.Duration, peak, written int64) {
		p := Process{Role: role, CPUSeconds: cpu.Seconds(), PeakRSSBytes: peak, WrittenBytes: written}
		if r.perTask && tasks > 0 {
			p.CPUMicrosPerTask = p.CPUSeconds * 1e6 / tasks
		}
		r.report.Processes = append(r.report.Processes, p)
	}
	info, err := r.t.client.ServerInfo(ctx)
	if err == nil {
		before, after := m.info.GetProcess(), info.GetProcess()
		if after.GetPid() == before.GetPid() && after.GetPid() != 0 && !r.t.here {
			cpu := after.GetCpuUserUs() + after.GetCpuSystemUs() - before.GetCpuUserUs() - before.GetCpuSystemUs()
			add("coordinator", time.Duration(cpu)*time.Microsecond, after.GetPeakRssBytes(), after.GetWrittenBytes()-before.GetWrittenBytes())
		}
		if was, is := m.info.GetJournal(), info.GetJournal(); is != nil && was != nil && is.GetBatches() >= was.GetBatches() {
			r.report.Journal = &Journal{
				Batches: is.GetBatches() - was.GetBatches(), Bytes: is.GetBytes() - was.GetBytes(),
				Syncs: is.GetSyncs() - was.GetSyncs(), LogBytes: is.GetLogBytes(),
			}
		}
	}
	role := r.selfRole
	if r.t.here {
		role = "coordinator, " + role
	}
	add(role, self.CPU()-m.self.CPU(), self.PeakRSS, self.Written-m.self.Written)
	if r.childRole != "" {
		add(r.childRole, children.CPU()-m.children.CPU(), 0, 0)
	}
}

// sample waits until a condition holds, asking at short intervals: the API has
// no event for it.
func sample(ctx context.Context, every time.Duration, done func() (bool, error)) error {
	tick := time.NewTicker(every)
	defer tick.Stop()
	for {
		if ok, err := done(); ok || err != nil {
			return err
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// host is what the machine is called, for names of workers.
func host() string {
	name, err := os.Hostname()
	if err != nil {
		return "bench"
	}
	return name
}
