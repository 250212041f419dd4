// SPDX-License-Identifier: Apache-2.0

package jobfile

import (
	"regexp"
	"strings"
)

// fieldPath is how a message of the coordinator begins that is about a field
// of the job: `dependsOn[0]: …`, `resources.cpu_milli -5 must …`.
var fieldPath = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_]*(?:\[[0-9]+\]|\.[A-Za-z_][A-Za-z0-9_]*)*`)

// units are the proto's fields whose unit the job file writes into the value.
var units = strings.NewReplacer(
	"cpu_milli", "cpu", "memory_bytes", "memory", "target_ms", "target", "timeout_ms", "timeout", "grace_ms", "grace",
	"depends_on", "dependsOn", "submit_dir", "submitDir",
	"on_exit_code", "onExitCode", "on_status_reason", "onStatusReason", "on_reason", "onReason",
)

// Locate says where in the job file a message of the coordinator points: only
// the coordinator knows the other jobs, and only the file knows the lines. The
// message begins with the path of a field, in the spelling of the job file or
// of the proto; hint may be empty. The answer is false for a message that names
// no field which the file has.
func (l *Loaded) Locate(message, hint string) (*Error, bool) {
	path := units.Replace(fieldPath.FindString(message))
	if l.doc == nil || path == "" {
		return nil, false
	}
	at := l.doc.root.find(path)
	// Not even its first key: the message is about a default, or about
	// something that is no field.
	if at.path == "" {
		return nil, false
	}
	n := at.node
	if !at.exact && at.key != nil {
		n = at.key
	}
	return &Error{[]Diagnostic{n.diag(at.path, message, hint)}}, true
}
