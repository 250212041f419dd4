// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

const slurmDurable = "the queue, in state files that the controller writes in the background every few seconds; the batch scripts"

// slurm are Slurm's contestants: its batch path, the same with more tasks at
// once than there are CPUs, and its direct launcher.
func slurm() []contestant {
	batch := "`sbatch --array`, `sched/builtin`, `proctrack/linuxproc`, no accounting, a file of output per task"
	return []contestant{
		newSlurm(contestant{
			Name: "Slurm", Settings: batch, Durable: slurmDurable, tasks: map[row]int{rowProcess: 20, rowStart: 17},
		}, func(a *arena) int { return a.slots }, false),
		// Its rate is one task per slot and second, so it gets its best case
		// too: the CPUs are said to be 64.
		newSlurm(contestant{
			Name: "Slurm, 64 slots", Settings: "the same, with 64 tasks at once on the same CPUs", Durable: slurmDurable, tasks: map[row]int{rowProcess: 200},
		}, func(*arena) int { return 64 }, false),
		newSlurm(contestant{
			Name: "Slurm srun", Settings: "`srun`, the direct launcher: no queue", Durable: slurmDurable, tasks: map[row]int{rowStart: 20},
		}, func(a *arena) int { return a.slots }, true),
	}
}

func newSlurm(c contestant, slots func(*arena) int, direct bool) contestant {
	c.find = func(ctx context.Context, a *arena) (string, error) {
		for _, name := range []string{"slurmctld", "slurmd", "sbatch", "srun", "munged"} {
			if _, err := exec.LookPath(name); err != nil {
				return "", err
			}
		}
		if !sandboxed() || os.Getuid() != 0 || !realRoot() {
			return "", errors.New("its daemons need root")
		}
		out, _, err := a.timed(ctx, nil, "slurmctld", "-V")
		return firstLine(out), err
	}
	c.open = func(ctx context.Context, a *arena) (instance, error) { return openSlurm(ctx, a, slots(a), direct) }
	return c
}

type slurmCluster struct {
	a                   *arena
	direct              bool
	munge, ctld, daemon *daemon
}

// slurmConfig: what is not at its default takes work off Slurm, or lets it run
// as one host without a data base.
const slurmConfig = `ClusterName=bench
SlurmctldHost=%[2]s
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=socket=%[1]s/munge/socket
CredType=cred/munge
StateSaveLocation=%[1]s/state
SlurmdSpoolDir=%[1]s/spool
SlurmctldPidFile=%[1]s/slurmctld.pid
SlurmdPidFile=%[1]s/slurmd.pid
SlurmctldLogFile=%[1]s/slurmctld.log
SlurmdLogFile=%[1]s/slurmd.log
SlurmctldDebug=error
SlurmdDebug=error
MailProg=/bin/true
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SchedulerType=sched/builtin
SchedulerParameters=batch_sched_delay=0,default_queue_depth=10000
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
AccountingStorageType=accounting_storage/none
JobAcctGatherType=jobacct_gather/none
JobCompType=jobcomp/none
SwitchType=switch/none
MpiDefault=none
MaxArraySize=1000001
MaxJobCount=1000000
ReturnToService=2
SlurmdParameters=config_overrides
NodeName=%[2]s NodeAddr=127.0.0.1 CPUs=%[3]d State=UNKNOWN
PartitionName=main Nodes=ALL Default=YES MaxTime=INFINITE State=UP
`

func openSlurm(ctx context.Context, a *arena, slots int, direct bool) (_ instance, err error) {
	host, err := os.Hostname()
	if err != nil {
		return nil, err
	}
	for _, dir := range []string{"state", "spool", "out", "munge"} {
		if err := os.Mkdir(filepath.Join(a.dir, dir), 0o755); err != nil {
			return nil, err
		}
	}
	key := make([]byte, 64)
	_, _ = rand.Read(key) // it cannot fail
	munge := filepath.Join(a.dir, "munge")
	if err := os.WriteFile(filepath.Join(munge, "key"), key, 0o400); err != nil {
		return nil, err
	}
	if err := os.WriteFile(filepath.Join(a.dir, "slurm.conf"), fmt.Appendf(nil, slurmConfig, a.dir, host, slots), 0o644); err != nil { // no secret in it
		return nil, err
	}
	s := &slurmCluster{a: a, direct: direct}
	defer func() {
		if err != nil {
			err = errors.Join(err, s.close())
		}
	}()
	if s.munge, err = a.start(ctx, "munged", "-F", "--key-file", munge+"/key", "--socket", munge+"/socket",
		"--pid-file", munge+"/pid", "--log-file", munge+"/log", "--seed-file", munge+"/seed"); err != nil {
		return nil, err
	}
	if err := a.ready(ctx, "munged", func(context.Context) error {
		_, err := os.Stat(munge + "/socket")
		return err
	}, s.munge); err != nil {
		return nil, err
	}
	if s.ctld, err = a.start(ctx, "slurmctld", "-D"); err != nil {
		return nil, err
	}
	if s.daemon, err = a.start(ctx, "slurmd", "-D"); err != nil {
		return nil, err
	}
	return s, a.ready(ctx, "slurm", func(ctx context.Context) error {
		out, _, err := a.timed(ctx, nil, "sinfo", "-h", "-o", "%T")
		if state := strings.TrimSpace(out); err == nil && state != "idle" {
			err = fmt.Errorf("the node is %q", state)
		}
		return err
	}, s.munge, s.ctld, s.daemon)
}

func (s *slurmCluster) run(ctx context.Context, r row, n int) (sample, error) {
	if r == rowStart {
		return s.start(ctx, n)
	}
	begin := time.Now()
	out, _, err := s.a.timed(ctx, nil, "sbatch", "--parsable", "--array=1-"+strconv.Itoa(n), "--output="+s.a.dir+"/out/%a", "--wrap", "exec /bin/true")
	if err != nil {
		return sample{}, err
	}
	id := strings.TrimSpace(out)
	// sbatch --wait looks every few seconds only.
	if err := s.gone(ctx, id, 200*time.Millisecond); err != nil {
		return sample{}, err
	}
	took := sample{seconds: time.Since(begin).Seconds()}
	// Without accounting the controller remembers states for five minutes.
	out, _, err = s.a.timed(ctx, nil, "scontrol", "show", "job", "-o", id)
	if err != nil {
		return sample{}, err
	}
	if done := strings.Count(out, "JobState=COMPLETED"); done != n {
		return sample{}, fmt.Errorf("slurm reports %d tasks of %d as completed", done, n)
	}
	return took, nil
}

// gone waits until a job is no longer in the queue.
func (s *slurmCluster) gone(ctx context.Context, id string, every time.Duration) error {
	tick := time.NewTicker(every)
	defer tick.Stop()
	for {
		out, _, err := s.a.timed(ctx, nil, "squeue", "-h", "-o", "%i", "-j", id)
		if err != nil {
			return err
		}
		if strings.TrimSpace(out) == "" {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("wait for job %s: %w", id, ctx.Err())
		case <-tick.C:
		}
	}
}

func (s *slurmCluster) start(ctx context.Context, n int) (sample, error) {
	p, err := s.a.starts()
	if err != nil {
		return sample{}, err
	}
	defer p.close()
	if s.direct {
		return p.launch(ctx, n, func(ctx context.Context) *exec.Cmd { return s.a.command(ctx, "srun", "/bin/sh", "-c", p.script()) })
	}
	var id string
	return p.measure(ctx, n, func(ctx context.Context) error {
		out, _, err := s.a.timed(ctx, nil, "sbatch", "--parsable", "--output=/dev/null", "--wrap", p.script())
		id = strings.TrimSpace(out)
		return err
	}, func(ctx context.Context) error { return s.gone(ctx, id, 20*time.Millisecond) })
}

func (s *slurmCluster) close() error {
	return errors.Join(s.daemon.stop(syscall.SIGTERM), s.ctld.stop(syscall.SIGTERM), s.munge.stop(syscall.SIGTERM))
}
