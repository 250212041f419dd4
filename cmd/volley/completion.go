// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/volley-batch/volley/internal/render"
	volleyv1 "github.com/volley-batch/volley/proto/volley/v1"
)

const (
	// completeFor is how long a shell waits for names at most: who has pressed
	// the tab key cannot type until the answer is there.
	completeFor = time.Second
	// completeJobs is how many of the newest jobs are offered.
	completeJobs = 50
)

type completer = func(*cobra.Command, []string, string) ([]cobra.Completion, cobra.ShellCompDirective)

// completeJob offers ids and names of the newest jobs; up to most of them on
// one line, 0: any number. Without a coordinator it offers nothing: an error
// text would end up in the command line.
func (a *app) completeJob(most int) completer {
	return func(cmd *cobra.Command, args []string, prefix string) ([]cobra.Completion, cobra.ShellCompDirective) {
		if most > 0 && len(args) >= most {
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		ctx, cancel := context.WithTimeout(cmd.Context(), completeFor)
		defer cancel()
		var jobs []*volleyv1.Job
		err := a.with(ctx, func(s *session) error {
			for j, err := range limited(s.List(ctx, &volleyv1.ListJobsRequest{PageSize: completeJobs}), completeJobs) {
				if err != nil {
					return err
				}
				jobs = append(jobs, j)
			}
			return nil
		})
		if err != nil {
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		return jobCompletions(jobs, args, prefix), cobra.ShellCompDirectiveNoFileComp | cobra.ShellCompDirectiveKeepOrder
	}
}

// jobCompletions are the ids and names that begin with the prefix, newest
// first, without those that are on the line already.
func jobCompletions(jobs []*volleyv1.Job, args []string, prefix string) []cobra.Completion {
	var ids, names []cobra.Completion
	seen := map[string]bool{}
	for _, j := range jobs {
		offer := func(list *[]cobra.Completion, word, about string) {
			if strings.HasPrefix(word, prefix) && !seen[word] && !slices.Contains(args, word) {
				*list = append(*list, cobra.CompletionWithDesc(word, about))
			}
			seen[word] = true
		}
		offer(&ids, j.Id, fmt.Sprintf("%s %s", render.Clean(j.Name), render.Enum(j.State)))
		offer(&names, j.Name, fmt.Sprintf("job %s %s", j.Id, render.Enum(j.State)))
	}
	return append(names, ids...)
}

// completeFile offers job files for the one argument.
func completeFile(_ *cobra.Command, args []string, _ string) ([]cobra.Completion, cobra.ShellCompDirective) {
	if len(args) > 0 {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	return []cobra.Completion{"yaml", "yml"}, cobra.ShellCompDirectiveFilterFileExt
}

// completeWords offers the words of a flag. They are those of its help text,
// "table, json or name", so that the two cannot differ.
func completeWords(cmd *cobra.Command, flag, words string) {
	list := strings.FieldsFunc(strings.ReplaceAll(words, " or ", ", "), func(r rune) bool { return r == ',' || r == ' ' })
	if err := cmd.RegisterFlagCompletionFunc(flag, cobra.FixedCompletions(list, cobra.ShellCompDirectiveNoFileComp)); err != nil {
		panic(err) // the flag was not added, or twice: a defect of this program
	}
}
