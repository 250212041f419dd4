// SPDX-License-Identifier: Apache-2.0

package main

import "math"

const (
	hueBins    = 8
	valueBins  = 8
	angleBins  = 4
	strongEdge = 0.1 // change of brightness from pixel to pixel
	// Number of features in a descriptor.
	features = hueBins + valueBins + angleBins + 3
)

// descriptor says what a picture looks like, whatever its size.
type descriptor struct {
	hue   [hueBins]float64   // shares of the hues, by saturation
	value [valueBins]float64 // shares of dark and bright
	angle [angleBins]float64 // shares of the directions of edges, by strength

	saturation  float64
	brightness  float64
	edgeDensity float64
}

// features is the descriptor as one vector.
func (d *descriptor) features() []float64 {
	v := make([]float64, 0, features)
	v = append(v, d.hue[:]...)
	v = append(v, d.value[:]...)
	v = append(v, d.angle[:]...)
	return append(v, d.saturation, d.brightness, d.edgeDensity)
}

func describe(pixels [grid * grid]colour) *descriptor {
	d := &descriptor{}
	var bright [grid * grid]float64
	for i, c := range pixels {
		hue, saturation, value := hsv(c)
		d.hue[min(int(hue*hueBins), hueBins-1)] += saturation
		d.value[min(int(value*valueBins), valueBins-1)]++
		d.saturation += saturation
		// Rec. 709: how bright people see it.
		bright[i] = 0.2126*c[0] + 0.7152*c[1] + 0.0722*c[2]
		d.brightness += bright[i]
	}
	d.edges(&bright)
	d.saturation /= grid * grid
	d.brightness /= grid * grid
	normalise(d.hue[:])
	normalise(d.value[:])
	normalise(d.angle[:])
	return d
}

// edges counts strong changes of brightness and where they point (Sobel).
func (d *descriptor) edges(bright *[grid * grid]float64) {
	at := func(x, y int) float64 { return bright[y*grid+x] }
	strong := 0
	for y := 1; y < grid-1; y++ {
		for x := 1; x < grid-1; x++ {
			right := at(x+1, y-1) + 2*at(x+1, y) + at(x+1, y+1)
			left := at(x-1, y-1) + 2*at(x-1, y) + at(x-1, y+1)
			below := at(x-1, y+1) + 2*at(x, y+1) + at(x+1, y+1)
			above := at(x-1, y-1) + 2*at(x, y-1) + at(x+1, y-1)
			dx, dy := (right-left)/8, (below-above)/8
			strength := math.Hypot(dx, dy)
			if strength > strongEdge {
				strong++
			}
			// An edge from dark to bright and one from bright to dark
			// have the same direction: half a turn is enough.
			angle := math.Atan2(dy, dx)/math.Pi + 1 // [0, 2]
			bin := int(math.Mod(angle, 1) * angleBins)
			d.angle[min(bin, angleBins-1)] += strength
		}
	}
	d.edgeDensity = float64(strong) / ((grid - 2) * (grid - 2))
}

// hsv is hue in [0, 1), saturation and value in [0, 1].
func hsv(c colour) (hue, saturation, value float64) {
	r, g, b := c[0], c[1], c[2]
	value = max(r, g, b)
	span := value - min(r, g, b)
	if span == 0 {
		return 0, 0, value
	}
	switch value {
	case r:
		hue = math.Mod((g-b)/span+6, 6)
	case g:
		hue = (b-r)/span + 2
	default:
		hue = (r-g)/span + 4
	}
	return hue / 6, span / value, value
}

// normalise makes the sum 1, or leaves all zero: a grey picture has no hue.
func normalise(v []float64) {
	sum := 0.0
	for _, x := range v {
		sum += x
	}
	if sum == 0 {
		return
	}
	for i := range v {
		v[i] /= sum
	}
}
