// SPDX-License-Identifier: Apache-2.0

package runner

import (
	"bytes"
	"strconv"
	"sync/atomic"
	"syscall"
)

// sampleMemory: a zombie has no memory any more, so the peaks that peakMemory
// cannot tell are looked at while the task runs.
const sampleMemory = true

// ownPeak is this process's peak memory in KiB when it was last looked up. It
// only grows.
var ownPeak atomic.Int64

// peakMemory is 0 when the child's peak is not above this process's own: by
// vfork they share the memory until exec, and the kernel then counts ours as
// the child's.
func peakMemory(ru *syscall.Rusage) int64 {
	if ru.Maxrss <= ownPeak.Load() {
		return 0
	}
	var self syscall.Rusage
	if syscall.Getrusage(syscall.RUSAGE_SELF, &self) == nil {
		ownPeak.Store(self.Maxrss)
		if ru.Maxrss <= self.Maxrss {
			return 0
		}
	}
	return ru.Maxrss << 10
}

// maxLook bounds the processes of a task that one look visits.
const maxLook = 64

// treePeak is the largest peak memory, in bytes, among the process and its
// descendants: what rusage would say. Children of other threads than the first
// are not seen.
func treePeak(pid int) int64 {
	var buf [4096]byte
	most := int64(0)
	queue := []int{pid}
	for n := 0; n < len(queue) && n < maxLook; n++ {
		dir := "/proc/" + strconv.Itoa(queue[n])
		most = max(most, highWater(readProc(dir+"/status", buf[:])))
		for word := range bytes.FieldsSeq(readProc(dir+"/task/"+strconv.Itoa(queue[n])+"/children", buf[:])) {
			if child, err := strconv.Atoi(string(word)); err == nil {
				queue = append(queue, child)
			}
		}
	}
	return most
}

// highWater finds "VmHWM:     1234 kB".
func highWater(status []byte) int64 {
	_, rest, ok := bytes.Cut(status, []byte("\nVmHWM:"))
	if !ok {
		return 0 // a zombie, or gone
	}
	line, _, _ := bytes.Cut(rest, []byte("\n"))
	kib, err := strconv.ParseInt(string(bytes.TrimSuffix(bytes.TrimSpace(line), []byte(" kB"))), 10, 64)
	if err != nil || kib < 0 {
		return 0
	}
	return kib << 10
}

// readProc is os.ReadFile of what fits into buf.
func readProc(path string, buf []byte) []byte {
	fd, err := syscall.Open(path, syscall.O_RDONLY|syscall.O_CLOEXEC, 0)
	if err != nil {
		return nil
	}
	n, err := syscall.Read(fd, buf)
	_ = syscall.Close(fd) // only read
	if err != nil {
		return nil
	}
	return buf[:n]
}
