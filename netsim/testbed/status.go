package testbed

import (
	"context"
	"encoding/json"
	"net/http"
)

// Status is what is read of a node's /v1/status.
type Status struct {
	Peers          Count  `json:"peers"`
	BytesIn        Source `json:"bytes_in"`
	OriginRequests int64  `json:"origin_requests"`
	DuplicateBytes int64  `json:"duplicate_bytes"`
	Quarantined    Count  `json:"quarantined"`
}

// Source is bytes by where they came from.
type Source struct {
	Disk      int64 `json:"disk"`
	Zone      int64 `json:"zone"`
	OtherZone int64 `json:"other_zone"`
	Origin    int64 `json:"origin"`
}

// Minus returns what came in since b.
func (a Source) Minus(b Source) Source {
	return Source{a.Disk - b.Disk, a.Zone - b.Zone, a.OtherZone - b.OtherZone, a.Origin - b.Origin}
}

// Node asks a node by its admin address, HOST:PORT.
type Node struct {
	HTTP  *http.Client
	Admin string
}

// Ready reports whether the node says that it is.
func (n Node) Ready(ctx context.Context) bool {
	return GetJSON(ctx, n.HTTP, "http://"+n.Admin+"/readyz", nil) == nil
}

// Status asks the node what it is doing.
func (n Node) Status(ctx context.Context) (Status, error) {
	var s Status
	return s, GetJSON(ctx, n.HTTP, "http://"+n.Admin+"/v1/status", &s)
}

// Count is a number that a status gives as a number or as a list.
type Count int

// UnmarshalJSON implements json.Unmarshaler.
func (c *Count) UnmarshalJSON(data []byte) error {
	if json.Unmarshal(data, (*int)(c)) == nil {
		return nil
	}
	var list []json.RawMessage
	err := json.Unmarshal(data, &list)
	*c = Count(len(list))
	return err
}
