// SPDX-License-Identifier: Apache-2.0

package worker

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"github.com/google/renameio/v2"
)

// retainEvery is how often old output is looked for.
const retainEvery = time.Hour

// retention removes the output and the kept work directories of jobs some time
// after the coordinator has forgotten them.
type retention struct {
	p    *processes
	path string
	keep time.Duration // below 0: for ever

	mu   sync.Mutex
	jobs []forgottenJob
}

type forgottenJob struct {
	Number uint64    `json:"number"`
	ID     string    `json:"id"`
	At     time.Time `json:"at"`
}

func openRetention(p *processes, path string, keep time.Duration) (*retention, error) {
	r := &retention{p: p, path: path, keep: keep}
	b, err := os.ReadFile(path)
	if errors.Is(err, os.ErrNotExist) {
		return r, nil
	}
	if err != nil {
		return nil, fmt.Errorf("worker: forgotten jobs: %w", err)
	}
	if err := json.Unmarshal(b, &r.jobs); err != nil {
		return nil, fmt.Errorf("worker: %s: %w; remove the file, and the output of old jobs by hand", path, err)
	}
	return r, nil
}

// add notes that a job was forgotten now.
func (r *retention) add(number uint64, id string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if slices.ContainsFunc(r.jobs, func(j forgottenJob) bool { return j.Number == number }) {
		return
	}
	r.jobs = append(r.jobs, forgottenJob{number, id, time.Now()})
	r.save()
}

// remove takes a job off the list: it is back.
func (r *retention) remove(number uint64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	n := len(r.jobs)
	r.jobs = slices.DeleteFunc(r.jobs, func(j forgottenJob) bool { return j.Number == number })
	if len(r.jobs) != n {
		r.save()
	}
}

func (r *retention) save() {
	b, err := json.Marshal(r.jobs)
	if err == nil {
		err = renameio.WriteFile(r.path, b, 0o644)
	}
	if err != nil {
		r.p.log.Warn("list of forgotten jobs not written; their output stays", "error", err)
	}
}

// sweep removes what has been forgotten before the given time.
func (r *retention) sweep(before time.Time) {
	r.mu.Lock()
	defer r.mu.Unlock()
	n := len(r.jobs)
	r.jobs = slices.DeleteFunc(r.jobs, func(j forgottenJob) bool {
		if !j.At.Before(before) || !filepath.IsLocal(j.ID) {
			return false
		}
		err := errors.Join(r.p.out.RemoveJob(j.Number), os.RemoveAll(filepath.Join(r.p.work, j.ID)))
		if err != nil {
			r.p.log.Warn("output of a forgotten job not removed", "job", j.ID, "error", err)
		}
		return err == nil
	})
	if len(r.jobs) != n {
		r.save()
	}
}

// retainLoop sweeps until ctx ends.
func (p *processes) retainLoop(ctx context.Context) {
	if p.keep.keep < 0 {
		return
	}
	tick := time.NewTicker(retainEvery)
	defer tick.Stop()
	for {
		before := time.Now().Add(-p.keep.keep)
		p.keep.sweep(before)
		if err := p.stage.Sweep(before); err != nil {
			p.log.Warn("old input files not removed", "error", err)
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
	}
}
