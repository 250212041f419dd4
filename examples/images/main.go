// SPDX-License-Identifier: Apache-2.0

package main

import (
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
)

// resultsFile is where volley looks for what a task reports.
const resultsFile = "results.json"

// results are what one image gives.
type results struct {
	Label string `json:"label"`
	// 0: as near to the second class as to this one; 1: on the spot.
	Score  float64 `json:"score"`
	Width  int     `json:"width"`
	Height int     `json:"height"`
	Format string  `json:"format"`
	// Share of strong edges among all pixels.
	EdgeDensity float64 `json:"edge_density"`
	Brightness  float64 `json:"brightness"`
}

// Kinds of failure, each with an exit code of its own.
var (
	errUsage = errors.New("usage")
	errImage = errors.New("not a readable image")
)

// exitCode follows sysexits.h where it has a code: 65 is EX_DATAERR.
func exitCode(err error) int {
	switch {
	case err == nil || errors.Is(err, flag.ErrHelp):
		return 0
	case errors.Is(err, errUsage):
		return 2
	case errors.Is(err, errImage):
		return 65
	}
	return 1
}

func main() {
	err := run(os.Args[1:], os.Stdout, os.Stderr)
	code := exitCode(err)
	if code != 0 {
		fmt.Fprintln(os.Stderr, "classify:", err)
	}
	os.Exit(code)
}

func run(args []string, stdout, stderr io.Writer) error {
	flags := flag.NewFlagSet("classify", flag.ContinueOnError)
	flags.SetOutput(stderr)
	modelFile := flags.String("model", "model.json", "model, read to classify, written by -train")
	folder := flags.String("train", "", "fit a model to the images in `DIR`/<label>/")
	if err := flags.Parse(args); err != nil {
		if errors.Is(err, flag.ErrHelp) {
			return err
		}
		return fmt.Errorf("%w: %w", errUsage, err)
	}
	switch {
	case *folder != "" && flags.NArg() > 0:
		return fmt.Errorf("%w: -train takes no image, got %q", errUsage, flags.Arg(0))
	case *folder != "":
		return runTrain(*folder, *modelFile, stdout)
	case flags.NArg() != 1:
		return fmt.Errorf("%w: want one image, got %d arguments", errUsage, flags.NArg())
	}
	return runClassify(*modelFile, flags.Arg(0), stdout)
}

func runTrain(folder, modelFile string, stdout io.Writer) error {
	examples, err := readExamples(folder)
	if err != nil {
		return err
	}
	m, err := fit(examples)
	if err != nil {
		return fmt.Errorf("train on %s: %w", folder, err)
	}
	if err := writeJSON(modelFile, m, "  "); err != nil {
		return err
	}
	for _, c := range m.Classes {
		fmt.Fprintf(stdout, "%-10s %d images\n", c.Label, c.Images)
	}
	return nil
}

func runClassify(modelFile, image string, stdout io.Writer) error {
	m, err := readModel(modelFile)
	if err != nil {
		return err
	}
	p, err := readPicture(image)
	if err != nil {
		return err
	}
	d := describe(p.pixels)
	label, score := m.classify(d.features())
	r := results{
		Label: label, Score: score,
		Width: p.width, Height: p.height, Format: p.format,
		EdgeDensity: d.edgeDensity, Brightness: d.brightness,
	}
	if err := writeJSON(resultsFile, r, ""); err != nil {
		return err
	}
	fmt.Fprintf(stdout, "%s: %s (score %.2f)\n", image, label, score)
	return nil
}

// writeJSON writes through a second name: a task that is killed while it writes
// must not leave half a file that looks like a result.
func writeJSON(name string, v any, indent string) error {
	text, err := json.MarshalIndent(v, "", indent)
	if indent == "" {
		text, err = json.Marshal(v)
	}
	if err != nil {
		return fmt.Errorf("encode %s: %w", name, err)
	}
	if err := os.WriteFile(name+".tmp", append(text, '\n'), 0o644); err != nil {
		return fmt.Errorf("write %s: %w", name, err)
	}
	if err := os.Rename(name+".tmp", name); err != nil {
		return fmt.Errorf("write %s: %w", name, err)
	}
	return nil
}
