// Package testlog sends what a program of tests logs to the test that runs, which shows it if it fails or with -v. On
// standard error, the errors of faults that tests make on purpose hide the real ones. Nothing that ships imports it.
package testlog
