// SPDX-License-Identifier: Apache-2.0

package worker

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/volley-batch/volley/worker/runner"
)

const (
	// workerVariable is in the environment of every task, and tells later
	// processes of the directory which one started it.
	workerVariable = "VOLLEY_WORKER"
	// runningName is the file that an unclean end leaves behind.
	runningName = "running"
	// leftoverTime bounds how long a start waits for killed processes to be
	// gone.
	leftoverTime = 1500 * time.Millisecond
)

// identity is the value of workerVariable: of this process alone, not of the
// directory. Were it the node's, the worker of a copied directory would kill
// the tasks of the original, and every process that a task left behind on
// purpose would be gone after an unclean end years later.
func (h *home) identity() string {
	return h.nodeID + "/" + strconv.FormatUint(h.epoch, 10)
}

// begin kills what tasks of an earlier process left when that ended uncleanly,
// and notes in the file "running" that this process may leave something. The
// lock is held, so no earlier process lives. A start after a clean end finds no
// file, and costs no look at the processes of the machine.
func (h *home) begin(log *slog.Logger) error {
	dead, err := h.unclean()
	if err != nil {
		log.Warn("what an earlier process of the worker left behind is not known", "error", err)
	}
	if len(dead) > 0 {
		h.survived = h.killLeftovers(log, dead)
	}
	return h.note(append(slices.Clone(h.survived), h.identity()))
}

// end takes the note away, unless processes that could not be killed are to be
// looked for again.
func (h *home) end() error {
	if len(h.survived) > 0 {
		return h.note(h.survived)
	}
	if err := os.Remove(h.path(runningName)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("worker: %w", err)
	}
	return nil
}

// killLeftovers answers those of the identities of which something is left.
func (h *home) killLeftovers(log *slog.Logger, dead []string) (survived []string) {
	marks := make([]string, len(dead))
	for i, id := range dead {
		marks[i] = workerVariable + "=" + id
	}
	ctx, cancel := context.WithTimeout(context.Background(), leftoverTime)
	defer cancel()
	found, err := runner.KillStrays(ctx, marks)
	switch {
	case errors.Is(err, errors.ErrUnsupported):
		log.Warn("the last process of this worker was killed; what its tasks have started may still run, and is not looked for on this system")
		return nil
	case err != nil:
		log.Error("processes of killed tasks may still run", "error", err)
		return dead
	}
	if found.Killed > 0 {
		log.Warn("killed what the tasks of a killed worker process had left running", "processes", found.Killed)
	}
	for _, p := range found.Left {
		log.Error("a process of a killed task cannot be killed", "pid", p.PID)
		if id := strings.TrimPrefix(p.Mark, workerVariable+"="); !slices.Contains(survived, id) {
			survived = append(survived, id)
		}
	}
	return survived
}

// unclean reads which processes ended without taking their note away.
func (h *home) unclean() ([]string, error) {
	path := h.path(runningName)
	b, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	fi, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	lines := strings.Fields(string(b))
	if len(lines) < 2 {
		return nil, fmt.Errorf("%s is damaged", path) // by a power cut, which leaves no process either
	}
	if lines[0] != fileID(fi) {
		// In a copy of the directory the note is of the original, whose worker
		// may be alive.
		return nil, fmt.Errorf("%s was copied from another directory", path)
	}
	return lines[1:], nil
}

// note writes the file. It is not synced: it has to outlive the process, not
// the machine.
func (h *home) note(ids []string) error {
	path := h.path(runningName)
	f, err := os.OpenFile(path+".new", os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o644)
	if err != nil {
		return fmt.Errorf("worker: %w", err)
	}
	fi, err := f.Stat()
	if err == nil {
		_, err = f.WriteString(fileID(fi) + "\n" + strings.Join(ids, "\n") + "\n")
	}
	if err = errors.Join(err, f.Close()); err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err != nil {
		return fmt.Errorf("worker: write %s: %w", path, err)
	}
	return nil
}

// fileID is different for a copy of the file, and the same after a rename.
func fileID(fi os.FileInfo) string {
	st, ok := fi.Sys().(*syscall.Stat_t)
	if !ok {
		return "-"
	}
	return fmt.Sprintf("%d:%d", st.Dev, st.Ino)
}
