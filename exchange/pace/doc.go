// Package pace bounds how many bytes a second a node takes in and sends out.
//
// # What it owns
//
// Limiter is one rate for a whole host: every stream that moves bytes in its direction asks it, of whatever kind the
// stream is. Limits are the three that a node has. A rate may change at any time.
//
// # How exact it is
//
// It is a token bucket (golang.org/x/time/rate) that holds what goes through in 30 ms. Streams ask for no more than
// Chunk bytes at a time, 2 ms' worth, so over any second in which there is enough to do between 97 and 103 hundredths of the
// rate go through, in all streams together; what a stream was let through and has not moved yet comes on top, a Chunk of each
// at most. Below 512 KB/s a Chunk is 1 KiB all the same.
//
// # Who goes first
//
// The foreground takes tokens as they come. The background takes them only from a bucket that is half full, which it never
// is while the foreground could use more; but no chunk waits for longer than twenty of its size take, so that what has
// begun in the background goes on, at a twentieth of the rate, and its peers do not look dead.
//
// # Concurrency
//
// All methods may be called from any goroutine. A nil Limiter has no limit.
//
// # What it refuses
//
// It never drops anything and moves no bytes itself.
package pace
