// SPDX-License-Identifier: Apache-2.0

package jobfile

import (
	"math"
	"strings"

	volleyv1 "github.com/volley-batch/volley/proto/volley/v1"
)

var mapFields = []field[*volleyv1.Map]{
	{
		key: "over", typ: "path or glob", def: "required",
		doc:     "The data set, relative to the job file: a file of records (.jsonl, .csv, .tsv, or lines of text) or a glob of files (`**` crosses directories).",
		example: "over: data/*.jpg",
		read: func(d *decoder, n *node, path string, m *volleyv1.Map) {
			s, ok := d.text(n, path)
			if !ok {
				return
			}
			if s == "" {
				d.err(n, path, "name a file or a glob such as data/*.jpg", "%s is empty", path)
			}
			if scheme, _, remote := strings.Cut(s, "://"); remote {
				d.err(n, path, "copy the data to a directory that the workers see, and name that", "%s: %s:// is not supported yet", path, clip(scheme, 20))
			}
			m.Over = s
		},
	},
	{
		key: "format", typ: "auto | lines | csv | jsonl | files", def: "auto",
		doc: "What a record is. auto decides by the name of the file. lines: parameter `line`. csv: the columns. jsonl: the top-level keys. files: parameters `path`, `file` and `stem`.", example: "format: lines",
		read: func(d *decoder, n *node, path string, m *volleyv1.Map) {
			m.Format, _ = oneOf(d, n, path, false, []string{"auto", "lines", "csv", "jsonl", "files"}, []volleyv1.MapFormat{
				volleyv1.MapFormat_MAP_FORMAT_UNSPECIFIED, volleyv1.MapFormat_MAP_FORMAT_LINES, volleyv1.MapFormat_MAP_FORMAT_CSV,
				volleyv1.MapFormat_MAP_FORMAT_JSONL, volleyv1.MapFormat_MAP_FORMAT_FILES,
			})
		},
	},
	{
		key: "shard", typ: "mapping", def: "one record", doc: "How many records one task gets: exactly one of the keys below. `{records}` is the file that holds them.", example: "shard: {rows: 256}",
		read: func(d *decoder, n *node, path string, m *volleyv1.Map) {
			s := &volleyv1.Shard{}
			if !readFields(d, n, path, shardFields, s) || d.unknown > 0 {
				return
			}
			switch len(n.entries) {
			case 0:
				d.err(n, path, "such as {rows: 256}", "%s is empty: give rows, bytes or target", path)
			case 1:
				m.Shard = s
			default:
				d.err(n.entries[1].key, join(path, n.entries[1].key.text), "keep one of them", "%s: %s and %s exclude each other", path, n.entries[0].key.text, n.entries[1].key.text)
			}
		},
	},
}

var shardFields = []field[*volleyv1.Shard]{
	{
		key: "rows", typ: "integer", doc: "So many records.", example: "rows: 256",
		read: func(d *decoder, n *node, path string, s *volleyv1.Shard) {
			v, _ := d.integer(n, path, 1, math.MaxInt64)
			s.By = &volleyv1.Shard_Rows{Rows: uint64(v)}
		},
	},
	{
		key: "bytes", typ: "size", doc: "Records until they reach this size.", example: "bytes: 64MiB",
		read: func(d *decoder, n *node, path string, s *volleyv1.Shard) {
			v, _ := d.size(n, path)
			s.By = &volleyv1.Shard_Bytes{Bytes: uint64(v)}
		},
	},
	{
		key: "target", typ: "duration", doc: "As many records as keep one process busy for so long, by what has been measured.", example: "target: 60s",
		read: func(d *decoder, n *node, path string, s *volleyv1.Shard) {
			v, _ := d.duration(n, path)
			s.By = &volleyv1.Shard_TargetMs{TargetMs: v}
		},
	},
}

func (d *decoder) mapOver(n *node, path string, s jobSpec) {
	m := &volleyv1.Map{}
	s.Space = &volleyv1.Space{Kind: &volleyv1.Space_Map{Map: m}}
	if readFields(d, n, path, mapFields, m) {
		require(d, n, path, mapFields, "over")
	}
}
