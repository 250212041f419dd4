// SPDX-License-Identifier: Apache-2.0

package coordinator

import (
	"os"

	"github.com/volley-batch/volley/internal/usage"
	volleyv1 "github.com/volley-batch/volley/proto/volley/v1"
)

// info is what the server adds to GetServerInfo: what its process and its
// journal have cost so far.
func (s *Server) info(out *volleyv1.GetServerInfoResponse) {
	u := usage.Self()
	out.Process = &volleyv1.ProcessUsage{
		Pid: int64(os.Getpid()), CpuUserUs: u.User.Microseconds(), CpuSystemUs: u.System.Microseconds(),
		RssBytes: u.RSS, PeakRssBytes: u.PeakRSS, WrittenBytes: u.Written,
	}
	batches, bytes := s.engine.Proposed()
	st := s.journal.Stats()
	out.Journal = &volleyv1.JournalInfo{
		Batches: batches, Bytes: bytes, Syncs: st.Syncs, LogBytes: st.LogBytes, FileSystem: usage.FileSystem(s.cfg.DataDir),
	}
}
