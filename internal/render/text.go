// SPDX-License-Identifier: Apache-2.0

package render

import (
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"golang.org/x/text/width"
)

// Clean makes a text safe for a terminal and keeps it on one line: white space
// becomes a blank, other control characters and invalid UTF-8 become U+FFFD.
func Clean(s string) string {
	return strings.Map(func(r rune) rune {
		switch {
		case r == '\n' || r == '\t' || r == '\r':
			return ' '
		case unicode.IsControl(r), r >= 0x202a && r <= 0x202e, r >= 0x2066 && r <= 0x2069:
			return utf8.RuneError // the last two ranges reorder what follows them
		}
		return r
	}, s)
}

// Width is the number of terminal cells of a clean text.
func Width(s string) int {
	n := 0
	for _, r := range s {
		n += runeWidth(r)
	}
	return n
}

func runeWidth(r rune) int {
	if r < 0x300 {
		return 1
	}
	if unicode.In(r, unicode.Mn, unicode.Me, unicode.Cf) {
		return 0
	}
	if k := width.LookupRune(r).Kind(); k == width.EastAsianWide || k == width.EastAsianFullwidth {
		return 2
	}
	return 1
}

// Truncate cuts a clean text to at most n cells, with an ellipsis.
func Truncate(s string, n int) string {
	if Width(s) <= n {
		return s
	}
	if n <= 0 {
		return ""
	}
	used := 0
	for i, r := range s {
		w := runeWidth(r)
		if used+w > n-1 {
			return s[:i] + "…"
		}
		used += w
	}
	return s
}

// Duration writes a length of time in about three figures: 350ms, 4.2s, 3m12s,
// 2h05m, 3d4h.
func Duration(d time.Duration) string {
	switch {
	case d < 0:
		return "-" + Duration(-d)
	case d == 0:
		return "0s"
	case d < time.Millisecond:
		return fmt.Sprintf("%dµs", d.Microseconds())
	case d < 10*time.Millisecond:
		return trimZero(fmt.Sprintf("%.1f", float64(d)/1e6)) + "ms"
	case d < time.Second-500*time.Microsecond:
		return fmt.Sprintf("%dms", d.Round(time.Millisecond).Milliseconds())
	case d < 10*time.Second-50*time.Millisecond:
		return trimZero(fmt.Sprintf("%.1f", d.Seconds())) + "s"
	}
	switch s := int64(d.Round(time.Second) / time.Second); {
	case s < 60:
		return fmt.Sprintf("%ds", s)
	case s < 3600:
		return fmt.Sprintf("%dm%02ds", s/60, s%60)
	case s < 24*3600:
		return fmt.Sprintf("%dh%02dm", s/3600, s/60%60)
	default:
		return fmt.Sprintf("%dd%dh", s/86400, s/3600%24)
	}
}

func trimZero(s string) string { return strings.TrimSuffix(s, ".0") }

// Bytes writes a size in binary units.
func Bytes(n int64) string {
	if n < 1024 {
		return fmt.Sprintf("%d B", n)
	}
	f, unit := float64(n), 0
	units := []string{"B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"}
	// 1023.5 would print as "1024 KiB".
	for f >= 1023.5 && unit < len(units)-1 {
		f /= 1024
		unit++
	}
	if f < 10 {
		return trimZero(fmt.Sprintf("%.1f", f)) + " " + units[unit]
	}
	return fmt.Sprintf("%.0f %s", f, units[unit])
}

// Count writes a number for prose: 1,234,567.
func Count[N ~int | ~int64 | ~uint64](n N) string {
	s := strconv.FormatUint(uint64(n), 10)
	if n < 0 {
		return "-" + Count(uint64(-n))
	}
	for i := len(s) - 3; i > 0; i -= 3 {
		s = s[:i] + "," + s[i:]
	}
	return s
}

// Plural is "1 task", "2 tasks".
func Plural[N ~int | ~int64 | ~uint64](n N, noun string) string {
	if n == 1 {
		return "1 " + noun
	}
	return Count(n) + " " + noun + "s"
}

// Number writes a metric: at most six significant digits, no trailing zeros.
func Number(f float64) string { return strconv.FormatFloat(f, 'g', 6, 64) }

// Time writes unix milliseconds in the local zone; zero is "-".
func Time(ms int64) string {
	if ms == 0 {
		return "-"
	}
	return time.UnixMilli(ms).Format("2006-01-02 15:04:05")
}

// Ago writes how long ago unix milliseconds are; zero is "-".
func Ago(ms int64, now time.Time) string {
	if ms == 0 {
		return "-"
	}
	return Duration(max(0, now.Sub(time.UnixMilli(ms))).Truncate(time.Second)) + " ago"
}

// Params writes the point of a child for people: lr=0.1 depth=4. What is not a
// JSON object is written as it is.
func Params(doc string) string {
	v, err := ParseJSON([]byte(doc))
	o, ok := v.(Object)
	if err != nil || !ok {
		return Clean(doc)
	}
	var b strings.Builder
	for i, f := range o {
		if i > 0 {
			b.WriteByte(' ')
		}
		b.WriteString(Clean(f.Name) + "=" + Value(f.Value))
	}
	return b.String()
}

// Value writes one parsed JSON value in one line.
func Value(v any) string {
	switch v := v.(type) {
	case nil:
		return ""
	case string:
		if v == "" || strings.ContainsAny(v, " \t\n=") {
			return Clean(strconv.Quote(v))
		}
		return Clean(v)
	case json.Number:
		return v.String()
	}
	b, err := appendJSON(nil, v)
	if err != nil {
		return "?"
	}
	return Clean(string(b))
}

// Short is Value with at most six significant digits.
func Short(v any) string {
	if n, ok := v.(json.Number); ok && strings.ContainsAny(n.String(), ".eE") {
		if f, err := n.Float64(); err == nil {
			return Number(f)
		}
	}
	return Value(v)
}
