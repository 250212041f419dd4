// SPDX-License-Identifier: Apache-2.0

package state

import (
	"strconv"
	"strings"

	volleyv1 "github.com/volley-batch/volley/proto/volley/v1"
)

// Status reasons, in AWS Batch's words where it has them: clients match on
// these texts.
const (
	reasonExited     = "Essential container in task exited"
	reasonNotStarted = "Task failed to start"
	reasonTimedOut   = "Job attempt duration exceeded timeout"
	reasonDependency = "Dependent Job failed"
	reasonChild      = "Array Child Job failed"
	reasonCancelled  = "Cancelled by user"
	reasonTerminated = "Terminated by user"
	reasonCollateral = "Stopped together with a terminated child"
)

// hostReason is AWS Batch's text for a host that went away; evaluateOnExit
// rules written for it ("Host EC2*") keep working.
func hostReason(node string) string { return "Host EC2 (instance " + node + ") terminated." }

// maxLost bounds how often one child is queued again, uncharged, because its
// node was lost: a task that takes its node down must not go through the
// whole cluster.
const maxLost = 5

// shouldRetry decides after a failed attempt, by AWS Batch's rules: the budget
// first, then the first evaluateOnExit rule of which every given condition
// matches, and retry when none does.
func shouldRetry(r *volleyv1.Retry, charged int, status, detail string, exit uint16) bool {
	if charged >= int(max(r.GetAttempts(), 1)) {
		return false
	}
	return ruleAction(r, status, detail, exit) != volleyv1.RetryAction_RETRY_ACTION_EXIT
}

func ruleAction(r *volleyv1.Retry, status, detail string, exit uint16) volleyv1.RetryAction {
	code := ""
	if exit != noExit {
		code = strconv.Itoa(int(exit))
	}
	for _, rule := range r.GetRules() {
		if matches(rule.GetOnStatusReason(), status) && matches(rule.GetOnReason(), detail) && matches(rule.GetOnExitCode(), code) {
			return rule.GetAction()
		}
	}
	return volleyv1.RetryAction_RETRY_ACTION_UNSPECIFIED
}

// matches: no condition matches all, a final '*' matches any rest. "*" alone
// matches the empty text too: AWS's own examples use onReason "*" as the
// catch-all for attempts that have no reason.
func matches(pattern, text string) bool {
	if pattern == "" {
		return true
	}
	if p, ok := strings.CutSuffix(pattern, "*"); ok {
		return strings.HasPrefix(text, p)
	}
	return pattern == text
}
