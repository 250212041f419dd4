// SPDX-License-Identifier: Apache-2.0

package embedded

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"

	"github.com/gofrs/flock"

	"github.com/volley-batch/volley/client"
	"github.com/volley-batch/volley/internal/credential"
)

// DirName is what the directory is called.
const DirName = ".volley"

// ErrReadOnly is wrapped by the error for a directory that cannot be written.
var ErrReadOnly = errors.New("read-only directory")

// maxSocketPath is what fits sockaddr_un on every system: 104 bytes on darwin,
// the final zero included.
const maxSocketPath = 103

// Find looks for the directory in dir and its parents. It answers with
// fs.ErrNotExist when there is none.
func Find(dir string) (string, error) {
	dir, err := filepath.Abs(dir)
	if err != nil {
		return "", err
	}
	for d := dir; ; d = filepath.Dir(d) {
		path := filepath.Join(d, DirName)
		if st, err := os.Stat(path); err == nil && st.IsDir() {
			return path, nil
		}
		if filepath.Dir(d) == d {
			return "", fmt.Errorf("no %s in %s or above: %w", DirName, dir, fs.ErrNotExist)
		}
	}
}

// endpoint is what endpoint.json says.
type endpoint struct {
	Addr    string `json:"addr"`
	Token   string `json:"token"`
	PID     int    `json:"pid"`
	Version string `json:"version"`
	// Worker says that the owner runs tasks.
	Worker bool `json:"worker"`
}

// directory is the .volley directory.
type directory string

func (d directory) path(name string) string { return filepath.Join(string(d), name) }

// prepare makes the directory. Its content is the user's alone: output of
// tasks may hold what others should not read.
func (d directory) prepare() error {
	if err := os.MkdirAll(string(d), 0o700); err != nil {
		return fmt.Errorf("state directory: %w", err)
	}
	if err := d.writable(); err != nil {
		return err
	}
	// Nobody wants the state in a repository.
	f, err := os.OpenFile(d.path(".gitignore"), os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if errors.Is(err, fs.ErrExist) {
		return nil
	}
	if err == nil {
		_, err = f.WriteString("*\n")
		err = errors.Join(err, f.Close())
	}
	if err != nil {
		return fmt.Errorf("state directory: %w", err)
	}
	return nil
}

// writable says in words that the directory cannot be written, which the first
// file that is tried would say in its own. Even a question needs it: to open
// the journal is to elect a leader, which is a record in it. A process that has
// the directory may answer all the same.
func (d directory) writable() error {
	if !readOnly(func(mode uint32) error { return syscall.Access(string(d), mode) }) {
		return nil
	}
	lock := flock.New(d.path("lock"), flock.SetFlag(os.O_RDONLY))
	defer func() { _ = lock.Close() }() // nothing was written
	if free, err := lock.TryLock(); err == nil && !free {
		return nil
	}
	return &client.Error{Kind: client.Invalid, Err: ErrReadOnly, Msg: fmt.Sprintf(
		"%s is read-only: volley needs to write there even to read; copy it to a writable place and name the copy with --dir", d)}
}

// readOnly reads the answers of access(2). The directory of another user, which
// cannot be listed either, is not meant: no copy would help.
func readOnly(access func(mode uint32) error) bool {
	const write, list = 2, 4 | 1
	err := access(write)
	return errors.Is(err, syscall.EROFS) || errors.Is(err, fs.ErrPermission) && access(list) == nil
}

func (d directory) readEndpoint() (*endpoint, error) {
	b, err := credential.ReadFile(d.path("endpoint.json"), 64<<10)
	if err != nil {
		return nil, err
	}
	e := &endpoint{}
	if err := json.Unmarshal(b, e); err != nil {
		return nil, fmt.Errorf("%s: %w", d.path("endpoint.json"), err)
	}
	return e, nil
}

func (d directory) writeEndpoint(e *endpoint) error {
	b, err := json.Marshal(e)
	if err == nil {
		err = credential.WriteFile(d.path("endpoint.json"), append(b, '\n'))
	}
	if err != nil {
		return fmt.Errorf("state directory: %w", err)
	}
	return nil
}
