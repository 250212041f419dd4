// SPDX-License-Identifier: Apache-2.0

package jobfile

import "strings"

// nearest returns the candidate that word was probably meant to be, or "".
// It compares without case, since `dependson` and `Name` are typos as well.
func nearest(word string, candidates []string) string {
	best, bestDist := "", 0
	w := []rune(strings.ToLower(word))
	if len(w) > 64 {
		return ""
	}
	for _, c := range candidates {
		r := []rune(strings.ToLower(c))
		limit := max(1, min(len(w), len(r))/3)
		if min(len(w), len(r)) < 2 {
			limit = 0 // every single letter is one step from every other
		}
		if abs(len(w)-len(r)) > limit {
			continue
		}
		d := editDistance(w, r)
		if d <= limit && (best == "" || d < bestDist) {
			best, bestDist = c, d
		}
	}
	return best
}

func abs(n int) int { return max(n, -n) }

// editDistance counts insertions, deletions, substitutions and swaps of
// neighbours (optimal string alignment): a swap is the commonest typo, and
// two substitutions would put it out of reach for short keys.
func editDistance(a, b []rune) int {
	prev2 := make([]int, len(b)+1)
	prev := make([]int, len(b)+1)
	cur := make([]int, len(b)+1)
	for j := range prev {
		prev[j] = j
	}
	for i := 1; i <= len(a); i++ {
		cur[0] = i
		for j := 1; j <= len(b); j++ {
			cost := 1
			if a[i-1] == b[j-1] {
				cost = 0
			}
			cur[j] = min(prev[j]+1, cur[j-1]+1, prev[j-1]+cost)
			if i > 1 && j > 1 && a[i-1] == b[j-2] && a[i-2] == b[j-1] {
				cur[j] = min(cur[j], prev2[j-2]+1)
			}
		}
		prev2, prev, cur = prev, cur, prev2
	}
	return prev[len(b)]
}
