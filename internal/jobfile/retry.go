// SPDX-License-Identifier: Apache-2.0

package jobfile

import (
	"fmt"
	"regexp"
	"strings"

	volleyv1 "github.com/volley-batch/volley/proto/volley/v1"
)

const maxRules = 32

var retryFields = []field[*volleyv1.Retry]{
	{
		key: "attempts", typ: "integer", def: "1", doc: "Executions at most, the first included: 1 to 100.", example: "attempts: 3",
		read: func(d *decoder, n *node, path string, r *volleyv1.Retry) {
			v, _ := d.integer(n, path, 1, 100)
			r.Attempts = int32(v)
		},
	},
	{
		key: "rules", typ: "list of mappings",
		doc:     "Looked at in order when an attempt fails; the first whose conditions all match decides. When none matches the task runs again.",
		example: "rules: [{onExitCode: 137, action: RETRY}]",
		read: func(d *decoder, n *node, path string, r *volleyv1.Retry) {
			items, ok := d.list(n, path, "mappings")
			if !ok {
				return
			}
			if len(items) > maxRules {
				d.err(n, path, "", "%s has %d rules; at most %d", path, len(items), maxRules)
				return
			}
			for i, it := range items {
				rule, at := &volleyv1.RetryRule{}, elem(path, i)
				if !readFields(d, it, at, ruleFields, rule) {
					continue
				}
				require(d, it, at, ruleFields, "action")
				if it.entry("onExitCode") == nil && it.entry("onReason") == nil && it.entry("onStatusReason") == nil && d.unknown == 0 {
					d.err(it, at, "add onExitCode, onReason or onStatusReason; `onReason: \"*\"` matches everything", "%s has no condition", at)
				}
				r.Rules = append(r.Rules, rule)
			}
		},
	},
}

var ruleFields = []field[*volleyv1.RetryRule]{
	{
		key: "onExitCode", typ: "pattern", doc: "Exit code: digits with an optional final `*`.", example: "onExitCode: 137",
		read: func(d *decoder, n *node, path string, r *volleyv1.RetryRule) {
			r.OnExitCode = d.pattern(n, path)
			if r.OnExitCode != "" && !exitCodeRE.MatchString(r.OnExitCode) {
				d.err(n, path, "", "%s must be digits with an optional final '*', not %s", path, n.describe())
			}
		},
	},
	{
		key: "onReason", typ: "pattern", doc: "Reason of the attempt, such as `OutOfMemoryError*`; `*` matches everything, no reason included.", example: `onReason: "*"`,
		read: func(d *decoder, n *node, path string, r *volleyv1.RetryRule) { r.OnReason = d.pattern(n, path) },
	},
	{
		key: "onStatusReason", typ: "pattern", doc: "Status reason of the attempt, such as `Host EC2*` when its node was lost.", example: `onStatusReason: "Host EC2*"`,
		read: func(d *decoder, n *node, path string, r *volleyv1.RetryRule) { r.OnStatusReason = d.pattern(n, path) },
	},
	{
		key: "action", typ: "RETRY | EXIT", def: "required", doc: "RETRY runs the task again, EXIT lets it fail.", example: "action: EXIT",
		read: func(d *decoder, n *node, path string, r *volleyv1.RetryRule) {
			r.Action, _ = oneOf(d, n, path, true, []string{"RETRY", "EXIT"},
				[]volleyv1.RetryAction{volleyv1.RetryAction_RETRY_ACTION_RETRY, volleyv1.RetryAction_RETRY_ACTION_EXIT})
		},
	},
}

var exitCodeRE = regexp.MustCompile(`^[0-9]{1,10}\*?$|^\*$`)

// pattern reads a literal with an optional final star.
func (d *decoder) pattern(n *node, path string) string {
	s, ok := d.text(n, path)
	if !ok {
		return ""
	}
	if s == "" || len(s) > 512 {
		d.err(n, path, "", "%s must have 1 to 512 bytes, not %d", path, len(s))
		return ""
	}
	if i := strings.IndexByte(s, '*'); i >= 0 && i < len(s)-1 {
		d.diags = append(d.diags, n.diagIn(i, i+1, path, fmt.Sprintf("%s: `*` is for the end of a pattern only", path), "write the beginning that must match, then one `*`"))
		return ""
	}
	return s
}

var dependencyFields = []field[*volleyv1.Dependency]{
	{
		key: "job", typ: "id, id:index or name", def: "required, but for SEQUENTIAL", doc: "The job, or one child of it; a name means the newest job of that name.", example: "job: prepare",
		read: func(d *decoder, n *node, path string, dep *volleyv1.Dependency) {
			s, ok := d.text(n, path)
			if ok && !jobRefRE.MatchString(s) {
				d.err(n, path, "write the id, `id:index` or name of a job", "%s: %q is not a job", path, clip(s, 60))
			}
			dep.JobId = s
		},
	},
	{
		key: "type", typ: "WHOLE | N_TO_N | SEQUENTIAL", def: "WHOLE",
		doc:     "WHOLE waits for the job to succeed. N_TO_N: child i waits for child i of a job of equal size. SEQUENTIAL: child i waits for child i-1 of this job.",
		example: "type: N_TO_N",
		read: func(d *decoder, n *node, path string, dep *volleyv1.Dependency) {
			dep.Type, _ = oneOf(d, n, path, true, []string{"WHOLE", "N_TO_N", "SEQUENTIAL"}, []volleyv1.DependencyType{
				volleyv1.DependencyType_DEPENDENCY_TYPE_WHOLE, volleyv1.DependencyType_DEPENDENCY_TYPE_N_TO_N, volleyv1.DependencyType_DEPENDENCY_TYPE_SEQUENTIAL,
			})
		},
	},
}

var jobRefRE = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9_.-]{0,127}(:[0-9]{1,19})?$`)

func (d *decoder) dependencies(n *node, path string, s jobSpec) {
	items, ok := d.list(n, path, "mappings")
	if !ok {
		return
	}
	for i, it := range items {
		dep, at := &volleyv1.Dependency{Type: volleyv1.DependencyType_DEPENDENCY_TYPE_WHOLE}, elem(path, i)
		if it.scalar() && it.kind != kindNull {
			d.err(it, at, fmt.Sprintf("write {job: %s}", clip(it.text, 60)), "%s must be a mapping ({job: …, type: …}), not %s", at, it.describe())
			continue
		}
		if !readFields(d, it, at, dependencyFields, dep) {
			continue
		}
		job, typ := it.get("job"), it.get("type")
		switch dep.Type {
		case volleyv1.DependencyType_DEPENDENCY_TYPE_SEQUENTIAL:
			if job != nil {
				d.err(job, at+".job", "remove it", "SEQUENTIAL is about the children of this job: it takes no job")
			}
		case volleyv1.DependencyType_DEPENDENCY_TYPE_N_TO_N:
			require(d, it, at, dependencyFields, "job")
			if strings.Contains(dep.JobId, ":") {
				d.err(job, at+".job", "name the job without `:index`", "N_TO_N needs a whole array job, not one child")
			}
		default:
			if typ == nil || typ.scalar() && strings.EqualFold(typ.text, "WHOLE") {
				require(d, it, at, dependencyFields, "job")
			}
		}
		s.DependsOn = append(s.DependsOn, dep)
	}
}
