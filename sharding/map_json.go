// SPDX-License-Identifier: Apache-2.0

package sharding

import (
	"bytes"
	"encoding/json"
	"errors"
	"strconv"
	"strings"
)

// jsonString is the text of a raw JSON string.
func jsonString(raw []byte) string {
	if len(raw) < 2 {
		return ""
	}
	if bytes.IndexByte(raw, '\\') < 0 {
		return strings.ToValidUTF8(string(raw[1:len(raw)-1]), "\ufffd")
	}
	var s string
	if err := json.Unmarshal(raw, &s); err != nil {
		return string(raw) // cannot be: the line was valid
	}
	return s
}

// jsonValue is the parameter value of a raw JSON value: strings and booleans
// as they are; null is absent; objects and arrays are their compact text. A
// number is an integer when it is one that fits, else a float; an integer too
// large for both keeps its text, because ids must not lose digits.
func jsonValue(raw []byte) Value {
	if len(raw) == 0 {
		return Value{}
	}
	switch raw[0] {
	case '"':
		return StringValue(jsonString(raw))
	case 't', 'f':
		return BoolValue(raw[0] == 't')
	case 'n':
		return Value{}
	case '{', '[':
		var b bytes.Buffer
		if err := json.Compact(&b, raw); err != nil {
			return StringValue(string(raw)) // cannot be: the line was valid
		}
		return StringValue(b.String())
	}
	text := string(raw)
	if n, err := strconv.ParseInt(text, 10, 64); err == nil {
		return IntValue(n)
	}
	if strings.ContainsAny(text, ".eE") {
		if f, err := strconv.ParseFloat(text, 64); err == nil {
			return FloatValue(f)
		}
	}
	return StringValue(text)
}

// jsonKeys collects the keys of the lines of a data set. Most lines have the
// keys of the line before, which costs one comparison.
type jsonKeys struct {
	last  []byte // raw keys of the last line, one after the other
	now   []byte
	names []string
	seen  nameSet
	// More names than maxColumns: keys are data here, and no list is kept.
	open bool
}

// add checks one line: valid JSON, an object, keys that name parameters without
// a clash.
func (k *jsonKeys) add(rec rawRecord) error {
	k.now = k.now[:0]
	object, valid := jsonMembers(rec.raw, func(key, _ []byte) { k.now = append(k.now, key...) })
	if !valid {
		return jsonError(rec)
	}
	if !object {
		return &lineError{rec.line, 1, "not a JSON object: every line must be one, as in {\"a\": 1}"}
	}
	if k.seen != nil && bytes.Equal(k.now, k.last) {
		return nil
	}
	var raw []string
	jsonMembers(rec.raw, func(key, _ []byte) { raw = append(raw, jsonString(key)) })
	names, err := columnNames(raw, "key")
	if err != nil {
		return &lineError{rec.line, 0, err.Error()}
	}
	k.last, k.now = k.now, k.last
	if k.seen == nil {
		k.seen = make(nameSet)
	}
	for _, name := range names {
		if k.open {
			continue
		}
		switch other, ok := k.seen.add(name); {
		case !ok && other == name:
		case !ok:
			// Records that differ in case would share a variable too, one after
			// the other, and a program would take them for one field.
			return &lineError{rec.line, 0, "the keys " + sameVariable(name, other)}
		case len(k.names) == maxColumns:
			k.open, k.names = true, nil
		default:
			k.names = append(k.names, name)
		}
	}
	return nil
}

func jsonError(rec rawRecord) error {
	var v json.RawMessage
	err := json.Unmarshal(rec.raw, &v)
	if syntax, ok := errors.AsType[*json.SyntaxError](err); ok {
		column := int(syntax.Offset)
		if strings.HasPrefix(syntax.Error(), "unexpected end") {
			column++ // the mistake is what is not there
		}
		return &lineError{rec.line, max(column, 1), "invalid JSON: " + syntax.Error()}
	}
	return &lineError{rec.line, 0, "invalid JSON"}
}
