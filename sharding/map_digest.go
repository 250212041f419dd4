// SPDX-License-Identifier: Apache-2.0

package sharding

import (
	"context"
	"fmt"
)

const (
	// DigestSize is the length of one shard's digest. 64 bits: among a million
	// shards two different ones agree with a probability of 3 in 10^8.
	DigestSize = 8
	// MaxDigests is the largest number of shards that ShardDigests lists: 8 MiB
	// of a job's spec.
	MaxDigests = 1 << 20
)

// ShardDigests lists what makes each shard's records what they are (see
// Reader.AppendIdentity), DigestSize bytes each, so that a later job can tell
// which shards have changed after the files have. It reads the data set once;
// nil above MaxDigests shards.
func ShardDigests(ctx context.Context, m *Manifest, dir string, s *Shards) (digests []byte, err error) {
	if s.Len() > MaxDigests {
		return nil, nil
	}
	r, err := m.Open(dir)
	if err != nil {
		return nil, err
	}
	defer func() {
		if cerr := r.Close(); err == nil && cerr != nil {
			digests, err = nil, cerr
		}
	}()
	digests = make([]byte, 0, s.Len()*DigestSize)
	var id []byte
	for k := range s.Len() {
		if k&0xff == 0 && ctx.Err() != nil {
			return nil, fmt.Errorf("digest the shards: %w", ctx.Err())
		}
		if id, err = r.AppendIdentity(id[:0], s.At(k)); err != nil {
			return nil, err
		}
		// The first byte is the kind; the rest is a SHA-256.
		digests = append(digests, id[1:1+DigestSize]...)
	}
	return digests, nil
}
