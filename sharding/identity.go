// SPDX-License-Identifier: Apache-2.0

package sharding

import (
	"cmp"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"slices"

	volleyv1 "github.com/volley-batch/volley/proto/volley/v1"
)

// ID is the identity of a point: the same on every machine and in every
// release that writes the same version into the hash.
type ID [16]byte

// String is 32 hexadecimal digits.
func (id ID) String() string { return hex.EncodeToString(id[:]) }

// ParseID reads String back.
func ParseID(s string) (ID, error) {
	var id ID
	// The length first: hex.Decode panics on a destination too short.
	if len(s) == 2*len(id) {
		if _, err := hex.Decode(id[:], []byte(s)); err == nil {
			return id, nil
		}
	}
	return ID{}, errAt("", s, "not an identity: 32 hexadecimal digits")
}

// The versions of the encodings. Change one, and every finished point runs
// again: never without need.
const (
	identityVersion = "volley.identity.v1"
	paramsVersion   = "volley.params.v1"
)

// Hasher computes the identities of the points of one job. It is immutable
// and safe for concurrent use.
//
// An identity covers the parameters, the command words or the run line as
// templates, the environment of the job, the working directory if the job
// names one (its tasks leave their work there), and the declared inputs by path
// and content. It does not cover how the task runs: queue, resources, retries,
// limits.
type Hasher struct {
	job [sha256.Size]byte
}

// NewHasher digests the part that all points of spec share.
func NewHasher(spec *volleyv1.JobSpec) *Hasher {
	b := appendField(nil, identityVersion)
	b = append(b, 'c')
	b = binary.AppendUvarint(b, uint64(len(spec.GetCommand())))
	for _, word := range spec.GetCommand() {
		b = appendField(b, word)
	}
	b = append(b, 'r')
	b = appendField(b, spec.GetRun())
	b = append(b, 'w')
	b = appendField(b, spec.GetWorkdir())

	// The order of the file is not part of what the task sees. Stable, since
	// of two variables with one name the last counts.
	env := slices.Clone(spec.GetEnv())
	slices.SortStableFunc(env, func(a, b *volleyv1.EnvVar) int { return cmp.Compare(a.GetName(), b.GetName()) })
	b = append(b, 'e')
	b = binary.AppendUvarint(b, uint64(len(env)))
	for _, v := range env {
		b = appendField(b, v.GetName())
		b = appendField(b, v.GetValue())
	}
	inputs := slices.Clone(spec.GetInputs())
	slices.SortStableFunc(inputs, func(a, b *volleyv1.Input) int { return cmp.Compare(a.GetPath(), b.GetPath()) })
	b = append(b, 'i')
	b = binary.AppendUvarint(b, uint64(len(inputs)))
	for _, in := range inputs {
		b = appendField(b, in.GetPath())
		b = appendField(b, in.GetDigest())
	}
	return &Hasher{job: sha256.Sum256(b)}
}

// Point is the identity of a point of a sweep; of the zero Point for a single
// job.
func (h *Hasher) Point(p Point) ID {
	var buf [512]byte
	b := append(buf[:0], h.job[:]...)
	return shorten(sha256.Sum256(appendParams(append(b, 'p'), p)))
}

// Index is the identity of an index of a plain array.
func (h *Hasher) Index(i uint64) ID {
	var buf [64]byte
	b := append(buf[:0], h.job[:]...)
	return shorten(sha256.Sum256(binary.LittleEndian.AppendUint64(append(b, 'x'), i)))
}

// Material is the identity of a shard of a map, whose content or files the
// material stands for.
func (h *Hasher) Material(material []byte) ID {
	d := sha256.New()
	d.Write(h.job[:])
	d.Write([]byte{'m'})
	d.Write(material)
	return shorten([sha256.Size]byte(d.Sum(nil)))
}

// ParamsIdentity covers the parameters alone: a point whose identity is new
// but whose parameters are known has changed, it was not added.
func ParamsIdentity(p Point) ID {
	var buf [512]byte
	b := appendField(buf[:0], paramsVersion)
	return shorten(sha256.Sum256(appendParams(append(b, 'p'), p)))
}

func shorten(sum [sha256.Size]byte) ID { return ID(sum[:len(ID{})]) }

// appendParams encodes the parameters that p has, sorted by name: count, then
// name, kind and value of each. Every variable part has its length before
// it, so no two points share an encoding.
func appendParams(b []byte, p Point) []byte {
	b = binary.AppendUvarint(b, uint64(p.Len()))
	if p.names == nil {
		return b
	}
	for _, i := range p.names.sorted {
		v := p.values[i]
		if !v.Present() {
			continue
		}
		b = appendField(b, p.names.list[i])
		switch v = v.Canonical(); v.kind {
		case KindString:
			b = appendField(append(b, 's'), v.str)
		case KindInt:
			b = binary.LittleEndian.AppendUint64(append(b, 'i'), v.bits)
		case KindFloat:
			b = binary.LittleEndian.AppendUint64(append(b, 'f'), v.bits)
		case KindBool:
			b = append(b, 'b', byte(v.bits))
		}
	}
	return b
}

func appendField[T string | []byte](b []byte, field T) []byte {
	b = binary.AppendUvarint(b, uint64(len(field)))
	return append(b, field...)
}
