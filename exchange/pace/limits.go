package pace

// Limits are the rates of a node, each over everything that it counts. The fields stay what they are; their rates
// change. A nil field has no limit.
type Limits struct {
	Download *Limiter // what comes from peers and origins, control messages included
	Upload   *Limiter // what goes to peers, control messages included
	Origin   *Limiter // blob bytes that come from origins; they count as Download too
}

// NewLimits returns limits of so many bytes a second; 0 is no limit.
func NewLimits(download, upload, origin int64) *Limits {
	return &Limits{Download: New(download), Upload: New(upload), Origin: New(origin)}
}
