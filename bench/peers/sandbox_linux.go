// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// hostName is what the machine is called inside: no result can leak the real
// name.
const hostName = "bench"

// sandbox runs this program again, with the arguments, as the first process of
// namespaces of its own, and returns its exit status. It blocks until all
// processes in there have ended. A signal that ends ctx is passed on.
func sandbox(ctx context.Context, dir string, args ...string) error {
	self, err := os.Executable()
	if err != nil {
		return err
	}
	cmd := exec.Command(self, args...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = nil, os.Stdout, os.Stderr
	cmd.Env = append(os.Environ(), sandboxEnv+"="+dir)
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags: syscall.CLONE_NEWNS | syscall.CLONE_NEWPID | syscall.CLONE_NEWNET | syscall.CLONE_NEWUTS | syscall.CLONE_NEWIPC,
		// Whoever kills this process kills all of it.
		Pdeathsig: syscall.SIGKILL,
		// A Ctrl-C reaches this process only, which passes it on once.
		Setpgid: true,
	}
	if os.Getuid() != 0 {
		cmd.SysProcAttr.Cloneflags |= syscall.CLONE_NEWUSER
		cmd.SysProcAttr.UidMappings = []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getuid(), Size: 1}}
		cmd.SysProcAttr.GidMappings = []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getgid(), Size: 1}}
		cmd.Env = append(cmd.Env, userNamespaceEnv+"=1")
	}
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("make namespaces (this needs root, or a kernel that gives them to users): %w", err)
	}
	stop := context.AfterFunc(ctx, func() { _ = cmd.Process.Signal(syscall.SIGTERM) })
	defer stop()
	if err := cmd.Wait(); err != nil {
		return errors.Join(ctx.Err(), fmt.Errorf("the run: %w", err))
	}
	return nil
}

// enterSandbox finishes the sandbox from within and returns the directory for
// data, by a short path: names of sockets have 107 bytes.
func enterSandbox() (string, error) {
	dir := os.Getenv(sandboxEnv)
	if err := errors.Join(os.Unsetenv(sandboxEnv), unix.Sethostname([]byte(hostName))); err != nil {
		return "", fmt.Errorf("set the host name: %w", err)
	}
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return "", fmt.Errorf("make mounts private: %w", err)
	}
	if err := unix.Mount("proc", "/proc", "proc", unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOEXEC, ""); err != nil {
		return "", fmt.Errorf("mount /proc: %w", err)
	}
	wd, err := os.Getwd()
	if err != nil {
		return "", err
	}
	short := "/mnt"
	if strings.HasPrefix(wd+"/", "/mnt/") {
		short = "/srv"
	}
	hosts := filepath.Join(dir, "hosts")
	if err := os.WriteFile(hosts, []byte("127.0.0.1 localhost "+hostName+"\n"), 0o644); err != nil { // everybody reads it
		return "", err
	}
	if err := unix.Mount(hosts, "/etc/hosts", "", unix.MS_BIND, ""); err != nil {
		return "", fmt.Errorf("mount /etc/hosts: %w", err)
	}
	if err := unix.Mount(dir, short, "", unix.MS_BIND, ""); err != nil {
		return "", fmt.Errorf("mount %s: %w", short, err)
	}
	return short, loopbackUp()
}

// loopbackUp gives the interface a second address: with 127.0.0.1 alone,
// getaddrinfo takes the machine for one without IPv4 (AI_ADDRCONFIG), and Slurm
// resolves nothing.
func loopbackUp() (err error) {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("set up loopback: %w", err)
	}
	defer func() { _ = unix.Close(fd) }() // nothing was written
	for _, i := range []struct {
		name string
		addr []byte
	}{{"lo", []byte{127, 0, 0, 1}}, {"lo:1", []byte{127, 0, 0, 2}}} {
		r, err := unix.NewIfreq(i.name)
		if err != nil {
			return err
		}
		if i.name != "lo" {
			if err := r.SetInet4Addr(i.addr); err != nil {
				return err
			}
			if err := unix.IoctlIfreq(fd, unix.SIOCSIFADDR, r); err != nil {
				return fmt.Errorf("set up loopback: %w", err)
			}
			continue
		}
		r.SetUint16(unix.IFF_UP | unix.IFF_RUNNING)
		if err := unix.IoctlIfreq(fd, unix.SIOCSIFFLAGS, r); err != nil {
			return fmt.Errorf("set up loopback: %w", err)
		}
	}
	return nil
}

// killAll ends every other process of the sandbox and waits for them.
func killAll() error {
	if !sandboxed() {
		return nil
	}
	for begin := time.Now(); time.Since(begin) < 10*time.Second; {
		// ESRCH: there is none.
		if err := unix.Kill(-1, unix.SIGKILL); errors.Is(err, unix.ESRCH) {
			return nil
		}
		var status unix.WaitStatus
		if _, err := unix.Wait4(-1, &status, 0, nil); errors.Is(err, unix.ECHILD) {
			return nil
		}
	}
	return errors.New("processes of the contestant do not end, though killed")
}

// group is a control group for the CPU time of a contestant with all that it
// starts.
type group struct {
	dir  string // empty: there is none
	home string // of this process
	v2   bool
}

// newGroup makes a control group below that of this process and moves this
// process into it: what it starts from now on is born there. Moving each child
// instead would miss the time until it is moved.
func newGroup(name string) (*group, error) {
	own, err := os.ReadFile("/proc/self/cgroup")
	if err != nil {
		return nil, err
	}
	root, path, v2, err := cgroupOf(string(own))
	if err != nil {
		return nil, err
	}
	g := &group{home: filepath.Join(root, path), v2: v2}
	dir := filepath.Join(g.home, name)
	if err := os.Mkdir(dir, 0o755); err != nil {
		return nil, fmt.Errorf("make a control group: %w", err)
	}
	if err := os.WriteFile(filepath.Join(dir, "cgroup.procs"), []byte(strconv.Itoa(os.Getpid())), 0o600); err != nil {
		return nil, errors.Join(fmt.Errorf("enter the control group: %w", err), os.Remove(dir))
	}
	g.dir = dir
	return g, nil
}

// leave moves this process back and removes the group, which must be empty.
func (g *group) leave() error {
	if err := os.WriteFile(filepath.Join(g.home, "cgroup.procs"), []byte(strconv.Itoa(os.Getpid())), 0o600); err != nil {
		return fmt.Errorf("leave the control group: %w", err)
	}
	if err := os.Remove(g.dir); err != nil {
		return fmt.Errorf("remove the control group: %w", err)
	}
	return nil
}

// cpu is the CPU time of the group without that of this process.
func (g *group) cpu() (time.Duration, error) {
	total, err := readGroupCPU(g.dir, g.v2)
	if err != nil {
		return 0, err
	}
	var own unix.Rusage
	if err := unix.Getrusage(unix.RUSAGE_SELF, &own); err != nil {
		return 0, err
	}
	return total - time.Duration(own.Utime.Nano()) - time.Duration(own.Stime.Nano()), nil
}

func stopSignals() (context.Context, context.CancelFunc) {
	return signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM, syscall.SIGHUP)
}
