// SPDX-License-Identifier: Apache-2.0

package sharding

import (
	"errors"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/expr-lang/expr/ast"
	"github.com/expr-lang/expr/conf"
	"github.com/expr-lang/expr/file"
	"github.com/expr-lang/expr/parser"
)

// expression is a compiled `when` or a part of `exclude`.
//
// The syntax and its parser are expr-lang's. Its checker and its machine are
// not used: they know an absent parameter only as nil, on which `<` is an
// error at run time, and they would bring functions, reflection and a memory
// budget. What remains here is closed: no calls, no member access, no loops,
// so the cost of one evaluation is the number of nodes.
type expression struct {
	eval evalFunc
	// vars are the positions of the parameters mentioned, ascending.
	vars  []int
	nodes int
}

// evalFunc computes a node; env is indexed by parameter. The absent Value is
// the unknown truth value too.
type evalFunc func(env []Value) Value

// holds reports whether the expression is true; unknown counts as false.
func (e *expression) holds(env []Value) bool { return e.eval(env).Bool() }

// scope is the parameters that expressions may name.
type scope struct {
	names []string
	index map[string]int
	kinds []kindSet
}

// compileExpression returns the top-level alternatives of src: `a or b` is
// [a, b]. Excluding each by itself is the same as excluding their
// disjunction, and it ties fewer parameters together.
func compileExpression(path, src string, sc scope, split bool) ([]*expression, error) {
	switch {
	case len(src) > MaxExpression:
		return nil, errAt(path, clipText(src), "the expression has %d bytes; at most %d", len(src), MaxExpression)
	case !utf8.ValidString(src):
		return nil, errAt(path, clipText(src), "the expression is not valid UTF-8")
	case strings.TrimSpace(src) == "":
		return nil, errAt(path, src, "the expression is empty; leave the key out instead")
	}
	config := conf.CreateNew()
	clear(config.Builtins) // a parameter may be called `count` or `len`
	config.DisableIfOperator = true
	tree, err := parser.ParseWithConfig(src, config)
	if err != nil {
		return nil, parseError(path, src, err)
	}
	alternatives := []ast.Node{tree.Node}
	if split {
		alternatives = splitOr(nil, tree.Node)
	}
	list := make([]*expression, 0, len(alternatives))
	for _, n := range alternatives {
		c := compiler{path: path, src: src, scope: sc}
		fn, kinds, err := c.compile(n)
		if err != nil {
			return nil, err
		}
		if kinds != kindBool {
			return nil, c.fail(n, "must be true or false, but this is %s", kinds)
		}
		slices.Sort(c.vars)
		list = append(list, &expression{eval: fn, vars: slices.Compact(c.vars), nodes: c.nodes})
	}
	return list, nil
}

func splitOr(dst []ast.Node, n ast.Node) []ast.Node {
	if b, ok := n.(*ast.BinaryNode); ok && (b.Operator == "or" || b.Operator == "||") {
		return splitOr(splitOr(dst, b.Left), b.Right)
	}
	return append(dst, n)
}

func parseError(path, src string, err error) error {
	e := errAt(path, src, "not an expression: %s", err.Error())
	if fe, ok := errors.AsType[*file.Error](err); ok {
		e.Msg = "not an expression: " + fe.Message
		e.Offset = byteOffset(src, fe.From)
		if strings.Contains(fe.Message, "token EOF") {
			e.Msg, e.Offset = "not an expression: it ends too early", len(src)
		}
	}
	return e
}

// byteOffset turns the parser's count of characters into bytes.
func byteOffset(src string, runes int) int {
	for i := range src {
		if runes <= 0 {
			return i
		}
		runes--
	}
	return len(src)
}

// topological orders the parameters so that each comes after those that its
// `when` mentions, otherwise as declared. whens holds nil for parameters
// without a condition.
func topological(nameList []string, whens []*expression, sources []string) ([]int, error) {
	const (
		unseen = iota
		open
		done
	)
	state := make([]uint8, len(nameList))
	order := make([]int, 0, len(nameList))
	var trail []int
	var visit func(p int) error
	visit = func(p int) error {
		switch state[p] {
		case done:
			return nil
		case open:
			cycle := trail[slices.Index(trail, p):]
			var b strings.Builder
			for _, q := range cycle {
				b.WriteString(nameList[q] + " -> ")
			}
			b.WriteString(nameList[p])
			return errAt("sweep.params."+nameList[p]+".when", sources[p],
				"the conditions depend on each other in a cycle: %s", b.String())
		}
		state[p] = open
		trail = append(trail, p)
		if whens[p] != nil {
			for _, q := range whens[p].vars {
				if err := visit(q); err != nil {
					return err
				}
			}
		}
		trail = trail[:len(trail)-1]
		state[p] = done
		order = append(order, p)
		return nil
	}
	for p := range nameList {
		if err := visit(p); err != nil {
			return nil, err
		}
	}
	return order, nil
}
