// SPDX-License-Identifier: Apache-2.0

package api

import (
	"container/list"
	"crypto/sha256"
	"encoding/binary"
	"encoding/json"
	"sync"

	"google.golang.org/protobuf/proto"

	volleyv1 "github.com/volley-batch/volley/proto/volley/v1"
	"github.com/volley-batch/volley/sharding"
)

// points computes what the indexes of a job stand for. One that was closed may
// be copied by fork; else it belongs to one goroutine.
type points struct {
	spec     *volleyv1.JobSpec
	hasher   *sharding.Hasher
	space    *sharding.Space
	manifest *sharding.Manifest
	shards   *sharding.Shards
	reader   *sharding.Reader
	digests  []byte
	// whole stands for the data set and its division when there are no digests.
	whole [sha256.Size]byte
}

// digestSize is the length of one element of Map.shard_digests.
const digestSize = 8

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
		if err := p.readMap(kind.Map); err != nil {
			return nil, err
		}
	}
	return p.fork(), nil
}

func (p *points) readMap(m *volleyv1.Map) error {
	var err error
	if p.manifest, err = sharding.ParseManifest(m.GetManifest()); err != nil {
		return err
	}
	if p.shards, err = sharding.Split(p.manifest, m.GetShard()); err != nil {
		return err
	}
	if uint64(len(m.GetShardDigests())) == digestSize*p.shards.Len() {
		p.digests = m.GetShardDigests()
		return nil
	}
	// The division is part of it: shard 3 of tens of rows is not shard 3 of
	// hundreds.
	shard, err := proto.MarshalOptions{Deterministic: true}.Marshal(m.GetShard())
	if err != nil {
		return err
	}
	h := sha256.New()
	h.Write(binary.LittleEndian.AppendUint64(nil, uint64(len(shard))))
	h.Write(shard)
	h.Write(m.GetManifest())
	h.Sum(p.whole[:0])
	return nil
}

// fork shares all but the open file.
func (p *points) fork() *points {
	n := *p
	n.reader = nil
	if p.manifest != nil {
		// The data set may not be reachable from here; then rows name their
		// records by number only.
		if r, err := p.manifest.Open(p.spec.GetSubmitDir()); err == nil {
			n.reader = r
		}
	}
	return &n
}

func (p *points) close() {
	if p.reader != nil {
		_ = p.reader.Close()
		p.reader = nil
	}
}

// size is the number of indexes.
func (p *points) size() uint64 {
	switch kind := p.spec.GetSpace().GetKind().(type) {
	case nil:
		return 1
	case *volleyv1.Space_Sweep:
		return p.space.Len()
	case *volleyv1.Space_Map:
		return p.shards.Len()
	case *volleyv1.Space_Array:
		return kind.Array
	default:
		return 0
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
		// All rows of a job have the same columns, also where the last shard
		// has one record.
		if !sharesRecords(p.spec.GetSpace().GetMap().GetShard()) && p.reader != nil {
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

// sharesRecords says that one index may have several records.
func sharesRecords(s *volleyv1.Shard) bool { return s.GetRows() > 1 || s.GetBytes() > 0 }

// identity of an index: the same in two jobs if running it again would be the
// same work. params is the identity of the parameters alone.
func (p *points) identity(i uint64) (id, params sharding.ID, err error) {
	switch {
	case p.space != nil:
		pt, err := p.space.At(i)
		if err != nil {
			return id, params, err
		}
		return p.hasher.Point(pt), sharding.ParamsIdentity(pt), nil
	case p.shards != nil:
		if i >= p.shards.Len() {
			return id, params, errIdentity
		}
		var material []byte
		if p.digests != nil {
			material = p.digests[i*digestSize : (i+1)*digestSize]
			copy(params[:], material)
		} else {
			material = binary.LittleEndian.AppendUint64(p.whole[:sha256.Size:sha256.Size], i)
			sum := sha256.Sum256(material)
			copy(params[:], sum[:])
		}
		return p.hasher.Material(material), params, nil
	case p.spec.GetSpace() != nil:
		binary.LittleEndian.PutUint64(params[:], i)
		return p.hasher.Index(i), params, nil
	default:
		return p.hasher.Point(sharding.Point{}), params, nil
	}
}

// sameIndexes says that an index means the same work under both.
func (p *points) sameIndexes(o *points) bool {
	return p.size() == o.size() && p.hasher.Point(sharding.Point{}) == o.hasher.Point(sharding.Point{}) &&
		proto.Equal(p.spec.GetSpace(), o.spec.GetSpace())
}

// cachedPoints is how many jobs' points are kept.
const cachedPoints = 8

// pointCache keeps the points of the jobs that were last asked for: a space
// with conditions takes up to seconds to list, and a listing of its children
// asks for it with every page.
type pointCache struct {
	mu    sync.Mutex
	jobs  map[uint64]*list.Element
	order *list.List // of *pointEntry, the last used first
}

type pointEntry struct {
	job  uint64
	once sync.Once
	p    *points
	err  error
}

func newPointCache() *pointCache {
	return &pointCache{jobs: map[uint64]*list.Element{}, order: list.New()}
}

// of returns the points of a job, whose spec never changes. Close them.
func (c *pointCache) of(job uint64, spec *volleyv1.JobSpec) (*points, error) {
	c.mu.Lock()
	at := c.jobs[job]
	if at == nil {
		at = c.order.PushFront(&pointEntry{job: job})
		c.jobs[job] = at
		if c.order.Len() > cachedPoints {
			old := c.order.Remove(c.order.Back())
			if e, ok := old.(*pointEntry); ok {
				delete(c.jobs, e.job)
			}
		}
	} else {
		c.order.MoveToFront(at)
	}
	e, ok := at.Value.(*pointEntry)
	c.mu.Unlock()
	if !ok {
		return newPoints(spec)
	}
	// Outside of the lock, and once however many ask at the same time.
	e.once.Do(func() {
		if e.p, e.err = newPoints(spec); e.err == nil {
			e.p.close()
		}
	})
	if e.err != nil {
		return nil, e.err
	}
	return e.p.fork(), nil
}
