// SPDX-License-Identifier: Apache-2.0

package sharding

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"

	volleyv1 "github.com/volley-batch/volley/proto/volley/v1"
)

func TestShardDigests(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	digests := func(content string, rows uint64) []byte {
		if err := os.WriteFile(filepath.Join(dir, "rows.txt"), []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		mp := &volleyv1.Map{Over: "rows.txt", Shard: &volleyv1.Shard{By: &volleyv1.Shard_Rows{Rows: rows}}}
		m, err := BuildManifest(t.Context(), dir, mp)
		if err != nil {
			t.Fatal(err)
		}
		s, err := Split(m, mp.GetShard())
		if err != nil {
			t.Fatal(err)
		}
		d, err := ShardDigests(t.Context(), m, dir, s)
		if err != nil {
			t.Fatal(err)
		}
		if uint64(len(d)) != s.Len()*DigestSize {
			t.Fatalf("%d bytes for %d shards", len(d), s.Len())
		}
		return d
	}
	before := digests("a\nb\nc\nd\n", 2)
	after := digests("a\nb\nc\nX\ne\n", 2)
	if !bytes.Equal(before[:DigestSize], after[:DigestSize]) {
		t.Error("the first shard has not changed, its digest has")
	}
	if bytes.Equal(before[DigestSize:], after[DigestSize:2*DigestSize]) {
		t.Error("the second shard has changed, its digest has not")
	}
	if same := digests("a\nb\nc\nd\n", 2); !bytes.Equal(before, same) {
		t.Error("the digests of the same content differ")
	}
}
