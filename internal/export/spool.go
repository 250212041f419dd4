// SPDX-License-Identifier: Apache-2.0

package export

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"

	"google.golang.org/protobuf/encoding/protodelim"

	volleyv1 "github.com/volley-batch/volley/proto/volley/v1"
)

// spoolMemory is how much of a spool stays in memory.
const spoolMemory = 8 << 20

// spool keeps rows between the two passes.
type spool struct {
	// limit is spoolMemory, or less in tests.
	limit int
	mem   bytes.Buffer
	file  *os.File
	buf   *bufio.Writer
	rows  uint64
}

func (s *spool) add(c *volleyv1.Child) error {
	s.rows++
	if s.file == nil && s.mem.Len() >= s.limit {
		f, err := os.CreateTemp("", "volley-results-*")
		if err != nil {
			return fmt.Errorf("spool results: %w", err)
		}
		// Gone from the directory at once: nothing is left behind, whatever
		// ends the process.
		_ = os.Remove(f.Name())
		s.file, s.buf = f, bufio.NewWriterSize(f, 256<<10)
	}
	var w io.Writer = &s.mem
	if s.file != nil {
		w = s.buf
	}
	if _, err := protodelim.MarshalTo(w, c); err != nil {
		return fmt.Errorf("spool results: %w", err)
	}
	return nil
}

// each reads the rows back in order, once.
func (s *spool) each(do func(*volleyv1.Child) error) error {
	var r io.Reader = &s.mem
	if s.file != nil {
		if err := s.buf.Flush(); err != nil {
			return fmt.Errorf("spool results: %w", err)
		}
		if _, err := s.file.Seek(0, io.SeekStart); err != nil {
			return fmt.Errorf("spool results: %w", err)
		}
		r = io.MultiReader(&s.mem, s.file)
	}
	in := bufio.NewReaderSize(r, 256<<10)
	opts := protodelim.UnmarshalOptions{MaxSize: -1} // we wrote them
	for {
		c := &volleyv1.Child{}
		if err := opts.UnmarshalFrom(in, c); errors.Is(err, io.EOF) {
			return nil
		} else if err != nil {
			return fmt.Errorf("read spooled results: %w", err)
		}
		if err := do(c); err != nil {
			return err
		}
	}
}

func (s *spool) close() {
	if s.file != nil {
		_ = s.file.Close()
	}
}
