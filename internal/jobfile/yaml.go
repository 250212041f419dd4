// SPDX-License-Identifier: Apache-2.0

package jobfile

import (
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/parser"
	"github.com/goccy/go-yaml/scanner"
	"github.com/goccy/go-yaml/token"
)

const (
	// maxDepth bounds nesting: the YAML parser recurses, and a Go stack that
	// overflows cannot be recovered from.
	maxDepth  = 64
	maxIndent = 1000
	// maxExpanded bounds what aliases may expand to, all together.
	maxExpanded = 100_000
)

// parseYAML makes a tree of text, or says where the text is not the YAML of a
// job file. It never panics: what the YAML library throws becomes an error.
func parseYAML(src *source, text string) (root *node, ds []Diagnostic) {
	defer func() {
		if r := recover(); r != nil {
			root, ds = nil, []Diagnostic{{File: src.name, Message: fmt.Sprintf("this YAML cannot be read (%v)", r), Hint: "look for unbalanced brackets, quotes or indentation"}}
		}
	}()
	toks, ds := tokenize(src, text)
	if ds != nil {
		return nil, ds
	}
	file, err := parser.Parse(toks, 0, parser.AllowDuplicateMapKey())
	if err != nil {
		return nil, []Diagnostic{syntaxError(src, toks, err)}
	}
	var body ast.Node
	for i, doc := range file.Docs {
		if i > 0 && doc.Body == nil {
			continue
		}
		if dir, ok := doc.Body.(*ast.DirectiveNode); ok {
			p := dir.GetToken().Position
			return nil, []Diagnostic{src.at(p.Line, 1, len(src.line(p.Line)), "", "a YAML directive has no place in a job file", "remove this line")}
		}
		if body != nil {
			line := firstPos(doc.Body).Line
			if doc.Start != nil {
				line = doc.Start.Position.Line
			}
			return nil, []Diagnostic{src.at(line, 1, 3, "", "a second document begins here: a job file is one job", "move it to a file of its own")}
		}
		body = doc.Body
	}
	if body == nil {
		return nil, []Diagnostic{{File: src.name, Message: "the file is empty", Hint: "a smallest job file is `command: [/bin/true]`"}}
	}
	c := converter{src: src, anchors: map[string]ast.Node{}, open: map[string]bool{}}
	root = c.node(body)
	if len(c.diags) > 0 {
		return nil, c.diags
	}
	return root, nil
}

// tokenize splits text and stops at nesting that is too deep, before anything
// recurses into it.
func tokenize(src *source, text string) (toks token.Tokens, ds []Diagnostic) {
	var sc scanner.Scanner
	sc.Init(text)
	var depth nesting
	for {
		part, err := sc.Scan()
		if errors.Is(err, io.EOF) {
			return toks, nil
		}
		// Any other error is among the tokens as well, where the parser
		// finds it; nothing after it means anything.
		toks.Add(part...)
		for _, t := range part {
			if msg := depth.add(t); msg != "" {
				return nil, []Diagnostic{src.at(t.Position.Line, t.Position.Column, 1, "", msg, "")}
			}
		}
		if err != nil {
			return toks, nil
		}
	}
}

// nesting follows how deep the parser would recurse.
type nesting struct{ flow, run int }

func (d *nesting) add(t *token.Token) string {
	switch t.Type {
	case token.SequenceStartType, token.MappingStartType:
		d.flow++
		d.run = 0
	case token.SequenceEndType, token.MappingEndType:
		d.flow = max(d.flow-1, 0)
		d.run = 0
	case token.SequenceEntryType, token.MappingKeyType, token.AnchorType, token.TagType, token.MappingValueType:
		d.run++
	case token.StringType:
		// The name of an anchor does not end a row of markers; another line
		// does.
		if t.Prev != nil && t.Prev.Position.Line != t.Position.Line {
			d.run = 0
		}
	default:
		d.run = 0
	}
	switch {
	case t.Position.IndentNum > maxIndent:
		return fmt.Sprintf("indented by more than %d spaces", maxIndent)
	case d.flow > maxDepth, d.run > maxDepth:
		return fmt.Sprintf("nested more than %d levels deep", maxDepth)
	}
	return ""
}

// syntaxError translates an error of the YAML library, whose words are about
// its grammar, into what a person should change.
func syntaxError(src *source, toks token.Tokens, err error) Diagnostic {
	located, ok := err.(interface {
		GetToken() *token.Token
		GetMessage() string
	})
	if !ok || located.GetToken() == nil {
		return Diagnostic{File: src.name, Message: "this is not YAML: " + firstLine(err.Error())}
	}
	tok, msg := located.GetToken(), located.GetMessage()
	line, col := tok.Position.Line, tok.Position.Column
	open := openBracket(toks, tok)
	switch {
	case tok.Type == token.MappingStartType && tok.Prev != nil && tok.Prev.Type == token.StringType && tok.Prev.Position.Line == line:
		word := strings.TrimSpace(tok.Prev.Value) + "{…}"
		return src.at(line, col, 1, "", "a `{` inside an unquoted word of a list", fmt.Sprintf("quote the whole word: %q", word))
	case open != nil && (strings.Contains(msg, "must be specified") || strings.Contains(msg, "end token")) && (open.Position.Line != line || open == tok):
		want := map[string]string{"[": "]", "{": "}"}[open.Value]
		return src.at(open.Position.Line, open.Position.Column, 1, "", fmt.Sprintf("this `%s` is not closed", open.Value), fmt.Sprintf("add `%s`, or a comma where an element ends", want))
	case strings.Contains(msg, "must be specified"):
		return src.at(line, col, 1, "", "a comma or a closing bracket is missing before this", "")
	case strings.Contains(msg, "'\t'") || strings.Contains(msg, "tab"):
		if before, _, ok := strings.Cut(src.line(line), "\t"); ok {
			col = len([]rune(before)) + 1
		}
		return src.at(line, col, 1, "", "a tab in the indentation", "YAML indents with spaces")
	case strings.Contains(msg, "end character of double-quoted"), strings.Contains(msg, "end character of single-quoted"):
		return src.at(line, col, 1, "", "this quote is not closed", "add the closing quote")
	case strings.Contains(msg, "mapping value is not allowed"):
		if lines := strings.Count(strings.TrimSpace(tok.Origin), "\n"); lines > 0 {
			l := src.line(line + lines)
			indent := len(l) - len(strings.TrimLeft(l, " "))
			return src.at(line+lines, indent+1, 1, "", "this line is indented so that it continues the value above it", "indent the keys of one mapping equally")
		}
		return src.at(line, col+len([]rune(strings.TrimSpace(tok.Value))), 1, "", "a second `: ` in one value", "quote the value, or use a block: `run: |` and the text in the lines below")
	case strings.Contains(msg, "reserved character"):
		return src.at(line, col, 1, "", fmt.Sprintf("a value must not begin with `%s`", strings.TrimSpace(tok.Value)), "quote it")
	case strings.Contains(msg, "unexpected directive"):
		return src.at(line, col, 1, "", "a value must not begin with `%`", "quote it")
	case strings.Contains(msg, "value is not allowed in this context") && strings.ContainsAny(tok.Value, "]}"):
		return src.at(line, col, 1, "", fmt.Sprintf("`%s` closes nothing", strings.TrimSpace(tok.Value)), "remove it, or quote the value that it belongs to")
	}
	return src.at(line, col, 1, "", "this is not YAML: "+firstLine(msg), "")
}

func firstLine(s string) string {
	s, _, _ = strings.Cut(s, "\n")
	return s
}

// openBracket returns the innermost bracket that is open at tok, or nil.
func openBracket(toks token.Tokens, tok *token.Token) *token.Token {
	var stack []*token.Token
	for _, t := range toks {
		if t.Position.Offset > tok.Position.Offset {
			break
		}
		switch t.Type {
		case token.SequenceStartType, token.MappingStartType:
			stack = append(stack, t)
		case token.SequenceEndType, token.MappingEndType:
			if len(stack) > 0 && t != tok {
				stack = stack[:len(stack)-1]
			}
		default:
		}
	}
	if len(stack) == 0 {
		return nil
	}
	return stack[len(stack)-1]
}

// firstPos is where n begins; the library gives a block mapping the position
// of its first colon.
func firstPos(n ast.Node) *token.Position {
	switch n := n.(type) {
	case *ast.MappingNode:
		if !n.IsFlowStyle && len(n.Values) > 0 {
			return n.Values[0].Key.GetToken().Position
		}
	case *ast.MappingValueNode:
		return n.Key.GetToken().Position
	}
	return n.GetToken().Position
}
