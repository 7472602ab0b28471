// Package sim is `meshd sim`: scenarios of package netsim on the command line.
//
// Results go to the standard output, as a table or as JSON; a progress bar goes to the standard error if that is a terminal
// and the run takes longer than a second. The commands open no socket and write no file but what --plot and
// --record name. An end of the context ends a run within moments; what was complete by then is printed.
//
// The commands fail if a run did not end by itself, broke an invariant or missed a goal, and with a UsageError if a
// scenario is wrong.
package sim
