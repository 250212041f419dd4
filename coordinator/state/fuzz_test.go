// SPDX-License-Identifier: Apache-2.0

package state

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"

	"google.golang.org/protobuf/proto"

	journalv1 "github.com/volley-batch/volley/proto/volley/journal/v1"
)

// FuzzRead: a snapshot that is damaged, whatever the checksums below say, is an
// error, and one that can be read can be worked with.
func FuzzRead(f *testing.F) {
	f.Add(golden(f, "snapshot.v1"))
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, data []byte) {
		s, err := Read(bytes.NewReader(data))
		if err != nil {
			return
		}
		for _, w := range s.Workers() {
			if w.Status == NodeReady {
				_, _, _ = s.Apply(&journalv1.Entry{Op: &journalv1.Entry_WorkerLost{WorkerLost: &journalv1.WorkerLost{NodeId: w.NodeID(), Epoch: w.Epoch}}})
			}
		}
		for _, id := range s.JobIDs() {
			_, _, _ = s.Apply(&journalv1.Entry{Op: &journalv1.Entry_Cancel{Cancel: &journalv1.Cancel{Job: id}}})
		}
		if err := s.CheckInvariants(); err != nil {
			t.Fatal(err)
		}
		_ = write(t, s.Freeze())
	})
}

// FuzzApply: no entry, however odd, panics or breaks an invariant.
func FuzzApply(f *testing.F) {
	f.Add(golden(f, "batch.v1"))
	f.Fuzz(func(t *testing.T, data []byte) {
		var b journalv1.Batch
		if len(data) > 1<<12 || proto.Unmarshal(data, &b) != nil {
			return
		}
		s, err := Read(bytes.NewReader(golden(t, "snapshot.v1")))
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range b.GetEntries() {
			if _, _, err := s.Apply(e); err != nil {
				continue
			}
			if err := s.CheckInvariants(); err != nil {
				t.Fatalf("after %v: %v", e, err)
			}
		}
		if _, err := Read(bytes.NewReader(write(t, s.Freeze()))); err != nil {
			t.Fatal(err)
		}
	})
}

// golden reads a file that an earlier version of the program has written.
func golden(t interface {
	Helper()
	Fatal(...any)
}, name string,
) []byte {
	t.Helper()
	data, err := os.ReadFile(filepath.Join("testdata", "golden", name))
	if err != nil {
		t.Fatal(err)
	}
	return data
}
