// SPDX-License-Identifier: Apache-2.0

package embedded

import (
	"context"
	"errors"
	"net"
	"os"
	"syscall"
	"testing"
	"time"

	"github.com/gofrs/flock"
)

func TestReadOnly(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		write, list error
		want        bool
	}{
		"writable":              {nil, nil, false},
		"read-only file system": {syscall.EROFS, nil, true},
		"mode 0500":             {syscall.EACCES, nil, true},
		"of another user":       {syscall.EACCES, syscall.EACCES, false},
		"gone":                  {syscall.ENOENT, syscall.ENOENT, false},
	} {
		got := readOnly(func(mode uint32) error {
			if mode&2 != 0 {
				return tt.write
			}
			return tt.list
		})
		if got != tt.want {
			t.Errorf("%s: %v", name, got)
		}
	}
}

// An owner that is stopped takes connections, as its kernel does, and answers
// nothing.
func TestWaiting(t *testing.T) {
	t.Parallel()
	d := directory(shortDir(t))
	if err := d.prepare(); err != nil {
		t.Fatal(err)
	}
	lock := flock.New(d.path("lock"))
	if ok, err := lock.TryLock(); err != nil || !ok {
		t.Fatal(ok, err)
	}
	defer lock.Close()
	l, err := new(net.ListenConfig).Listen(t.Context(), "unix", d.path("socket"))
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	if err := d.writeEndpoint(&endpoint{Addr: "unix:" + d.path("socket"), Token: "t", PID: 1234}); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	told := make(chan int, 1)
	in, err := Open(ctx, Config{Dir: string(d), silence: time.Millisecond, Waiting: func(pid int) {
		told <- pid
		cancel()
	}})
	if err == nil {
		t.Fatal(errors.Join(errors.New("it opened"), in.Close()))
	}
	select {
	case pid := <-told:
		if pid != 1234 {
			t.Errorf("process %d", pid)
		}
	default:
		t.Errorf("nothing was said before: %v", err)
	}
}

// What the file system lets this process write is not taken for read-only.
func TestWritable(t *testing.T) {
	t.Parallel()
	d := directory(shortDir(t))
	if err := d.prepare(); err != nil {
		t.Fatal(err)
	}
	if err := d.writable(); err != nil {
		t.Error(err)
	}
	if err := os.WriteFile(d.path("a"), nil, 0o600); err != nil {
		t.Error(err)
	}
}
