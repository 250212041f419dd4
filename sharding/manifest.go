// SPDX-License-Identifier: Apache-2.0

package sharding

import (
	"path/filepath"
	"sort"

	volleyv1 "github.com/volley-batch/volley/proto/volley/v1"
)

// maxPath bounds a path in a manifest.
const maxPath = 4096

// Manifest is the contents of a data set: which files, how many records, where
// they begin. It holds no data. It is immutable and safe for concurrent use.
//
// Files are known by size and modification time: a Reader refuses one that is
// not what it was when the manifest was built, since its offsets would be cut
// at arbitrary places.
type Manifest struct {
	format volleyv1.MapFormat // never UNSPECIFIED
	// CSV only: the delimiter and the header as it stands in the first file.
	comma  byte
	header []byte
	// Parameter names; see Params.
	params *names
	open   bool

	files []manifestFile
	// Record formats only: as long as files.
	data    []fileRecords
	index   offsetIndex
	records uint64
	cuts    cutList
}

// manifestFile is a file of the data set.
type manifestFile struct {
	// Relative to the job file's directory when below it, so that a data set
	// that moves with the job file keeps its identity; else absolute.
	path  string
	size  int64
	mtime int64 // Unix nanoseconds
}

// fileRecords is the records of one file.
type fileRecords struct {
	first, n uint64 // of the whole data set
	// Offset of the first record: after a byte order mark and a CSV header.
	start uint64
}

// Format is the format of the records.
func (m *Manifest) Format() volleyv1.MapFormat { return m.format }

// Records is the number of records in all files.
func (m *Manifest) Records() uint64 { return m.records }

// Files is the number of files.
func (m *Manifest) Files() int { return len(m.files) }

// Bytes is the size of all files.
func (m *Manifest) Bytes() uint64 {
	n := uint64(0)
	for i := range m.files {
		n += uint64(m.files[i].size)
	}
	return n
}

// Params are the names of the parameters that a record may have, in order. ok
// is false when they cannot be listed: JSON lines with more than 4096 different
// keys.
func (m *Manifest) Params() (list []string, ok bool) {
	if m.open {
		return nil, false
	}
	return append([]string(nil), m.params.list...), true
}

// hasData reports whether the records are inside of files.
func (m *Manifest) hasData() bool { return m.format != volleyv1.MapFormat_MAP_FORMAT_FILES }

// fileOf is the file that record i is in; i must be below Records.
func (m *Manifest) fileOf(i uint64) int {
	// The last file that begins at or before i; files without records begin
	// where the next one does, and come before it.
	return sort.Search(len(m.data), func(f int) bool { return m.data[f].first > i }) - 1
}

// resolve is the absolute path of file f.
func (m *Manifest) resolve(dir string, f int) string {
	if p := m.files[f].path; filepath.IsAbs(p) {
		return p
	}
	return filepath.Join(dir, m.files[f].path)
}

// paramsOf are the names that a format itself gives.
func paramsOf(format volleyv1.MapFormat) []string {
	switch format {
	case volleyv1.MapFormat_MAP_FORMAT_LINES:
		return []string{"line"}
	case volleyv1.MapFormat_MAP_FORMAT_FILES:
		return []string{"path", "file", "stem"}
	}
	return nil
}
