//go:build race

package hosttest

const underRace = true
