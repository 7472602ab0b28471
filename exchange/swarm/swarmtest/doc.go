// Package swarmtest runs cores of package swarm against each other in virtual time, on a network of one latency and
// one rate per link: just enough to state and test what the policy promises. It has no goroutine, clock or file;
// the same network, seed and events give the same transcript. Package netsim models networks truly.
package swarmtest
