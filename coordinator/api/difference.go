// SPDX-License-Identifier: Apache-2.0

package api

import (
	"bytes"
	"fmt"
	"slices"

	"google.golang.org/protobuf/proto"

	volleyv1 "github.com/volley-batch/volley/proto/volley/v1"
)

// differences says what of the job, rather than of its points, has changed.
func differences(now *volleyv1.JobSpec, before *earlierJob) []string {
	var out []string
	since := fmt.Sprintf("since job %d", before.id)
	if !slices.Equal(now.GetCommand(), before.spec.GetCommand()) || now.GetRun() != before.spec.GetRun() {
		out = append(out, "the command changed "+since)
	}
	if now.GetWorkdir() != before.spec.GetWorkdir() {
		out = append(out, "the working directory changed "+since)
	}
	env := map[string]string{}
	for _, e := range before.spec.GetEnv() {
		env[e.GetName()] = e.GetValue()
	}
	for _, e := range now.GetEnv() {
		switch v, ok := env[e.GetName()]; {
		case !ok:
			out = append(out, fmt.Sprintf("env %s is new %s", e.GetName(), since))
		case v != e.GetValue():
			out = append(out, fmt.Sprintf("env %s changed %s", e.GetName(), since))
		}
		delete(env, e.GetName())
	}
	for _, e := range before.spec.GetEnv() {
		if _, ok := env[e.GetName()]; ok {
			out = append(out, fmt.Sprintf("env %s was removed %s", e.GetName(), since))
		}
	}
	inputs := map[string][]byte{}
	for _, in := range before.spec.GetInputs() {
		inputs[in.GetPath()] = in.GetDigest()
	}
	for _, in := range now.GetInputs() {
		old, ok := inputs[in.GetPath()]
		delete(inputs, in.GetPath())
		switch {
		case !ok:
			out = append(out, fmt.Sprintf("%s is a new input %s", in.GetPath(), since))
		case !bytes.Equal(old, in.GetDigest()):
			out = append(out, fmt.Sprintf("%s changed %s", in.GetPath(), since))
		}
	}
	for _, in := range before.spec.GetInputs() {
		if _, ok := inputs[in.GetPath()]; ok {
			out = append(out, fmt.Sprintf("%s is no input any more %s", in.GetPath(), since))
		}
	}
	if a, b := now.GetSpace().GetMap(), before.spec.GetSpace().GetMap(); a != nil && b != nil && !proto.Equal(a.GetShard(), b.GetShard()) {
		out = append(out, "the shards of the map changed "+since)
	}
	return out
}
