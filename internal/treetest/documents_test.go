// SPDX-License-Identifier: Apache-2.0

package treetest

import (
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"path"
	"regexp"
	"slices"
	"strings"
	"testing"
	"testing/fstest"
	"unicode"
)

var (
	// [text](target) and [name]: target, with an optional title.
	inlineLink    = regexp.MustCompile(`\]\(\s*<?([^)\s>]+)>?(?:\s+"[^"]*")?\s*\)`)
	referenceLink = regexp.MustCompile(`(?m)^ {0,3}\[[^\]]+\]:\s+<?([^\s>]+)`)
	codeSpan      = regexp.MustCompile("`[^`\n]*`")
	heading       = regexp.MustCompile(`(?m)^#{1,6}\s+(.+?)\s*#*\s*$`)
	linkText      = regexp.MustCompile(`\[([^\]]*)\]\([^)]*\)`)
)

// prose is a document without its fenced code, where brackets are code.
func prose(text string) string {
	var b strings.Builder
	fence := ""
	for line := range strings.Lines(text) {
		trimmed := strings.TrimSpace(line)
		switch {
		case fence == "" && (strings.HasPrefix(trimmed, "```") || strings.HasPrefix(trimmed, "~~~")):
			fence = trimmed[:3]
		case fence != "" && strings.HasPrefix(trimmed, fence):
			fence = ""
		case fence == "":
			b.WriteString(line)
		}
	}
	return b.String()
}

// anchors lists the fragments that the headings of a document make, as code
// hosts derive them.
func anchors(text string) []string {
	var list []string
	seen := make(map[string]int)
	for _, m := range heading.FindAllStringSubmatch(prose(text), -1) {
		title := linkText.ReplaceAllString(m[1], "$1")
		slug := strings.Map(func(r rune) rune {
			switch {
			case unicode.IsLetter(r), unicode.IsDigit(r), r == '-', r == '_':
				return unicode.ToLower(r)
			case r == ' ':
				return '-'
			}
			return -1
		}, title)
		if n := seen[slug]; n > 0 {
			list = append(list, fmt.Sprintf("%s-%d", slug, n))
		} else {
			list = append(list, slug)
		}
		seen[slug]++
	}
	return list
}

// checkLinks names every link of a document that leads nowhere in the tree.
func checkLinks(tree fs.FS) (links int, bad []string, err error) {
	err = walk(tree, ".md", func(name string, text []byte) error {
		body := codeSpan.ReplaceAllString(prose(string(text)), "")
		for _, m := range slices.Concat(inlineLink.FindAllStringSubmatch(body, -1), referenceLink.FindAllStringSubmatch(body, -1)) {
			links++
			if why := brokenLink(tree, name, m[1]); why != "" {
				bad = append(bad, fmt.Sprintf("%s: link to %s: %s", name, m[1], why))
			}
		}
		return nil
	})
	return links, bad, err
}

// brokenLink says what is wrong with a link, empty when it is good. Links to
// other hosts are not followed: a test must not depend on them.
func brokenLink(tree fs.FS, from, link string) string {
	u, err := url.Parse(link)
	if err != nil {
		return err.Error()
	}
	if u.Scheme != "" {
		return ""
	}
	if strings.HasPrefix(u.Path, "/") {
		return "absolute path; write it relative to the document"
	}
	target := from
	if u.Path != "" {
		target = path.Join(path.Dir(from), u.Path)
	}
	if _, err := fs.Stat(tree, target); err != nil {
		return "no such file"
	}
	if u.Fragment == "" || !strings.HasSuffix(target, ".md") {
		return ""
	}
	text, err := fs.ReadFile(tree, target)
	if err != nil {
		return err.Error()
	}
	if !slices.Contains(anchors(string(text)), u.Fragment) {
		return "no heading #" + u.Fragment
	}
	return ""
}

func TestLinks(t *testing.T) {
	t.Parallel()
	links, bad, err := checkLinks(os.DirFS(root(t)))
	if err != nil {
		t.Fatal(err)
	}
	if links == 0 {
		t.Error("no link found in any document")
	}
	for _, b := range bad {
		t.Error(b)
	}
}

func TestLinksFindViolations(t *testing.T) {
	t.Parallel()
	const good = "# The title, `with` code\n\n[there](sub/b.md#a-part) [here](#the-title-with-code) [web](https://a.example/x)\n\n" +
		"`[code](nowhere)`\n\n```\n[fenced](nowhere)\n# fenced\n```\n\n[ref]: sub/b.md \"Title\"\n"
	tests := []struct{ name, text, want string }{
		{"good", good, ""},
		{"missing file", good + "[x](sub/c.md)\n", "no such file"},
		{"missing file by reference", good + "\n[x]: c.md\n", "no such file"},
		{"missing heading", good + "[x](sub/b.md#b-part)\n", "no heading #b-part"},
		{"heading in code", good + "[x](#fenced)\n", "no heading #fenced"},
		{"absolute", good + "[x](/sub/b.md)\n", "absolute path"},
		{"out of the tree", good + "[x](../b.md)\n", "no such file"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			_, bad, err := checkLinks(fstest.MapFS{
				"a.md":     {Data: []byte(tt.text)},
				"sub/b.md": {Data: []byte("# B\n\n## A part\n")},
			})
			if err != nil {
				t.Fatal(err)
			}
			if (tt.want == "" && len(bad) > 0) || (tt.want != "" && (len(bad) != 1 || !strings.Contains(bad[0], tt.want))) {
				t.Errorf("found %q, want %q", bad, tt.want)
			}
		})
	}
}
