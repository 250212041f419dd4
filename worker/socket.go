// SPDX-License-Identifier: Apache-2.0

package worker

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"syscall"
	"time"
)

const (
	// maxSocketPath is what fits into a socket address on every system, the
	// end marker included.
	maxSocketPath = 103
	// maxTaskConns bounds the connections of one task at a time.
	maxTaskConns = 16
	// drainTimeout bounds how long the end of a task waits for what it has
	// written: its processes are dead, so the data ends unless one escaped.
	drainTimeout = time.Second
)

// socketDir is where the sockets of the slots lie.
type socketDir struct {
	dir  string
	own  bool // a temporary directory of ours
	mu   sync.Mutex
	next int
}

// openSocketDir takes the wanted directory, or the default one unless its path
// is too long for a socket.
func openSocketDir(want, fallback string) (*socketDir, error) {
	d := &socketDir{dir: want}
	if d.dir == "" {
		d.dir = fallback
	}
	if len(d.dir)+len("/0000.sock") > maxSocketPath {
		if want != "" {
			return nil, fmt.Errorf("worker: socket directory %q: the path is too long for a unix socket (%d bytes); name a shorter one", want, len(want))
		}
		dir, err := os.MkdirTemp("", "volley-")
		if err != nil {
			return nil, fmt.Errorf("worker: socket directory: %w", err)
		}
		d.dir, d.own = dir, true
	}
	if err := os.MkdirAll(d.dir, 0o700); err != nil {
		return nil, fmt.Errorf("worker: socket directory: %w", err)
	}
	return d, nil
}

func (d *socketDir) close() error {
	if d.own {
		return os.RemoveAll(d.dir)
	}
	return nil
}

// taskSocket is the socket of one slot, for as long as the agent lives. The
// task that the slot runs is whoever connects: no token is needed, and a task
// that does not use it costs one accept that finds nothing.
type taskSocket struct {
	variable string // VOLLEY_SOCKET=…
	path     string
	listener *os.File
	raw      syscall.RawConn
	loop     sync.WaitGroup

	mu     sync.Mutex
	open   bool // a task runs
	report report
	conns  map[net.Conn]struct{}
	idle   *sync.Cond // a connection has ended
}

func (d *socketDir) listen() (*taskSocket, error) {
	d.mu.Lock()
	n := d.next
	d.next++
	d.mu.Unlock()
	path := filepath.Join(d.dir, strconv.Itoa(n)+".sock")
	// Of an earlier process: the data directory is ours alone.
	if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, fmt.Errorf("worker: task socket: %w", err)
	}
	l, err := listenUnix(path)
	if err != nil {
		return nil, fmt.Errorf("worker: task socket %s: %w", path, err)
	}
	raw, err := l.SyscallConn()
	if err != nil {
		return nil, errors.Join(fmt.Errorf("worker: task socket: %w", err), l.Close())
	}
	s := &taskSocket{variable: "VOLLEY_SOCKET=" + path, path: path, listener: l, raw: raw, conns: make(map[net.Conn]struct{})}
	s.idle = sync.NewCond(&s.mu)
	s.loop.Go(s.accept)
	return s, nil
}

// accept serves until the listener is closed.
func (s *taskSocket) accept() {
	// The callback runs whenever the socket may be readable; it waits in the
	// runtime's poller between.
	_ = s.raw.Read(func(fd uintptr) bool {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.take(int(fd))
		return false
	})
}

// take accepts all connections that wait. Both the accepting goroutine and the
// end of a task do it, under mu: so when end finds none waiting and none
// open, nothing that the task has written is left unseen.
func (s *taskSocket) take(fd int) {
	for {
		nfd, err := acceptCloexec(fd)
		if errors.Is(err, syscall.EINTR) || errors.Is(err, syscall.ECONNABORTED) {
			continue
		}
		if err != nil {
			return
		}
		f := os.NewFile(uintptr(nfd), s.path)
		conn, err := net.FileConn(f)
		_ = f.Close() // FileConn has its own copy
		if err != nil {
			continue
		}
		if !s.open || len(s.conns) >= maxTaskConns {
			_ = conn.Close() // no task, or too many: nothing to say to it
			continue
		}
		s.conns[conn] = struct{}{}
		s.loop.Go(func() { s.serve(conn) })
	}
}

// serve reads lines and answers the bad ones.
func (s *taskSocket) serve(conn net.Conn) {
	in := bufio.NewScanner(conn)
	in.Buffer(make([]byte, 0, 1024), maxResults+1)
	for in.Scan() {
		line := bytes.TrimSpace(in.Bytes())
		if len(line) == 0 {
			continue
		}
		s.mu.Lock()
		err := errors.New("the task has ended")
		if _, ours := s.conns[conn]; ours {
			err = s.report.mergeLine(line)
		}
		s.mu.Unlock()
		if err != nil && !answer(conn, err) {
			break
		}
	}
	if errors.Is(in.Err(), bufio.ErrTooLong) {
		answer(conn, errTooLarge)
	}
	s.mu.Lock()
	delete(s.conns, conn)
	s.idle.Broadcast()
	s.mu.Unlock()
	_ = conn.Close() // the peer has gone, or is to go
}

// answer writes an error line. A task that does not read its answers must not
// hold up what it writes: after a while it is cut off.
func answer(conn net.Conn, err error) bool {
	line, merr := json.Marshal(map[string]string{"error": err.Error()})
	if merr != nil {
		return false
	}
	if conn.SetWriteDeadline(time.Now().Add(time.Second)) != nil {
		return false
	}
	_, werr := conn.Write(append(line, '\n'))
	return werr == nil
}

// begin opens the socket to the next task.
func (s *taskSocket) begin() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.open = true
	s.report = report{}
}

// end takes what the task has reported, once its processes have ended: all
// that it wrote before is in it. It blocks as long as an escaped process keeps
// a connection, at most drainTimeout.
func (s *taskSocket) end(r *report) {
	s.mu.Lock()
	defer s.mu.Unlock()
	// Fails only when the listener is closed.
	_ = s.raw.Control(func(fd uintptr) { s.take(int(fd)) })
	s.open = false
	if len(s.conns) > 0 {
		timer := time.AfterFunc(drainTimeout, func() {
			s.mu.Lock()
			defer s.mu.Unlock()
			for c := range s.conns {
				_ = c.Close() // wakes its reader
				delete(s.conns, c)
			}
			s.idle.Broadcast()
		})
		for len(s.conns) > 0 {
			s.idle.Wait()
		}
		timer.Stop()
	}
	*r = s.report
	s.report = report{}
}

func (s *taskSocket) close() {
	s.mu.Lock()
	for c := range s.conns {
		_ = c.Close() // wakes its reader
	}
	s.mu.Unlock()
	// Both fail only when the data directory has gone.
	_ = s.listener.Close()
	_ = os.Remove(s.path)
	s.loop.Wait()
}

// listenUnix listens as net.ListenUnix does, on a file whose readiness can be
// waited for without accepting: net's listeners refuse that.
func listenUnix(path string) (*os.File, error) {
	syscall.ForkLock.RLock()
	fd, err := syscall.Socket(syscall.AF_UNIX, syscall.SOCK_STREAM, 0)
	if err == nil {
		syscall.CloseOnExec(fd)
	}
	syscall.ForkLock.RUnlock()
	if err != nil {
		return nil, os.NewSyscallError("socket", err)
	}
	if err = syscall.SetNonblock(fd, true); err == nil {
		err = os.NewSyscallError("bind", syscall.Bind(fd, &syscall.SockaddrUnix{Name: path}))
	}
	if err == nil {
		err = os.NewSyscallError("listen", syscall.Listen(fd, maxTaskConns))
	}
	if err != nil {
		return nil, errors.Join(err, syscall.Close(fd))
	}
	return os.NewFile(uintptr(fd), path), nil
}
