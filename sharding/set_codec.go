// SPDX-License-Identifier: Apache-2.0

package sharding

import (
	"encoding/binary"
	"errors"
	"fmt"
)

// setVersion is the first byte of the binary form.
const setVersion = 1

// AppendPacked appends the runs as flat pairs (first, count), the form of the
// worker protocol.
func (s *Set) AppendPacked(dst []uint64) []uint64 {
	for r := range s.Ranges() {
		dst = append(dst, r.First, r.Count)
	}
	return dst
}

// AddPacked adds flat pairs (first, count), in any order. On an error s is
// unchanged.
func (s *Set) AddPacked(flat []uint64) error {
	if len(flat)%2 != 0 {
		return fmt.Errorf("packed runs: odd length %d", len(flat))
	}
	for i := 0; i < len(flat); i += 2 {
		first, count := flat[i], flat[i+1]
		if count == 0 {
			return fmt.Errorf("packed runs: run %d at index %d is empty", i/2, first)
		}
		if first >= maxIndex || count > maxIndex-first {
			return fmt.Errorf("packed runs: run %d (first %d, count %d) goes beyond index %d", i/2, first, count, maxIndex-1)
		}
	}
	for i := 0; i < len(flat); i += 2 {
		s.AddRange(flat[i], flat[i+1])
	}
	return nil
}

// ParsePacked makes a set of flat pairs (first, count).
func ParsePacked(flat []uint64) (*Set, error) {
	s := new(Set)
	if err := s.AddPacked(flat); err != nil {
		return nil, err
	}
	return s, nil
}

// AppendBinary appends the binary form: version, number of runs, and for each
// run the gap to the one before and the count, as varints. Equal sets have
// equal forms. The error is always nil.
func (s *Set) AppendBinary(dst []byte) ([]byte, error) {
	dst = append(dst, setVersion)
	dst = binary.AppendUvarint(dst, uint64(s.runs))
	end := uint64(0)
	for r := range s.Ranges() {
		dst = binary.AppendUvarint(dst, r.First-end)
		dst = binary.AppendUvarint(dst, r.Count)
		end = r.End()
	}
	return dst, nil
}

// MarshalBinary is AppendBinary into a new slice.
func (s *Set) MarshalBinary() ([]byte, error) { return s.AppendBinary(nil) }

var errSetForm = errors.New("index set: malformed")

// UnmarshalBinary replaces s by the set that data encodes. Memory is bounded by
// the length of data. On an error s is unchanged.
func (s *Set) UnmarshalBinary(data []byte) error {
	if len(data) == 0 {
		return fmt.Errorf("%w: no data", errSetForm)
	}
	if data[0] != setVersion {
		return fmt.Errorf("index set: version %d, this program reads %d", data[0], setVersion)
	}
	data = data[1:]
	take := func() (uint64, bool) {
		v, n := binary.Uvarint(data)
		if n <= 0 || n > 1 && data[n-1] == 0 { // short, too long, or padded: not canonical
			return 0, false
		}
		data = data[n:]
		return v, true
	}
	runs, ok := take()
	if !ok || runs > uint64(len(data)/2) {
		return fmt.Errorf("%w: number of runs", errSetForm)
	}
	var out Set
	end := uint64(0)
	for k := range runs {
		gap, ok1 := take()
		count, ok2 := take()
		if !ok1 || !ok2 || count == 0 || gap >= maxIndex-end || count > maxIndex-end-gap || k > 0 && gap == 0 {
			return fmt.Errorf("%w: run %d", errSetForm, k)
		}
		out.push(Run{end + gap, count})
		end += gap + count
	}
	if len(data) != 0 {
		return fmt.Errorf("%w: %d bytes after the last run", errSetForm, len(data))
	}
	*s = out
	return nil
}
