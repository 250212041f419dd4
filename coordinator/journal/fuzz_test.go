// SPDX-License-Identifier: Apache-2.0

package journal

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"hash/fnv"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.etcd.io/bbolt"
)

// boltFile returns a bbolt file of small pages with a tree of two levels, freed
// pages, a value over several pages and a bucket within a page.
func boltFile(t testing.TB, records int) []byte {
	t.Helper()
	name := filepath.Join(t.TempDir(), "bolt")
	db, err := bbolt.Open(name, 0o600, &bbolt.Options{PageSize: 1024, NoFreelistSync: true, FreelistType: bbolt.FreelistMapType, NoSync: true})
	if err != nil {
		t.Fatal(err)
	}
	for i := range records {
		if err := db.Update(func(tx *bbolt.Tx) error {
			logs, err := tx.CreateBucketIfNotExists([]byte("logs"))
			if err != nil {
				return err
			}
			conf, err := tx.CreateBucketIfNotExists([]byte("conf"))
			if err != nil {
				return err
			}
			if err := conf.Put([]byte("CurrentTerm"), []byte{byte(i)}); err != nil {
				return err
			}
			size := 40
			if i == records/2 {
				size = 3000
			}
			return logs.Put(binary.BigEndian.AppendUint64(nil, uint64(i)), make([]byte, size))
		}); err != nil {
			t.Fatal(err)
		}
	}
	var high uint64
	if err := db.View(func(tx *bbolt.Tx) error { high = uint64(tx.Size()) / 1024; return nil }); err != nil {
		t.Fatal(err)
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	return b[:high*1024]
}

func TestCheckBoltAccepts(t *testing.T) {
	t.Parallel()
	for _, n := range []int{0, 1, 2, 10, 50, 300} {
		b := boltFile(t, n)
		if err := checkBolt(bytes.NewReader(b), int64(len(b))); err != nil {
			t.Errorf("%d records: %v", n, err)
		}
	}
}

// FuzzCheckBolt holds checkBolt to its purpose: it does not panic, and what it
// accepts bbolt opens and reads without a panic, one in a goroutine included,
// which would end the fuzzer. Root pages get valid checksums again, since the
// interesting damage is behind them.
func FuzzCheckBolt(f *testing.F) {
	for _, n := range []int{0, 3, 60} {
		b := boltFile(f, n)
		f.Add(b, uint32(0), byte(0))
		f.Add(b, uint32(5*1024+10), byte(1))
		f.Add(b, uint32(1024+16+16), byte(3))
	}
	f.Fuzz(func(t *testing.T, b []byte, at uint32, x byte) {
		b = bytes.Clone(b)
		if len(b) > 0 {
			b[int(at)%len(b)] ^= x
		}
		for off := 0; off+80 <= len(b) && off <= 1024; off += 1024 {
			h := fnv.New64a()
			h.Write(b[off+16 : off+72])
			binary.LittleEndian.PutUint64(b[off+72:], h.Sum64())
		}
		if checkBolt(bytes.NewReader(b), int64(len(b))) != nil {
			return
		}
		name := filepath.Join(t.TempDir(), "bolt")
		if err := os.WriteFile(name, b, 0o600); err != nil {
			t.Fatal(err)
		}
		err := protect(func() error {
			db, err := bbolt.Open(name, 0o600, &bbolt.Options{Timeout: time.Second, NoFreelistSync: true, FreelistType: bbolt.FreelistMapType})
			if err != nil {
				return nil // refused, not crashed
			}
			defer db.Close()
			return db.View(func(tx *bbolt.Tx) error {
				return tx.ForEach(func(_ []byte, bucket *bbolt.Bucket) error {
					if bucket == nil { // a value at the root: raft-boltdb misses its buckets, and protect holds that
						return nil
					}
					return bucket.ForEach(func(_, v []byte) error { _ = bytes.Clone(v); return nil })
				})
			})
		})
		if err != nil {
			t.Fatalf("accepted, but: %v", err)
		}
	})
}

func FuzzDecodeLog(f *testing.F) {
	whole := frame{index: 3, term: 1, data: []byte("hello")}.append(nil)
	f.Add(whole, 0)
	f.Add(frame{index: 4, term: 1}.append(bytes.Clone(whole)), len(whole))
	f.Add(whole[:len(whole)-1], 0)
	f.Add([]byte{0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0}, 0)
	f.Fuzz(func(t *testing.T, b []byte, synced int) {
		frames, end, err := decodeLog(b, synced)
		if err != nil {
			return
		}
		if end < synced || end > len(b) {
			t.Fatalf("ends at %d of %d, %d were synced", end, len(b), synced)
		}
		var again []byte
		for _, fr := range frames {
			again = fr.append(again)
		}
		if !bytes.Equal(again, b[:end]) {
			t.Fatal("frames encode to something else")
		}
	})
}

func TestHeadRoundTrip(t *testing.T) {
	t.Parallel()
	h := snapshotHead{epoch: epoch{index: 7, term: 2}, index: 9, term: 3}
	b := h.encode()
	got, err := readHead(bytes.NewReader(b))
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(fmt.Sprint(h), fmt.Sprint(got)); d != "" {
		t.Fatal(d)
	}
	for n := range b {
		if _, err := readHead(bytes.NewReader(b[:n])); err == nil {
			t.Errorf("%d bytes were accepted", n)
		}
	}
	for i := range headMagic {
		bad := bytes.Clone(b)
		bad[i] ^= 1
		if _, err := readHead(bytes.NewReader(bad)); err == nil {
			t.Errorf("magic number with byte %d changed was accepted", i)
		}
	}
}
