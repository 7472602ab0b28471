//go:build race

package exchange

// underRace is set where everything takes ten times as long: arbiters then answer too late, and others take
// over what is under way, so that byte counts say nothing.
const underRace = true
