// SPDX-License-Identifier: Apache-2.0

package sharding

import (
	"strings"

	"github.com/expr-lang/expr/ast"
)

// compiler turns one expression into closures, checking types on the way.
type compiler struct {
	path, src string
	scope     scope
	vars      []int
	nodes     int
}

func (c *compiler) fail(n ast.Node, format string, args ...any) error {
	e := errAt(c.path, c.src, format, args...)
	e.Offset = byteOffset(c.src, n.Location().From)
	return e
}

func (c *compiler) compile(n ast.Node) (evalFunc, kindSet, error) {
	c.nodes++
	switch n := n.(type) {
	case *ast.IdentifierNode:
		return c.identifier(n)
	case *ast.IntegerNode:
		return constant(IntValue(int64(n.Value)))
	case *ast.FloatNode:
		if err := checkFinite("", n.Value); err != nil {
			return nil, 0, c.fail(n, "is not a finite number")
		}
		return constant(FloatValue(n.Value))
	case *ast.StringNode:
		return constant(StringValue(n.Value))
	case *ast.BoolNode:
		return constant(BoolValue(n.Value))
	case *ast.NilNode:
		return nil, 0, c.fail(n, "nil is only compared with == and !=")
	case *ast.ArrayNode:
		return nil, 0, c.fail(n, "a list only stands to the right of in")
	case *ast.UnaryNode:
		return c.unary(n)
	case *ast.BinaryNode:
		return c.binary(n)
	case *ast.CallNode, *ast.BuiltinNode:
		return nil, 0, c.fail(n, "functions are not available in the expressions of a sweep")
	}
	return nil, 0, c.fail(n, "only parameters, numbers, strings, lists and operators are available in the expressions of a sweep")
}

func constant(v Value) (evalFunc, kindSet, error) {
	return func([]Value) Value { return v }, kindSetOf(v), nil
}

func (c *compiler) identifier(n *ast.IdentifierNode) (evalFunc, kindSet, error) {
	i, ok := c.scope.index[n.Value]
	if !ok {
		return nil, 0, c.fail(n, "%s is not a parameter of the sweep (%s); strings are written in quotes",
			clipText(n.Value), clipText(strings.Join(c.scope.names, ", ")))
	}
	c.vars = append(c.vars, i)
	kinds := c.scope.kinds[i]
	if kinds == 0 { // a column without a single cell
		kinds = kindAny
	}
	return func(env []Value) Value { return env[i] }, kinds, nil
}

func (c *compiler) unary(n *ast.UnaryNode) (evalFunc, kindSet, error) {
	f, k, err := c.compile(n.Node)
	if err != nil {
		return nil, 0, err
	}
	switch n.Operator {
	case "not", "!":
		if k != kindBool {
			return nil, 0, c.fail(n, "%s needs true or false, but got %s", n.Operator, k)
		}
		return func(env []Value) Value {
			v := f(env)
			if v.kind != KindBool {
				return Value{}
			}
			return BoolValue(v.bits == 0)
		}, kindBool, nil
	case "-", "+":
		if k&kindNumber == 0 {
			return nil, 0, c.fail(n, "%s needs a number, but got %s", n.Operator, k)
		}
		if n.Operator == "+" {
			return numberOnly(f), k & kindNumber, nil
		}
		return func(env []Value) Value { return arithmetic('-', IntValue(0), f(env)) }, kindNumber, nil
	}
	return nil, 0, c.fail(n, "operator %s is not available here", n.Operator)
}

func numberOnly(f evalFunc) evalFunc {
	return func(env []Value) Value {
		if v := f(env); v.isNumber() {
			return v
		}
		return Value{}
	}
}

func (c *compiler) binary(n *ast.BinaryNode) (evalFunc, kindSet, error) {
	switch n.Operator {
	case "==", "!=":
		if f, ok, err := c.presence(n); ok || err != nil {
			return f, kindBool, err
		}
	case "in":
		f, err := c.membership(n)
		return f, kindBool, err
	}
	l, lk, err := c.compile(n.Left)
	if err != nil {
		return nil, 0, err
	}
	r, rk, err := c.compile(n.Right)
	if err != nil {
		return nil, 0, err
	}
	both := func(want kindSet) error {
		for _, side := range []struct {
			node ast.Node
			kind kindSet
		}{{n.Left, lk}, {n.Right, rk}} {
			if side.kind&want == 0 || (want == kindBool && side.kind != kindBool) {
				return c.fail(side.node, "%s needs %s on both sides, but this is %s", n.Operator, want, side.kind)
			}
		}
		return nil
	}
	switch n.Operator {
	case "and", "&&":
		return func(env []Value) Value { return kleeneAnd(l, r, env) }, kindBool, both(kindBool)
	case "or", "||":
		return func(env []Value) Value { return kleeneOr(l, r, env) }, kindBool, both(kindBool)
	case "==", "!=":
		if !lk.comparable(rk) {
			return nil, 0, c.fail(n, "%s is never equal to %s", lk, rk)
		}
		negate := n.Operator == "!="
		return func(env []Value) Value { return equal(l(env), r(env), negate) }, kindBool, nil
	case "<", "<=", ">", ">=":
		if lk.widen()&rk.widen()&(kindNumber|kindString) == 0 {
			return nil, 0, c.fail(n, "%s compares two numbers or two strings, not %s and %s", n.Operator, lk, rk)
		}
		test := orderTests[n.Operator]
		return func(env []Value) Value { return ordered(l(env), r(env), test) }, kindBool, nil
	case "contains", "startsWith", "endsWith":
		test := stringTests[n.Operator]
		return func(env []Value) Value { return stringTest(l(env), r(env), test) }, kindBool, both(kindString)
	case "+", "-", "*", "/", "%", "**", "^":
		op := n.Operator[0]
		if n.Operator == "**" {
			op = '^'
		}
		return func(env []Value) Value { return arithmetic(op, l(env), r(env)) }, kindNumber, both(kindNumber)
	case "??":
		return func(env []Value) Value {
			if v := l(env); v.Present() {
				return v
			}
			return r(env)
		}, lk | rk, nil
	}
	return nil, 0, c.fail(n, "operator %s is not available in the expressions of a sweep", n.Operator)
}

// presence compiles `x == nil` and `x != nil`.
func (c *compiler) presence(n *ast.BinaryNode) (f evalFunc, ok bool, err error) {
	side := n.Left
	if _, isNil := n.Right.(*ast.NilNode); !isNil {
		if _, isNil := n.Left.(*ast.NilNode); !isNil {
			return nil, false, nil
		}
		side = n.Right
	}
	x, _, err := c.compile(side)
	if err != nil {
		return nil, false, err
	}
	want := n.Operator == "!="
	return func(env []Value) Value { return BoolValue(x(env).Present() == want) }, true, nil
}

// membership compiles `x in [a, b]`.
func (c *compiler) membership(n *ast.BinaryNode) (evalFunc, error) {
	x, xk, err := c.compile(n.Left)
	if err != nil {
		return nil, err
	}
	list, ok := n.Right.(*ast.ArrayNode)
	if !ok {
		return nil, c.fail(n.Right, "in needs a list to its right: in [1, 2]")
	}
	if len(list.Nodes) == 0 {
		return nil, c.fail(list, "the list is empty, so nothing is in it")
	}
	elements := make([]evalFunc, len(list.Nodes))
	for i, node := range list.Nodes {
		f, k, err := c.compile(node)
		if err != nil {
			return nil, err
		}
		if !xk.comparable(k) {
			return nil, c.fail(node, "%s is never equal to %s", xk, k)
		}
		elements[i] = f
	}
	return func(env []Value) Value {
		v := x(env)
		unknown := false
		for _, f := range elements {
			got := equal(v, f(env), false)
			if got.Bool() {
				return got
			}
			unknown = unknown || !got.Present()
		}
		if unknown {
			return Value{}
		}
		return BoolValue(false)
	}, nil
}

var orderTests = map[string]func(int) bool{
	"<":  func(c int) bool { return c < 0 },
	"<=": func(c int) bool { return c <= 0 },
	">":  func(c int) bool { return c > 0 },
	">=": func(c int) bool { return c >= 0 },
}

var stringTests = map[string]func(s, part string) bool{
	"contains":   strings.Contains,
	"startsWith": strings.HasPrefix,
	"endsWith":   strings.HasSuffix,
}
