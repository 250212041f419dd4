// SPDX-License-Identifier: Apache-2.0

package journal

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"math"
	"os"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/hashicorp/raft"
	raftboltdb "github.com/hashicorp/raft-boltdb/v2"
	"go.etcd.io/bbolt"
)

const (
	logFile  = "raft.db"
	crcSize  = 4
	delChunk = 4096
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// store is raft's log and stable store: raft-boltdb with a checksum on every
// record and value, and with a stop where raft would panic.
//
// raft panics when a vote or a term cannot be written or a record cannot be read,
// in a goroutine of its own, which would take the process down with the tasks of
// an embedded run. So a broken store tells the journal (EventFailed) and ends the
// calling goroutine, with Goexit: its deferred clean-up runs, and nothing that
// rests on the lost write is done. Every call comes from raft or from the
// goroutine in which OpenRaft starts raft, never from the caller of the journal.
type store struct {
	bolt   *raftboltdb.BoltStore
	path   string
	failed func(error)
	// inject, in tests, may answer an error in place of an operation.
	inject func(op string) error
	syncs  atomic.Uint64
	// raft is set once it runs; it knows which records a snapshot stands for.
	raft atomic.Pointer[raft.Raft]
}

var (
	_ raft.LogStore    = (*store)(nil)
	_ raft.StableStore = (*store)(nil)
)

// openStore opens or creates the file, which must have been checked.
func openStore(dir string, failed func(error)) (*store, error) {
	s := &store{path: filepath.Join(dir, logFile), failed: failed}
	var file *os.File // bbolt loses the handle, and the lock on it, if it panics
	err := protect(func() (err error) {
		s.bolt, err = raftboltdb.New(raftboltdb.Options{
			Path: s.path,
			BoltOptions: &bbolt.Options{
				Timeout: time.Second, // of its own lock; ours is held already
				// The list of free pages is rebuilt at open, by the walk that
				// checkBolt has just made safe, instead of written with each batch.
				NoFreelistSync: true,
				FreelistType:   bbolt.FreelistMapType,
				// A new mapping waits for readers; with room from the start the first
				// remap comes after 64 MiB of log.
				InitialMmapSize: 64 << 20,
				OpenFile: func(name string, flag int, mode os.FileMode) (*os.File, error) {
					f, err := os.OpenFile(name, flag, mode)
					file = f
					return f, err
				},
			},
		})
		return err
	})
	if err != nil {
		if file != nil {
			_ = file.Close() // closed already unless bbolt panicked
		}
		return nil, &fileError{"open", s.path, err}
	}
	return s, nil
}

// protect turns a panic, or a fault in a mapped page, into an error.
func protect(f func() error) (err error) {
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("%w: %v", ErrCorrupt, p)
		}
	}()
	return f()
}

// do runs one operation on the file. Errors in benign are answered; any other
// ends the goroutine.
func (s *store) do(op string, f func() error, benign ...error) error {
	err := protect(func() error {
		if s.inject != nil {
			if err := s.inject(op); err != nil {
				return err
			}
		}
		return f()
	})
	if err == nil {
		return nil
	}
	for _, b := range benign {
		if errors.Is(err, b) {
			return b
		}
	}
	s.failed(&fileError{op, s.path, err})
	runtime.Goexit()
	return err // not reached
}

// fileError names the file once: what the system says of a file, and bbolt of
// what the system said, has its path too.
type fileError struct {
	op, path string
	err      error
}

func (e *fileError) Error() string {
	cause := strings.ReplaceAll(e.err.Error(), " "+e.path, "")
	return e.op + " " + e.path + ": " + strings.TrimPrefix(cause, e.op+": ")
}

func (e *fileError) Unwrap() error { return e.err }

func (s *store) FirstIndex() (i uint64, err error) {
	err = s.do("read", func() (err error) { i, err = s.bolt.FirstIndex(); return err })
	return i, err
}

func (s *store) LastIndex() (i uint64, err error) {
	err = s.do("read", func() (err error) { i, err = s.bolt.LastIndex(); return err })
	return i, err
}

// GetLog answers ErrLogNotFound only for what was not written yet or has a
// snapshot in its place: any other hole is damage.
func (s *store) GetLog(index uint64, log *raft.Log) error {
	return s.do("read", func() error {
		err := s.bolt.GetLog(index, log)
		if errors.Is(err, raft.ErrLogNotFound) {
			last, err2 := s.bolt.LastIndex()
			if err2 != nil {
				return err2
			}
			if index <= last && index > s.snapshotIndex() {
				return fmt.Errorf("%w: record %d is missing, the last is %d", ErrCorrupt, index, last)
			}
			return err
		}
		if err != nil {
			return fmt.Errorf("%w: record %d: %w", ErrCorrupt, index, err)
		}
		n := len(log.Extensions) - crcSize
		var head logHead
		if log.Index != index || n < 0 || binary.LittleEndian.Uint32(log.Extensions[n:]) != head.sum(log, log.Extensions[:n]) {
			return fmt.Errorf("%w: record %d: checksum does not match", ErrCorrupt, index)
		}
		log.Extensions = log.Extensions[:n:n]
		return nil
	}, raft.ErrLogNotFound)
}

// snapshotIndex is the index up to which records may be missing. While raft
// starts that is all: it asks only for what it needs then.
func (s *store) snapshotIndex() uint64 {
	r := s.raft.Load()
	if r == nil {
		return math.MaxUint64
	}
	n, err := strconv.ParseUint(r.Stats()["last_snapshot_index"], 10, 64)
	if err != nil {
		return 0
	}
	return n
}

func (s *store) StoreLog(log *raft.Log) error { return s.StoreLogs([]*raft.Log{log}) }

// StoreLogs returns after the fsync. It writes copies: raft shares its logs
// between goroutines, and an in-memory transport between nodes.
func (s *store) StoreLogs(logs []*raft.Log) error {
	copies, ptrs := make([]raft.Log, len(logs)), make([]*raft.Log, len(logs))
	size := 0
	for _, l := range logs {
		size += len(l.Extensions) + crcSize
	}
	exts := make([]byte, 0, size) // of all, one behind the other
	var head logHead              // escapes: one for all
	for i, l := range logs {
		copies[i], ptrs[i] = *l, &copies[i]
		start := len(exts)
		exts = append(exts, l.Extensions...)
		exts = binary.LittleEndian.AppendUint32(exts, head.sum(l, l.Extensions))
		copies[i].Extensions = exts[start:len(exts):len(exts)]
	}
	s.syncs.Add(1)
	return s.do("write", func() error { return s.bolt.StoreLogs(ptrs) })
}

// DeleteRange removes a compacted prefix in steps, so that appends need not wait
// for all of it. A suffix goes in one: half of it left behind, with a hole before
// it, would be damage.
func (s *store) DeleteRange(from, to uint64) error {
	return s.do("compact", func() error {
		last, err := s.bolt.LastIndex()
		if err != nil {
			return err
		}
		for to < last && to-from >= delChunk {
			s.syncs.Add(1)
			if err := s.bolt.DeleteRange(from, from+delChunk-1); err != nil {
				return err
			}
			from += delChunk
		}
		s.syncs.Add(1)
		return s.bolt.DeleteRange(from, to)
	})
}

func (s *store) Set(key, value []byte) error {
	b := make([]byte, len(value), len(value)+crcSize)
	copy(b, value)
	b = binary.LittleEndian.AppendUint32(b, valueSum(key, value))
	s.syncs.Add(1)
	return s.do("write", func() error { return s.bolt.Set(key, b) })
}

// Get answers ErrKeyNotFound itself for an absent key: raft compares its text.
func (s *store) Get(key []byte) (value []byte, err error) {
	err = s.do("read", func() error {
		b, err := s.bolt.Get(key)
		if err != nil {
			return err
		}
		n := len(b) - crcSize
		if n < 0 || binary.LittleEndian.Uint32(b[n:]) != valueSum(key, b[:n]) {
			return fmt.Errorf("%w: %s: checksum does not match", ErrCorrupt, key)
		}
		value = b[:n]
		return nil
	}, raftboltdb.ErrKeyNotFound)
	return value, err
}

func (s *store) SetUint64(key []byte, v uint64) error {
	return s.Set(key, binary.BigEndian.AppendUint64(nil, v))
}

func (s *store) GetUint64(key []byte) (uint64, error) {
	b, err := s.Get(key)
	if err != nil {
		return 0, err
	}
	if len(b) != 8 {
		return 0, fmt.Errorf("%w: %s: %d bytes long", ErrCorrupt, key, len(b))
	}
	return binary.BigEndian.Uint64(b), nil
}

func (s *store) Close() error {
	return protect(s.bolt.Close)
}

// logHead is scratch space for what a checksum covers beside the bytes.
type logHead [17]byte

func (b *logHead) sum(l *raft.Log, ext []byte) uint32 {
	binary.LittleEndian.PutUint64(b[:], l.Index)
	binary.LittleEndian.PutUint64(b[8:], l.Term)
	b[16] = byte(l.Type)
	sum := crc32.Update(0, castagnoli, b[:])
	sum = crc32.Update(sum, castagnoli, ext)
	return crc32.Update(sum, castagnoli, l.Data)
}

func valueSum(key, value []byte) uint32 {
	return crc32.Update(crc32.Checksum(key, castagnoli), castagnoli, value)
}
