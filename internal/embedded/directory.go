// SPDX-License-Identifier: Apache-2.0

package embedded

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/volley-batch/volley/internal/credential"
)

// DirName is what the directory is called.
const DirName = ".volley"

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
