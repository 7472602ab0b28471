package preheat

import (
	"encoding/json"
	"fmt"
	"io"

	"github.com/google/go-containerregistry/pkg/v1/types"
)

// Bounds of what nodes say to each other, in bytes.
const (
	maxOpening = 8 << 20  // maxDocuments in base64, and the rest
	maxAnswer  = 16 << 10 // a report on a blob
	maxFound   = 64 << 20 // a whole job
)

// opening is what a node that opens a stream says, once: one of its fields.
type opening struct {
	Fetch *order   `json:"fetch,omitempty"`
	Job   *inquiry `json:"job,omitempty"`
}

// inquiry asks the owner of a job for it.
type inquiry struct {
	ID     ID   `json:"id"`
	Cancel bool `json:"cancel,omitempty"`
}

// answer is a line of what the other node says: a report on one blob, a sign of life (none of these), or the end.
type answer struct {
	Report *report `json:"report,omitempty"`
	Done   bool    `json:"done,omitempty"`   // the last line of a fetch
	Found  *Job    `json:"found,omitempty"`  // the only line after an inquiry
	Refuse string  `json:"refuse,omitempty"` // why not; one of the codes below
	Reason string  `json:"reason,omitempty"` // for people
}

// report says how far a blob of an order is.
type report struct {
	Layer  int    `json:"layer"`
	State  State  `json:"state"`
	Bytes  int64  `json:"bytes"`
	Reason string `json:"reason,omitempty"`
}

// Codes of a refusal.
const (
	refusedBusy     = "busy"
	refusedUnlisted = "unlisted"
	refusedInvalid  = "invalid"
	refusedUnknown  = "unknown"
)

// readOpening reads and checks what a stream begins with. Errors wrap ErrInvalid, or are the stream's.
func readOpening(r io.Reader) (opening, error) {
	limited := &io.LimitedReader{R: r, N: maxOpening}
	var o opening
	if err := json.NewDecoder(limited).Decode(&o); err != nil {
		if limited.N <= 0 {
			return opening{}, fmt.Errorf("%w: more than %d bytes", ErrInvalid, maxOpening)
		}
		return opening{}, fmt.Errorf("%w: %w", ErrInvalid, err)
	}
	if (o.Fetch == nil) == (o.Job == nil) {
		return opening{}, fmt.Errorf("%w: want fetch or job", ErrInvalid)
	}
	if o.Fetch != nil {
		return o, o.Fetch.valid()
	}
	return o, nil
}

// parseReport reads a line on one of n blobs.
func parseReport(line []byte, n int) (answer, error) {
	var a answer
	if err := json.Unmarshal(line, &a); err != nil {
		return answer{}, fmt.Errorf("%w: %w", ErrInvalid, err)
	}
	if r := a.Report; r != nil {
		known := r.State == Running || r.State == Succeeded || r.State == Failed
		if r.Layer < 0 || r.Layer >= n || r.Bytes < 0 || !known {
			return answer{}, fmt.Errorf("%w: report on blob %d of %d", ErrInvalid, r.Layer, n)
		}
		r.Reason = clip(r.Reason)
	}
	a.Reason = clip(a.Reason)
	return a, nil
}

// valid reports whether a document may be kept as a manifest.
func (d Document) valid() bool {
	t := types.MediaType(d.MediaType)
	known := t == types.OCIImageIndex || t == types.OCIManifestSchema1 || t == types.DockerManifestList || t == types.DockerManifestSchema2
	return known && d.Digest.Validate() == nil && len(d.Data) <= maxDocuments &&
		d.Digest.Algorithm().FromBytes(d.Data) == d.Digest
}
