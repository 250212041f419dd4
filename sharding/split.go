// SPDX-License-Identifier: Apache-2.0

package sharding

import (
	"errors"
	"fmt"
	"math"
	"math/bits"
	"sort"
	"time"

	volleyv1 "github.com/volley-batch/volley/proto/volley/v1"
)

// maxCuts bounds the list of boundaries of shards by bytes to 2 MiB or so in
// the job's spec. Shards of so few records that the list would be longer are
// better made by rows.
const maxCuts = 1 << 20

// errCuts is what cutBuilder answers with beyond maxCuts.
var errCuts = fmt.Errorf("more than %d different shards", maxCuts)

// cutList is where shards by bytes begin, as runs of shards with the same
// number of records. The zero value is no list.
type cutList struct {
	bytes uint64 // the size that the shards were cut for
	// Run r is the shards [shard[r], shard[r+1]), from record rec[r] on. The
	// last element of both is the total.
	shard, rec []uint64
}

func (c *cutList) add(per, shards uint64) bool {
	if len(c.shard) == 0 {
		c.shard, c.rec = append(c.shard, 0), append(c.rec, 0)
	}
	hi, n := bits.Mul64(per, shards)
	last := len(c.shard) - 1
	rec, over := bits.Add64(c.rec[last], n, 0)
	if hi != 0 || over != 0 || rec > maxIndex || per == 0 || shards == 0 {
		return false
	}
	if last > 0 && c.per(last-1) == per {
		c.shard[last] += shards
		c.rec[last] = rec
		return true
	}
	c.shard, c.rec = append(c.shard, c.shard[last]+shards), append(c.rec, rec)
	return true
}

// per is the number of records in each shard of run r.
func (c *cutList) per(r int) uint64 {
	return (c.rec[r+1] - c.rec[r]) / (c.shard[r+1] - c.shard[r])
}

func (c *cutList) len() uint64 {
	if len(c.shard) == 0 {
		return 0
	}
	return c.shard[len(c.shard)-1]
}

// cutBuilder cuts a stream of records into shards by bytes.
type cutBuilder struct {
	cutList
	size, n uint64 // of the shard that is open
}

// add takes the size of the next record.
func (b *cutBuilder) add(size uint64) error {
	if b.bytes == 0 {
		return nil
	}
	b.n++
	if b.size += size; b.size < b.bytes {
		return nil
	}
	return b.finish()
}

// finish closes the open shard.
func (b *cutBuilder) finish() error {
	if b.n == 0 {
		return nil
	}
	b.cutList.add(b.n, 1) // one shard of at least one record is always valid
	b.size, b.n = 0, 0
	if len(b.shard) > maxCuts {
		return errCuts
	}
	return nil
}

// Shards says which records each index of a map gets. Shards are successive,
// none is empty, and together they are every record once. It is immutable.
type Shards struct {
	records uint64
	rows    uint64 // records per shard; 0: cuts
	cuts    *cutList
}

// Split says how the records of m are divided. Shards by bytes must be those
// that the manifest was built for: finding other boundaries needs the data.
// An unset shard is one record; so is a target duration, since the worker
// decides how many successive records one process gets (FuseCount).
func Split(m *Manifest, shard *volleyv1.Shard) (*Shards, error) {
	if err := checkShard(shard); err != nil {
		return nil, err
	}
	s := &Shards{records: m.records, rows: 1}
	switch by := shard.GetBy().(type) {
	case *volleyv1.Shard_Rows:
		s.rows = by.Rows
	case *volleyv1.Shard_Bytes:
		if m.cuts.bytes != by.Bytes {
			return nil, errAt("map.shard.bytes", fmt.Sprint(by.Bytes),
				"the manifest was made for shards of %d bytes; submit the job file again", m.cuts.bytes)
		}
		s.rows, s.cuts = 0, &m.cuts
	}
	return s, nil
}

// checkShard validates a shard without the data.
func checkShard(shard *volleyv1.Shard) error {
	switch by := shard.GetBy().(type) {
	case *volleyv1.Shard_Rows:
		if by.Rows == 0 || by.Rows > math.MaxInt64 {
			return errAt("map.shard.rows", fmt.Sprint(by.Rows), "a shard has at least one row and fewer than 2^63")
		}
	case *volleyv1.Shard_Bytes:
		if by.Bytes == 0 || by.Bytes > math.MaxInt64 {
			return errAt("map.shard.bytes", fmt.Sprint(by.Bytes), "a shard has at least one byte and fewer than 2^63")
		}
	case *volleyv1.Shard_TargetMs:
		if by.TargetMs <= 0 || by.TargetMs > math.MaxInt64/int64(time.Millisecond) {
			return errAt("map.shard.target", fmt.Sprint(by.TargetMs), "the target is a positive duration")
		}
	}
	return nil
}

// Len is the number of shards.
func (s *Shards) Len() uint64 {
	if s.rows == 0 {
		return s.cuts.len()
	}
	n := s.records / s.rows
	if s.records%s.rows != 0 {
		n++
	}
	return n
}

// At is the records of shard k: O(1), by bytes O(log) of the number of
// different shards. It is the empty Run when k is not below Len.
func (s *Shards) At(k uint64) Run {
	if k >= s.Len() {
		return Run{}
	}
	if s.rows > 0 {
		first := k * s.rows // k < Len: no overflow
		return Run{first, min(s.rows, s.records-first)}
	}
	r := sort.Search(len(s.cuts.shard), func(r int) bool { return s.cuts.shard[r] > k }) - 1
	per := s.cuts.per(r)
	return Run{s.cuts.rec[r] + (k-s.cuts.shard[r])*per, per}
}

// FuseCount is how many successive records the next process of a map with a
// target duration gets: as many as fit the target by the measured time per
// record (process start included, total time / records), but at most twice the
// last count, since one short sample would otherwise hand the rest of the data
// to one process. Shrinking is not damped: too long is the mistake to undo.
// last is 0 before the first process, perRecord 0 or less before the first
// measurement; the result is at least 1, and at most limit when that is not 0.
func FuseCount(target, perRecord time.Duration, last, limit uint64) uint64 {
	most := uint64(1)
	if last > 0 {
		most = min(last, math.MaxUint64/2) * 2
	}
	if limit > 0 {
		most = min(most, limit)
	}
	switch {
	case target <= 0:
		return 1
	case perRecord <= 0:
		// Nothing measured: as before. Growing blindly would be a guess that
		// nothing corrects until the process ends.
		return max(min(last, most), 1)
	}
	return max(min(uint64(target/perRecord), most), 1)
}

// shardError puts an error of the cutting in terms of the job file.
func shardError(err error, bytes uint64) error {
	if !errors.Is(err, errCuts) {
		return err
	}
	return errAt("map.shard.bytes", fmt.Sprint(bytes), "gives %v; make the shards larger, or use rows", err)
}
