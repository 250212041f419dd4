// SPDX-License-Identifier: Apache-2.0

package api

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/json"

	volleyv1 "github.com/volley-batch/volley/proto/volley/v1"
	"github.com/volley-batch/volley/sharding"
)

// points computes what the indexes of a job stand for.
type points struct {
	spec    *volleyv1.JobSpec
	hasher  *sharding.Hasher
	space   *sharding.Space
	shards  *sharding.Shards
	reader  *sharding.Reader
	digests []byte
	whole   [sha256.Size]byte // of the manifest
}

func newPoints(spec *volleyv1.JobSpec) (*points, error) {
	p := &points{spec: spec, hasher: sharding.NewHasher(spec)}
	switch kind := spec.GetSpace().GetKind().(type) {
	case *volleyv1.Space_Sweep:
		space, err := sharding.NewSpace(kind.Sweep)
		if err != nil {
			return nil, err
		}
		p.space = space
	case *volleyv1.Space_Map:
		m, err := sharding.ParseManifest(kind.Map.GetManifest())
		if err != nil {
			return nil, err
		}
		if p.shards, err = sharding.Split(m, kind.Map.GetShard()); err != nil {
			return nil, err
		}
		if uint64(len(kind.Map.GetShardDigests())) == sharding.DigestSize*p.shards.Len() {
			p.digests = kind.Map.GetShardDigests()
		} else {
			p.whole = sha256.Sum256(kind.Map.GetManifest())
		}
		// The data set may not be reachable from here; then rows name their
		// records by number only.
		if r, err := m.Open(spec.GetSubmitDir()); err == nil {
			p.reader = r
		}
	}
	return p, nil
}

func (p *points) close() {
	if p.reader != nil {
		_ = p.reader.Close()
	}
}

// size is the number of indexes.
func (p *points) size() uint64 {
	switch kind := p.spec.GetSpace().GetKind().(type) {
	case *volleyv1.Space_Array:
		return kind.Array
	case *volleyv1.Space_Sweep:
		return p.space.Len()
	case *volleyv1.Space_Map:
		return p.shards.Len()
	default:
		return 1
	}
}

// params renders the point of an index as a JSON object; "" for plain arrays.
func (p *points) params(i uint64) string {
	switch {
	case p.space != nil:
		if pt, err := p.space.At(i); err == nil {
			return string(pt.AppendJSON(nil))
		}
	case p.shards != nil && i < p.shards.Len():
		run := p.shards.At(i)
		if run.Count == 1 && p.reader != nil {
			if rec, err := p.reader.Record(run.First); err == nil {
				return string(rec.Point.AppendJSON(nil))
			}
		}
		b, err := json.Marshal(struct {
			First uint64 `json:"first"`
			Count uint64 `json:"count"`
		}{run.First, run.Count})
		if err == nil {
			return string(b)
		}
	}
	return ""
}

// identity of an index: the same in two jobs if running it again would be the
// same work. params is the identity of the parameters alone.
func (p *points) identity(i uint64) (id, params sharding.ID) {
	switch {
	case p.space != nil:
		pt, err := p.space.At(i)
		if err != nil {
			return id, params
		}
		return p.hasher.Point(pt), sharding.ParamsIdentity(pt)
	case p.shards != nil:
		material := p.whole[:]
		if p.digests != nil {
			material = p.digests[i*sharding.DigestSize : (i+1)*sharding.DigestSize]
		} else {
			material = binary.LittleEndian.AppendUint64(material[:sha256.Size:sha256.Size], i)
		}
		copy(params[:], material)
		return p.hasher.Material(material), params
	case p.spec.GetSpace() != nil:
		binary.LittleEndian.PutUint64(params[:], i)
		return p.hasher.Index(i), params
	default:
		return p.hasher.Point(sharding.Point{}), params
	}
}
