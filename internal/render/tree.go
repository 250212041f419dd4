// SPDX-License-Identifier: Apache-2.0

package render

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"math"
	"strconv"
	"strings"

	"github.com/goccy/go-yaml"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
)

// Object is a JSON object that keeps the order of its fields.
type Object []Field

// Field is one field of an Object. Value is nil, a bool, a string, an int, an
// int64, a uint64, a float64, a json.Number, an Object or a []any of these.
type Field struct {
	Name  string
	Value any
}

// documents are the string fields that hold JSON.
var documents = map[protoreflect.FullName]bool{
	"volley.v1.Child.params": true,
	"volley.v1.Child.output": true,
}

// Message turns a message into an Object.
func Message(m proto.Message) Object { return message(m.ProtoReflect()) }

func message(m protoreflect.Message) Object {
	fields := m.Descriptor().Fields()
	o := make(Object, 0, fields.Len())
	for i := range fields.Len() {
		f := fields.Get(i)
		if !m.Has(f) && (f.HasPresence() || f.IsMap()) {
			continue
		}
		var v any
		if f.IsList() {
			l := m.Get(f).List()
			items := make([]any, 0, l.Len())
			for j := range l.Len() {
				items = append(items, scalar(f, l.Get(j)))
			}
			v = items
		} else {
			v = scalar(f, m.Get(f))
		}
		o = append(o, Field{Name: f.JSONName(), Value: v})
	}
	return o
}

func scalar(f protoreflect.FieldDescriptor, v protoreflect.Value) any {
	switch f.Kind() {
	case protoreflect.BoolKind:
		return v.Bool()
	case protoreflect.StringKind:
		if documents[f.FullName()] {
			return document(v.String())
		}
		return v.String()
	case protoreflect.BytesKind:
		return base64.StdEncoding.EncodeToString(v.Bytes())
	case protoreflect.EnumKind:
		return enumName(f.Enum(), v.Enum())
	case protoreflect.MessageKind, protoreflect.GroupKind:
		return message(v.Message())
	case protoreflect.FloatKind, protoreflect.DoubleKind:
		return v.Float()
	case protoreflect.Uint32Kind, protoreflect.Uint64Kind, protoreflect.Fixed32Kind, protoreflect.Fixed64Kind:
		return v.Uint()
	default:
		return v.Int()
	}
}

// enumName drops the prefix: JobState's JOB_STATE_RUNNING is RUNNING.
func enumName(d protoreflect.EnumDescriptor, n protoreflect.EnumNumber) string {
	v := d.Values().ByNumber(n)
	if v == nil {
		return strconv.Itoa(int(n))
	}
	zero := string(d.Values().Get(0).Name())
	return strings.TrimPrefix(string(v.Name()), strings.TrimSuffix(zero, "UNSPECIFIED"))
}

// Enum is the short name of an enum value.
func Enum(v protoreflect.Enum) string { return enumName(v.Descriptor(), v.Number()) }

// document parses JSON, keeping the order of keys and the spelling of
// numbers. What is not JSON stays a string; nothing is null.
func document(s string) any {
	if s == "" {
		return nil
	}
	if v, err := ParseJSON([]byte(s)); err == nil {
		return v
	}
	return s
}

// ParseJSON parses a document into the types of Field.Value.
func ParseJSON(b []byte) (any, error) {
	d := json.NewDecoder(bytes.NewReader(b))
	d.UseNumber()
	v, err := parseValue(d, 0)
	if err != nil {
		return nil, err
	}
	if d.More() {
		return nil, fmt.Errorf("text after the JSON document")
	}
	return v, nil
}

func parseValue(d *json.Decoder, depth int) (any, error) {
	const maxDepth = 1000 // what a task reports must not exhaust our stack
	if depth > maxDepth {
		return nil, fmt.Errorf("JSON nested deeper than %d", maxDepth)
	}
	t, err := d.Token()
	if err != nil {
		return nil, err
	}
	switch t {
	case json.Delim('{'):
		o := Object{}
		for d.More() {
			k, err := d.Token()
			if err != nil {
				return nil, err
			}
			v, err := parseValue(d, depth+1)
			if err != nil {
				return nil, err
			}
			o = append(o, Field{Name: k.(string), Value: v})
		}
		_, err = d.Token()
		return o, err
	case json.Delim('['):
		l := []any{}
		for d.More() {
			v, err := parseValue(d, depth+1)
			if err != nil {
				return nil, err
			}
			l = append(l, v)
		}
		_, err = d.Token()
		return l, err
	}
	return t, nil
}

// Get finds a field.
func (o Object) Get(name string) (any, bool) {
	for _, f := range o {
		if f.Name == name {
			return f.Value, true
		}
	}
	return nil, false
}

// MarshalJSON writes the fields in order.
func (o Object) MarshalJSON() ([]byte, error) { return appendJSON(nil, o) }

func appendJSON(b []byte, v any) ([]byte, error) {
	var err error
	switch v := v.(type) {
	case Object:
		b = append(b, '{')
		for i, f := range v {
			if i > 0 {
				b = append(b, ',')
			}
			if b, err = appendJSON(b, f.Name); err != nil {
				return nil, err
			}
			b = append(b, ':')
			if b, err = appendJSON(b, f.Value); err != nil {
				return nil, err
			}
		}
		return append(b, '}'), nil
	case []any:
		b = append(b, '[')
		for i, e := range v {
			if i > 0 {
				b = append(b, ',')
			}
			if b, err = appendJSON(b, e); err != nil {
				return nil, err
			}
		}
		return append(b, ']'), nil
	case float64:
		if math.IsNaN(v) || math.IsInf(v, 0) {
			return appendJSON(b, nonFinite(v)) // as protojson does
		}
	}
	var buf bytes.Buffer
	e := json.NewEncoder(&buf)
	e.SetEscapeHTML(false) // a command line with && stays one
	if err := e.Encode(v); err != nil {
		return nil, err
	}
	return append(b, bytes.TrimSuffix(buf.Bytes(), []byte("\n"))...), nil
}

func nonFinite(v float64) string {
	switch {
	case math.IsInf(v, 1):
		return "Infinity"
	case math.IsInf(v, -1):
		return "-Infinity"
	}
	return "NaN"
}

// Compact is the object as one line of JSON.
func (o Object) Compact() ([]byte, error) { return appendJSON(nil, o) }

// forYAML turns the tree into what the YAML encoder knows.
func forYAML(v any) any {
	switch v := v.(type) {
	case Object:
		m := make(yaml.MapSlice, 0, len(v))
		for _, f := range v {
			m = append(m, yaml.MapItem{Key: f.Name, Value: forYAML(f.Value)})
		}
		return m
	case []any:
		l := make([]any, 0, len(v))
		for _, e := range v {
			l = append(l, forYAML(e))
		}
		return l
	case json.Number:
		if i, err := strconv.ParseInt(v.String(), 10, 64); err == nil {
			return i
		}
		if !strings.ContainsAny(v.String(), ".eE") {
			return yamlNumber(v.String()) // larger than any integer of the encoder
		}
		f, err := v.Float64()
		if err != nil {
			return v.String()
		}
		return yamlFloat(f)
	case float64:
		return yamlFloat(v)
	}
	return v
}

// yamlNumber is a number in its own spelling.
type yamlNumber string

func (n yamlNumber) MarshalYAML() ([]byte, error) { return []byte(n), nil }

// yamlFloat spells 1e-05 so that it is a number in YAML 1.1, too, which most
// readers still follow: with a point.
func yamlFloat(f float64) any {
	mantissa, exponent, ok := strings.Cut(strconv.FormatFloat(f, 'g', -1, 64), "e")
	if !ok {
		return f
	}
	if !strings.Contains(mantissa, ".") {
		mantissa += ".0"
	}
	return yamlNumber(mantissa + "e" + exponent)
}
