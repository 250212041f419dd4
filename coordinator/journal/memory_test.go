// SPDX-License-Identifier: Apache-2.0

package journal_test

import (
	"testing"

	"github.com/volley-batch/volley/coordinator/journal"
	"github.com/volley-batch/volley/coordinator/journal/journaltest"
)

func TestMemoryConformance(t *testing.T) {
	t.Parallel()
	journaltest.Run(t, func(*testing.T) journaltest.Subject {
		disk := &journal.Disk{}
		return journaltest.Subject{
			Open:   func() (journal.Journal, error) { return journal.NewMemory(journal.MemoryConfig{Disk: disk}) },
			Crash:  func(j journal.Journal) { j.(*journal.Memory).Crash(0, 7) },
			Depose: func(j journal.Journal) { j.(*journal.Memory).Depose(0) },
			Elect:  func(j journal.Journal) { j.(*journal.Memory).Lead() },
		}
	})
}

// TestMemoryConformanceHeld runs the suite on a disk that syncs one record each
// time that the caller looks.
func TestMemoryConformanceHeld(t *testing.T) {
	t.Parallel()
	journaltest.Run(t, func(*testing.T) journaltest.Subject {
		disk := &journal.Disk{}
		return journaltest.Subject{
			Open: func() (journal.Journal, error) {
				m, err := journal.NewMemory(journal.MemoryConfig{Disk: disk, Hold: true})
				if err != nil {
					return nil, err
				}
				return slow{m}, nil
			},
			Crash:  func(j journal.Journal) { j.(slow).Crash(0, 7) },
			Depose: func(j journal.Journal) { j.(slow).Memory.Depose(40) },
			Elect:  func(j journal.Journal) { j.(slow).Lead() },
		}
	})
}

type slow struct{ *journal.Memory }

func (s slow) Next() (journal.Event, bool) {
	s.Commit(1)
	s.CommitSnapshot()
	return s.Memory.Next()
}

func (s slow) Stats() journal.Stats {
	s.CommitSnapshot()
	return s.Memory.Stats()
}
