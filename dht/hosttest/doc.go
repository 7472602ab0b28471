// Package hosttest makes libp2p hosts on a simulated network, and data ports in memory, for tests in testing/synctest
// bubbles. Nothing that ships imports it.
//
// Who relays, and where a record lies, depends on peer ids. The same test gets the same ids each time, other ones with
// -hosts=N; what libp2p does by itself at random, and in which order goroutines run, stays as it is.
//
// While a test with the race detector has such hosts, one goroutine runs at a time: the detector of Go 1.26 falls over
// timers that several processors run in one bubble (golang/go#78156, open). It sees races by what happens before what, and
// so also those of goroutines that take turns.
package hosttest
