// SPDX-License-Identifier: Apache-2.0

package journal

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/gofrs/flock"
	"github.com/google/renameio/v2"
)

const (
	lockFile   = "LOCK"
	formatFile = "FORMAT"
	// formatVersion covers all files of the directory, the layout of Extensions
	// and the head of a snapshot.
	formatVersion = 1
)

// directory is a journal's directory, locked.
type directory struct {
	path string
	lock *flock.Flock
	// fresh: nothing was ever acknowledged here.
	fresh bool
}

// openDirectory creates and locks the directory, checks that it is one of this
// version and node, and walks the log file.
//
// The FORMAT file is written last when a journal is created. So where it is
// missing nothing was acknowledged yet, and a half-made log file may be set
// aside; where it is there, a missing or empty log file is a loss, which bbolt
// would take for a new one.
func openDirectory(path, node string) (_ *directory, err error) {
	if err := os.MkdirAll(path, 0o700); err != nil {
		return nil, fmt.Errorf("create journal directory: %w", err)
	}
	d := &directory{path: path}
	if err := d.acquire(); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			_ = d.release()
		}
	}()
	d.fresh, err = d.checkFormat(node)
	if err != nil {
		return nil, err
	}
	err = checkLogFile(filepath.Join(path, logFile))
	switch {
	case err == nil:
	case !d.fresh:
		return nil, err
	case errors.Is(err, fs.ErrNotExist):
	default:
		// Killed while it was being created.
		name := filepath.Join(path, logFile)
		if err := os.Rename(name, name+".unfinished"); err != nil {
			return nil, fmt.Errorf("set aside an unfinished journal: %w", err)
		}
	}
	return d, nil
}

func (d *directory) acquire() error {
	name := filepath.Join(d.path, lockFile)
	d.lock = flock.New(name, flock.SetPermissions(0o600))
	ok, err := d.lock.TryLock()
	if err != nil {
		return fmt.Errorf("lock %s: %w", name, err)
	}
	if !ok {
		pid, _ := os.ReadFile(name) // the holder may be about to write it
		who := strings.TrimSpace(string(pid))
		if who == "" {
			who = "unknown"
		}
		return fmt.Errorf("%w: %s is that of process %s; stop it or use another directory", ErrLocked, d.path, who)
	}
	// For people only: the lock itself goes when the process does.
	if err := os.WriteFile(name, []byte(strconv.Itoa(os.Getpid())+"\n"), 0o600); err != nil {
		_ = d.lock.Unlock()
		return fmt.Errorf("write %s: %w", name, err)
	}
	return nil
}

func (d *directory) release() error {
	if err := d.lock.Unlock(); err != nil {
		return fmt.Errorf("unlock %s: %w", d.path, err)
	}
	return nil
}

func formatText(node string) string {
	return fmt.Sprintf("volley journal %d\nnode %q\n", formatVersion, node)
}

// checkFormat reports whether the directory is a new one.
func (d *directory) checkFormat(node string) (fresh bool, err error) {
	name := filepath.Join(d.path, formatFile)
	b, err := os.ReadFile(name)
	if errors.Is(err, fs.ErrNotExist) {
		snaps, err := os.ReadDir(filepath.Join(d.path, "snapshots"))
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return false, fmt.Errorf("read journal directory: %w", err)
		}
		// A file there is what raft tries the directory with; only a kill in
		// that moment leaves it.
		snaps = slices.DeleteFunc(snaps, func(e fs.DirEntry) bool { return !e.IsDir() })
		if len(snaps) > 0 {
			return false, fmt.Errorf("%w: %s is missing beside %d snapshots", ErrCorrupt, name, len(snaps))
		}
		return true, nil
	}
	if err != nil {
		return false, fmt.Errorf("read journal format: %w", err)
	}
	var version int
	var owner string
	if _, err := fmt.Sscanf(string(b), "volley journal %d\nnode %q\n", &version, &owner); err != nil {
		return false, fmt.Errorf("%w: %s holds %.40q, which is no format of a journal", ErrCorrupt, name, b)
	}
	if version != formatVersion {
		return false, fmt.Errorf("%s: format version %d, this program reads %d; use the program that wrote it", name, version, formatVersion)
	}
	if owner != node {
		return false, fmt.Errorf("%s: the journal belongs to node %q, not %q; a node keeps its name for ever", name, owner, node)
	}
	return false, nil
}

// finish marks a new directory as complete and makes its entries durable.
func (d *directory) finish(node string) error {
	if !d.fresh {
		return nil
	}
	if err := renameio.WriteFile(filepath.Join(d.path, formatFile), []byte(formatText(node)), 0o600); err != nil {
		return fmt.Errorf("write journal format: %w", err)
	}
	dir, err := os.Open(d.path)
	if err != nil {
		return fmt.Errorf("sync journal directory: %w", err)
	}
	defer dir.Close()
	if err := dir.Sync(); err != nil {
		return fmt.Errorf("sync journal directory: %w", err)
	}
	return nil
}

func checkLogFile(name string) error {
	f, err := os.Open(name)
	if err != nil {
		if errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("%w: %w", ErrCorrupt, err)
		}
		return fmt.Errorf("check journal: %w", err)
	}
	defer f.Close()
	size, err := f.Seek(0, io.SeekEnd)
	if err != nil {
		return fmt.Errorf("check journal: %w", err)
	}
	if err := checkBolt(f, size); err != nil {
		return fmt.Errorf("%w: %s: %w", ErrCorrupt, name, err)
	}
	return nil
}
