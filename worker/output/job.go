// SPDX-License-Identifier: Apache-2.0

package output

import (
	"cmp"
	"slices"
)

// entry is where an attempt's output lies: 32 bytes, one slice per job.
type entry struct {
	index   uint64
	attempt uint32
	segment uint32
	off     [2]uint32
	length  [2]uint32
}

func (e *entry) compare(o *entry) int {
	if c := cmp.Compare(e.index, o.index); c != 0 {
		return c
	}
	return cmp.Compare(e.attempt, o.attempt)
}

// maxTail bounds what a lookup searches one by one.
const maxTail = 1024

// job is what is known of one job's attempts.
type job struct {
	// entries[:sorted] is ascending by index and attempt, the rest is in the
	// order of ending. Lookups sort, not End: jobs that nobody reads cost
	// nothing.
	entries []entry
	sorted  int
	// silent attempts by attempt number.
	silent map[uint32]*runs
}

func (j *job) add(e entry) {
	if n := len(j.entries); n == j.sorted && (n == 0 || j.entries[n-1].compare(&e) <= 0) {
		j.sorted++
	}
	j.entries = append(j.entries, e)
}

func (j *job) addSilent(attempt uint32, first, count uint64) {
	if j.silent == nil {
		j.silent = make(map[uint32]*runs)
	}
	r := j.silent[attempt]
	if r == nil {
		r = &runs{}
		j.silent[attempt] = r
	}
	r.add(first, count)
}

// len is the number of index records that describe the job, about.
func (j *job) len() int {
	n := len(j.entries)
	for _, r := range j.silent {
		n += len(r.list)
	}
	return n
}

// find returns the attempt's output; of an attempt that ran twice (the worker
// gave it back unfinished and got it again) the last that wrote something. An
// execution that wrote nothing does not hide an earlier one.
func (j *job) find(index uint64, attempt uint32) (e entry, silent, ok bool) {
	if len(j.entries)-j.sorted > maxTail {
		j.sort()
	}
	for i := len(j.entries) - 1; i >= j.sorted; i-- {
		if e := &j.entries[i]; e.index == index && e.attempt == attempt {
			return *e, false, true
		}
	}
	key := entry{index: index, attempt: attempt}
	// The first that is greater; the one before it is the last equal one.
	at, _ := slices.BinarySearchFunc(j.entries[:j.sorted], key, func(a, k entry) int {
		if a.compare(&k) <= 0 {
			return -1
		}
		return 1
	})
	if at > 0 && j.entries[at-1].compare(&key) == 0 {
		return j.entries[at-1], false, true
	}
	if r := j.silent[attempt]; r != nil && r.has(index) {
		return entry{}, true, true
	}
	return entry{}, false, false
}

// sort merges the unsorted rest in, from behind: attempts end nearly in order, so
// it costs the length of the rest, not of the job.
func (j *job) sort() {
	rest := slices.Clone(j.entries[j.sorted:])
	// Stable, and equal ones of the rest go behind: the later counts.
	slices.SortStableFunc(rest, func(a, b entry) int { return a.compare(&b) })
	from, to := j.sorted-1, len(j.entries)-1
	for r := len(rest) - 1; r >= 0; to-- {
		if from >= 0 && j.entries[from].compare(&rest[r]) > 0 {
			j.entries[to] = j.entries[from]
			from--
			continue
		}
		j.entries[to] = rest[r]
		r--
	}
	j.sorted = len(j.entries)
}

// lastAttempt is the greatest attempt number known of an index.
func (j *job) lastAttempt(index uint64) (uint32, bool) {
	var last uint32
	var ok bool
	at, _ := slices.BinarySearchFunc(j.entries[:j.sorted], index, func(a entry, i uint64) int {
		if a.index <= i {
			return -1
		}
		return 1
	})
	if at > 0 && j.entries[at-1].index == index {
		last, ok = j.entries[at-1].attempt, true
	}
	for i := j.sorted; i < len(j.entries); i++ {
		if e := &j.entries[i]; e.index == index {
			last, ok = max(last, e.attempt), true
		}
	}
	for attempt, r := range j.silent {
		if r.has(index) {
			last, ok = max(last, attempt), true
		}
	}
	return last, ok
}

// run is [first, first+count).
type run struct{ first, count uint64 }

// runs is a set of indexes. Invariant: ascending, not empty, not touching.
type runs struct{ list []run }

// after is the position of the first run that begins behind index.
func (r *runs) after(index uint64) int {
	n := len(r.list)
	// Mostly the last.
	if n == 0 || r.list[n-1].first <= index {
		return n
	}
	at, _ := slices.BinarySearchFunc(r.list, index, func(a run, i uint64) int {
		if a.first <= i {
			return -1
		}
		return 1
	})
	return at
}

func (r *runs) has(index uint64) bool {
	at := r.after(index)
	return at > 0 && index-r.list[at-1].first < r.list[at-1].count
}

// add puts [first, first+count) in; the sum must not overflow.
func (r *runs) add(first, count uint64) {
	end := first + count
	from := r.after(first)
	if from > 0 && r.list[from-1].first+r.list[from-1].count >= first {
		from--
	}
	to := from
	for to < len(r.list) && r.list[to].first <= end {
		to++
	}
	if from == to {
		r.list = slices.Insert(r.list, from, run{first, count})
		return
	}
	first = min(first, r.list[from].first)
	end = max(end, r.list[to-1].first+r.list[to-1].count)
	r.list[from] = run{first, end - first}
	r.list = slices.Delete(r.list, from+1, to)
}
