// SPDX-License-Identifier: Apache-2.0

package jobfile

import (
	"fmt"

	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/token"
)

// converter makes nodes of the library's tree and expands aliases and merge
// keys on the way.
type converter struct {
	src     *source
	anchors map[string]ast.Node
	// open are the anchors that are being expanded: one that meets itself is
	// an error, not an endless loop.
	open map[string]bool
	// aliases is the depth of aliases being expanded, expanded how many
	// values all of them have made.
	aliases, expanded int
	diags             []Diagnostic
}

func (c *converter) fail(p *token.Position, length int, msg, hint string) *node {
	c.diags = append(c.diags, c.src.at(p.Line, p.Column, length, "", msg, hint))
	return &node{src: c.src, line: p.Line, col: p.Column}
}

func (c *converter) node(a ast.Node) *node {
	if a == nil {
		return &node{src: c.src, line: 1, col: 1}
	}
	p := firstPos(a)
	if c.aliases > 0 {
		if c.expanded++; c.expanded == maxExpanded+1 {
			c.fail(p, 1, fmt.Sprintf("aliases expand to more than %d values", maxExpanded), "write the values out, or put points into a table: sweep: {sampler: file, file: points.csv}")
		}
		if c.expanded > maxExpanded {
			return &node{src: c.src, line: p.Line, col: p.Column}
		}
	}
	n := &node{src: c.src, line: p.Line, col: p.Column}
	switch a := a.(type) {
	case *ast.MappingNode:
		c.mapping(n, a.Values)
	case *ast.MappingValueNode:
		c.mapping(n, []*ast.MappingValueNode{a})
	case *ast.SequenceNode:
		n.kind = kindList
		n.items = make([]*node, 0, len(a.Values))
		for _, v := range a.Values {
			if c.expanded > maxExpanded {
				break
			}
			n.items = append(n.items, c.node(v))
		}
	case *ast.LiteralNode:
		n.kind, n.style, n.text = kindString, styleBlock, a.Value.Value
	case *ast.AnchorNode:
		return c.anchor(a)
	case *ast.AliasNode:
		return c.alias(a)
	case *ast.TagNode:
		return c.tag(a)
	case *ast.MappingKeyNode:
		return c.fail(p, 1, "`?` keys are not supported", "write `key: value`")
	default:
		c.scalar(n, a)
	}
	return n
}

func (c *converter) scalar(n *node, a ast.Node) {
	t := a.GetToken()
	switch t.Type {
	case token.SingleQuoteType:
		n.kind, n.style, n.text = kindString, styleSingle, t.Value
	case token.DoubleQuoteType:
		n.kind, n.style, n.text = kindString, styleDouble, t.Value
	case token.ImplicitNullType:
		n.kind = kindNull
	default:
		n.resolve(t.Value)
	}
}

func (c *converter) mapping(n *node, values []*ast.MappingValueNode) {
	n.kind = kindMap
	n.entries = make([]entry, 0, len(values))
	seen := make(map[string]*node, len(values))
	var merges []*node
	for _, v := range values {
		if c.expanded > maxExpanded {
			return
		}
		if _, ok := v.Key.(*ast.MergeKeyNode); ok {
			merges = append(merges, c.node(v.Value))
			continue
		}
		key := c.node(v.Key)
		if !key.scalar() {
			c.fail(firstPos(v.Key), 1, "a key must be a word", "")
			continue
		}
		if first := seen[key.text]; first != nil {
			c.diags = append(c.diags, key.diag("", fmt.Sprintf("key %q is given twice; the first is in line %d", clip(key.text, 60), first.line), "remove one of them"))
			continue
		}
		seen[key.text] = key
		n.entries = append(n.entries, entry{key, c.node(v.Value)})
	}
	for _, m := range merges {
		c.merge(n, seen, m)
	}
}

// merge adds the entries of a `<<:` value that n does not have itself.
func (c *converter) merge(n *node, seen map[string]*node, m *node) {
	if m.kind == kindList {
		for _, it := range m.items {
			if it.kind == kindList {
				c.diags = append(c.diags, it.diag("", "`<<` takes a mapping or a list of mappings, not a list of lists", ""))
				return
			}
			c.merge(n, seen, it)
		}
		return
	}
	if m.kind != kindMap {
		if len(c.diags) == 0 {
			c.diags = append(c.diags, m.diag("", "`<<` takes a mapping, not "+m.describe(), ""))
		}
		return
	}
	for _, e := range m.entries {
		if seen[e.key.text] == nil {
			seen[e.key.text] = e.key
			n.entries = append(n.entries, e)
		}
	}
}

func (c *converter) anchor(a *ast.AnchorNode) *node {
	name := a.Name.GetToken().Value
	c.anchors[name] = a.Value
	if a.Value == nil {
		return c.fail(a.GetToken().Position, 1, fmt.Sprintf("the anchor &%s has no value", clip(name, 60)), "")
	}
	c.open[name] = true
	n := c.node(a.Value)
	delete(c.open, name)
	return n
}

func (c *converter) alias(a *ast.AliasNode) *node {
	name := a.Value.GetToken().Value
	p := a.GetToken().Position
	length := 1 + len([]rune(name))
	target, ok := c.anchors[name]
	switch {
	case !ok:
		return c.fail(p, length, fmt.Sprintf("*%s: there is no anchor &%s before this", clip(name, 60), clip(name, 60)), "a word that begins with `*` must be quoted")
	case c.open[name]:
		return c.fail(p, length, fmt.Sprintf("*%s is inside of &%s, which it would repeat", clip(name, 60), clip(name, 60)), "")
	}
	c.open[name] = true
	c.aliases++
	n := c.node(target)
	c.aliases--
	delete(c.open, name)
	return n
}

func (c *converter) tag(a *ast.TagNode) *node {
	t := a.GetToken()
	switch t.Value {
	case "!!str", "!":
		n := c.node(a.Value)
		if n.kind == kindList || n.kind == kindMap {
			return c.fail(t.Position, len(t.Value), t.Value+" before "+n.describe(), "remove it")
		}
		n.kind = kindString
		return n
	case "!!map", "!!seq", "!!int", "!!float", "!!bool", "!!null":
		n := c.node(a.Value)
		want := map[string]kind{"!!map": kindMap, "!!seq": kindList, "!!int": kindInt, "!!float": kindFloat, "!!bool": kindBool, "!!null": kindNull}[t.Value]
		if n.kind == kindInt && want == kindFloat {
			n.kind = kindFloat
			n.f = float64(n.mag)
			if n.neg {
				n.f = -n.f
			}
		}
		if n.kind != want && len(c.diags) == 0 {
			return c.fail(t.Position, len(t.Value), t.Value+" before "+n.describe(), "remove it")
		}
		return n
	}
	return c.fail(t.Position, len([]rune(t.Value)), fmt.Sprintf("the YAML tag %s means nothing in a job file", clip(t.Value, 60)), "remove it, or quote the value")
}
