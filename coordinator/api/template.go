// SPDX-License-Identifier: Apache-2.0

package api

import (
	"errors"
	"slices"
	"strconv"
	"strings"

	volleyv1 "github.com/volley-batch/volley/proto/volley/v1"
	"github.com/volley-batch/volley/sharding"
)

// names is what templates of a job may use.
type names struct {
	params []string
	// open: only the data knows which other parameters there are.
	open bool
	// isMap admits the names of a task's records. shared: a task has many
	// records, so that a field of one is not defined.
	isMap, shared bool
}

// Beside the parameters. Workers give them their meaning.
var (
	everywhere = []string{"index", "attempt", "job", "size"}
	mapsOnly   = []string{"records", "first", "count"}
)

func namesOf(spec *volleyv1.JobSpec, p *points) names {
	var n names
	if sw := spec.GetSpace().GetSweep(); sw != nil {
		for _, prm := range sw.GetParams() {
			n.params = append(n.params, prm.GetName())
		}
		n.params = append(n.params, sw.GetTable().GetColumns()...)
	}
	if p.shards == nil {
		return n
	}
	n.isMap = true
	shard := spec.GetSpace().GetMap().GetShard()
	n.shared = sharesRecords(shard) || shard.GetTargetMs() > 0
	list, closed := p.manifest.Params()
	n.params, n.open = list, !closed
	return n
}

// checkNames refuses a placeholder that no task could fill, and parameters
// that tasks could not tell apart.
func checkNames(spec *volleyv1.JobSpec, p *points) error {
	known := namesOf(spec, p)
	upper := map[string]string{}
	for _, name := range known.params {
		u := strings.ToUpper(name)
		if other, ok := upper[u]; ok {
			return invalid("the parameters %q and %q differ only in case: both would be VOLLEY_PARAM_%s; rename one of them", clip(other), clip(name), clip(u))
		}
		upper[u] = name
	}
	for n, word := range spec.GetCommand() {
		if err := known.check("command["+strconv.Itoa(n)+"]", word); err != nil {
			return err
		}
	}
	if spec.GetRun() != "" {
		// A shell line has places where a value cannot be quoted safely.
		if _, err := sharding.ParseShellTemplate(spec.GetRun()); err != nil {
			return invalid("run: %v", err)
		}
		if err := known.check("run", spec.GetRun()); err != nil {
			return err
		}
	}
	for _, e := range spec.GetEnv() {
		if err := known.check("env."+e.GetName(), e.GetValue()); err != nil {
			return err
		}
	}
	return nil
}

func (n names) check(field, template string) error {
	used, err := sharding.TemplateNames(template)
	if err != nil {
		return invalid("%s: %v", field, err)
	}
	for _, name := range used {
		if msg := n.refuse(name); msg != "" {
			return invalid("%s uses {%s}, which %s", field, clip(name), msg)
		}
	}
	return nil
}

// refuse says why templates cannot use a name; "" if they can.
func (n names) refuse(name string) string {
	switch {
	case slices.Contains(everywhere, name), n.isMap && slices.Contains(mapsOnly, name):
		return ""
	case slices.Contains(mapsOnly, name) && !slices.Contains(n.params, name):
		return "is for maps, and this job has no map"
	case slices.Contains(n.params, name) || n.open:
		if n.shared {
			return "is of one record, but a task gets many: let the program read the file {records}"
		}
		return ""
	default:
		return "is no parameter of the job"
	}
}

// errIdentity: an index has no point.
var errIdentity = errors.New("there is no point")
