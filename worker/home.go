// SPDX-License-Identifier: Apache-2.0

package worker

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/gofrs/flock"
	"github.com/google/renameio/v2"
	"github.com/google/uuid"
)

// home is the data directory of a worker.
type home struct {
	dir    string // absolute
	lock   *flock.Flock
	nodeID string
	// epoch grows with every process that opens the directory.
	epoch uint64
	// survived are identities of earlier processes of which something could
	// not be killed.
	survived []string
}

func openHome(dir string) (*home, error) {
	abs, err := filepath.Abs(dir)
	if err != nil {
		return nil, fmt.Errorf("worker: data directory %q: %w", dir, err)
	}
	if err := os.MkdirAll(abs, 0o755); err != nil {
		return nil, fmt.Errorf("worker: data directory: %w", err)
	}
	h := &home{dir: abs, lock: flock.New(filepath.Join(abs, "lock"))}
	ok, err := h.lock.TryLock()
	if err != nil {
		return nil, fmt.Errorf("worker: lock of data directory %s: %w", abs, err)
	}
	if !ok {
		holder := ""
		if pid := h.read("pid"); pid != "" {
			holder = " (process " + pid + ")"
		}
		return nil, fmt.Errorf("%s is %w%s; stop it or name another directory", abs, ErrInUse, holder)
	}
	if err := h.identify(); err != nil {
		return nil, errors.Join(err, h.close())
	}
	return h, nil
}

func (h *home) identify() error {
	if h.nodeID = h.read("node-id"); h.nodeID == "" {
		id, err := uuid.NewV7()
		if err != nil {
			return fmt.Errorf("worker: node id: %w", err)
		}
		h.nodeID = id.String()
		if err := h.write("node-id", h.nodeID); err != nil {
			return err
		}
	}
	var last uint64
	if text := h.read("epoch"); text != "" {
		var err error
		if last, err = strconv.ParseUint(text, 10, 64); err != nil {
			return fmt.Errorf("worker: %s: %q is not a number; remove the file", h.path("epoch"), text)
		}
	}
	// The clock alone may go back; the file alone may be lost.
	h.epoch = max(last+1, uint64(time.Now().UnixNano()))
	if err := h.write("epoch", strconv.FormatUint(h.epoch, 10)); err != nil {
		return err
	}
	return h.write("pid", strconv.Itoa(os.Getpid()))
}

func (h *home) path(elem ...string) string {
	return filepath.Join(append([]string{h.dir}, elem...)...)
}

func (h *home) read(name string) string {
	b, err := os.ReadFile(h.path(name))
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(b))
}

func (h *home) write(name, text string) error {
	if err := renameio.WriteFile(h.path(name), []byte(text+"\n"), 0o644); err != nil {
		return fmt.Errorf("worker: write %s: %w", h.path(name), err)
	}
	return nil
}

func (h *home) close() error {
	if err := h.lock.Unlock(); err != nil {
		return fmt.Errorf("worker: unlock data directory: %w", err)
	}
	return nil
}
