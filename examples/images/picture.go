// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"image"
	_ "image/jpeg" // decoders register themselves
	_ "image/png"
	"io"
	"os"
)

const (
	// grid is the side of the square to which every picture is scaled:
	// descriptors of large and small pictures must be comparable.
	grid = 64
	// maxPixels bounds the memory that a file may ask for. The size in the
	// header is checked before anything is decoded: a few hundred bytes can
	// claim to be a picture of gigabytes.
	maxPixels = 64 << 20
)

// colour is red, green and blue in [0, 1].
type colour [3]float64

// picture is a decoded image, scaled to the grid.
type picture struct {
	pixels        [grid * grid]colour
	width, height int // before scaling
	format        string
}

func readPicture(name string) (*picture, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, fmt.Errorf("read image: %w", err)
	}
	defer f.Close()
	p, err := decodePicture(f)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	return p, nil
}

func decodePicture(r io.ReadSeeker) (*picture, error) {
	header, format, err := image.DecodeConfig(r)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", errImage, err)
	}
	if header.Width < 1 || header.Height < 1 || header.Width > maxPixels/header.Height {
		return nil, fmt.Errorf("%w: %d × %d pixels, want at most %d in all", errImage, header.Width, header.Height, maxPixels)
	}
	if _, err := r.Seek(0, io.SeekStart); err != nil {
		return nil, fmt.Errorf("read image: %w", err)
	}
	img, _, err := image.Decode(r)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", errImage, err)
	}
	p := &picture{width: header.Width, height: header.Height, format: format}
	p.scale(img)
	return p, nil
}

// scale averages the box of source pixels under each pixel of the grid. Picking
// single pixels would make the edges of a large picture a matter of luck.
func (p *picture) scale(img image.Image) {
	b := img.Bounds()
	for y := range grid {
		top, bottom := box(y, b.Dy())
		for x := range grid {
			left, right := box(x, b.Dx())
			var sum colour
			for sy := top; sy < bottom; sy++ {
				for sx := left; sx < right; sx++ {
					r, g, bl, _ := img.At(b.Min.X+sx, b.Min.Y+sy).RGBA()
					sum[0] += float64(r)
					sum[1] += float64(g)
					sum[2] += float64(bl)
				}
			}
			n := float64((bottom-top)*(right-left)) * 0xffff
			p.pixels[y*grid+x] = colour{sum[0] / n, sum[1] / n, sum[2] / n}
		}
	}
}

// box is the range of source pixels for pixel i of the grid: never empty, also
// when the source is smaller than the grid.
func box(i, size int) (from, to int) {
	from, to = i*size/grid, (i+1)*size/grid
	return from, max(to, from+1)
}
