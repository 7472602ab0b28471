// Package storetest is the conformance kit of store.Backend and store.Keeper, and a backend in memory for tests.
//
// A backend's test hands the kit a way to make an empty one; the kit does the rest. What it asks for is what package store
// and the seeds rely on: a blob is there whole or not at all, under its very name, however many take it in at once; bytes
// that are not what the name says are refused; what is open outlives a drop, or fails, and never gives other bytes.
package storetest
