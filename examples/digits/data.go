// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bufio"
	"compress/gzip"
	"encoding/csv"
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
)

const (
	pixels    = 64 // 8 × 8
	classes   = 10
	maxBright = 16
)

// digit is one image, brightness scaled to [0, 1], and what it shows.
type digit struct {
	image [pixels]float64
	label int
}

// readDigits reads rows of 64 brightnesses in [0, 16] and a label in [0, 9].
func readDigits(name string) ([]digit, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, fmt.Errorf("read data: %w", err)
	}
	defer f.Close()
	digits, err := parseDigits(f)
	if err != nil {
		return nil, fmt.Errorf("read data %s: %w", name, err)
	}
	return digits, nil
}

func parseDigits(r io.Reader) ([]digit, error) {
	buffered := bufio.NewReader(r)
	var text io.Reader = buffered
	// The content and not the name decides: a snapshot may be renamed.
	if magic, err := buffered.Peek(2); err == nil && magic[0] == 0x1f && magic[1] == 0x8b {
		unzipped, err := gzip.NewReader(buffered)
		if err != nil {
			return nil, err
		}
		text = unzipped
	}
	rows := csv.NewReader(text)
	rows.FieldsPerRecord = pixels + 1
	rows.ReuseRecord = true
	var digits []digit
	for {
		row, err := rows.Read()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return nil, err
		}
		d, column, err := parseDigit(row)
		if err != nil {
			line, at := rows.FieldPos(column)
			return nil, fmt.Errorf("line %d, column %d: %w", line, at, err)
		}
		digits = append(digits, d)
	}
	if len(digits) < minDigits {
		return nil, fmt.Errorf("%d rows, want at least %d to split", len(digits), minDigits)
	}
	return digits, nil
}

// parseDigit also says in which field it stopped.
func parseDigit(row []string) (d digit, field int, err error) {
	for i, text := range row[:pixels] {
		v, err := strconv.ParseFloat(text, 64)
		// Written so that NaN fails too.
		if err != nil || !(v >= 0 && v <= maxBright) {
			return d, i, fmt.Errorf("brightness %q is not a number from 0 to %d", text, maxBright)
		}
		d.image[i] = v / maxBright
	}
	v, err := strconv.ParseFloat(row[pixels], 64)
	if err != nil || !(v >= 0 && v < classes) || v != float64(int(v)) {
		return d, pixels, fmt.Errorf("label %q is not a digit", row[pixels])
	}
	d.label = int(v)
	return d, 0, nil
}

// minDigits leaves at least one row on each side of the split.
const minDigits = 4

// split takes the last quarter for validation. It does not depend on the seed:
// points with other seeds are compared on the same digits.
func split(digits []digit) (training, validation []digit) {
	at := len(digits) - len(digits)/4
	return digits[:at], digits[at:]
}
