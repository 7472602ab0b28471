package preheat

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/opencontainers/go-digest"
)

// State is where a job, a node's part of it or a blob there stands.
type State string

// A job ends in one of the last three; nodes and blobs too.
const (
	Queued    State = "queued"
	Running   State = "running"
	Succeeded State = "succeeded"
	Failed    State = "failed"
	Cancelled State = "cancelled"
)

// Ended reports whether nothing more happens.
func (s State) Ended() bool { return s == Succeeded || s == Failed || s == Cancelled }

// Request is what a job is made from.
type Request struct {
	Image     Image
	Platforms []string // OS/ARCH[/VARIANT], or "all" alone; none: this node's own platform
	Scope     Scope    // "": ScopeSeeds
	Timeout   time.Duration
	// Authorization is a header that the registry takes for this image. It stays in memory until the job ends; after a
	// restart the job goes on with the operator's own credentials.
	Authorization string
}

// Bounds of a job's time.
const (
	DefaultTimeout = time.Hour
	MaxTimeout     = 24 * time.Hour
)

// normal fills in the defaults and checks the rest. Errors wrap ErrInvalid.
func (r Request) normal() (Request, error) {
	if r.Scope == "" {
		r.Scope = ScopeSeeds
	}
	if len(r.Platforms) == 0 {
		r.Platforms = []string{HostPlatform()}
	}
	if r.Timeout == 0 {
		r.Timeout = DefaultTimeout
	}
	if r.Timeout < 0 || r.Timeout > MaxTimeout {
		return r, fmt.Errorf("%w: time-out %v: want up to %v", ErrInvalid, r.Timeout, MaxTimeout)
	}
	if len(r.Authorization) > maxAuthorization {
		return r, fmt.Errorf("%w: authorization of %d bytes", ErrInvalid, len(r.Authorization))
	}
	_, err := parsePlatforms(r.Platforms)
	return r, errors.Join(err, r.Scope.Validate())
}

// maxAuthorization bounds a header, in bytes.
const maxAuthorization = 16 << 10

// same reports whether two requests ask for one thing.
func (r Request) same(o Request) bool {
	return r.Image == o.Image && r.Scope == o.Scope && r.Authorization == o.Authorization && slices.Equal(r.Platforms, o.Platforms)
}

// Job is a preheat as it is shown: GET /v1/preheats/ID. Fields are added, never renamed.
type Job struct {
	ID        ID            `json:"id"`
	Image     string        `json:"image"`
	Digest    digest.Digest `json:"digest,omitempty"` // of the manifest or index, once known
	Platforms []string      `json:"platforms"`
	Scope     Scope         `json:"scope"`
	State     State         `json:"state"`
	Reason    string        `json:"reason,omitempty"` // of a failure
	Private   bool          `json:"private"`          // the registry gives it for credentials only
	Created   time.Time     `json:"created_at"`
	Updated   time.Time     `json:"updated_at"` // state or bytes
	Bytes     int64         `json:"bytes"`      // here, over all nodes
	Total     int64         `json:"total"`      // bytes to be had, over all nodes; sizes unknown count as 0
	Layers    []Layer       `json:"layers,omitempty"`
	Zones     []Zone        `json:"zones,omitempty"`
	Nodes     []Node        `json:"nodes,omitempty"`
}

// Zone is how far a zone is.
type Zone struct {
	Zone   string  `json:"zone"`
	Nodes  int     `json:"nodes"`
	Done   int     `json:"done"` // of these
	Failed int     `json:"failed"`
	Layers []int64 `json:"layers"` // bytes of each layer of the job, over the zone's nodes
}

// Node is one node's part of a job.
type Node struct {
	PeerID string      `json:"peer_id"`
	Name   string      `json:"name"` // its address
	Zone   string      `json:"zone"`
	State  State       `json:"state"`
	Reason string      `json:"reason,omitempty"`
	Layers []NodeLayer `json:"layers,omitempty"` // left out once all have succeeded
}

// NodeLayer is one blob at one node.
type NodeLayer struct {
	Digest digest.Digest `json:"digest"`
	State  State         `json:"state"`
	Bytes  int64         `json:"bytes"` // here
	Reason string        `json:"reason,omitempty"`
}

// summary is a job without what grows with nodes and layers.
func (j Job) summary() Job {
	j.Layers, j.Zones, j.Nodes = nil, nil, nil
	return j
}

// job is a Job under way or ended. Its fields are guarded by Manager.mu.
type job struct {
	id       ID
	request  Request // its Authorization goes when it ends
	text     string  // of the image, as it was asked for
	state    State
	reason   string
	created  time.Time
	updated  time.Time
	contents Contents
	nodes    []*task
	asked    bool               // somebody cancelled it
	cancel   context.CancelFunc // nil unless running
}

// task is a node's part of a job.
type task struct {
	member Member
	state  State
	reason string
	layers []layerState // by the index in contents.Layers
}

type layerState struct {
	state  State
	bytes  int64
	reason string
}

// view shows a job whole. The caller holds Manager.mu.
func (j *job) view() Job {
	out := Job{
		ID: j.id, Image: j.text, Digest: j.contents.Digest, Platforms: j.request.Platforms, Scope: j.request.Scope, State: j.state,
		Reason: j.reason, Private: j.contents.Private, Created: j.created, Updated: j.updated, Layers: j.contents.Layers,
	}
	zones := map[string]int{}
	for _, t := range j.nodes {
		i, ok := zones[t.member.Zone]
		if !ok {
			i = len(out.Zones)
			zones[t.member.Zone] = i
			out.Zones = append(out.Zones, Zone{Zone: t.member.Zone, Layers: make([]int64, len(j.contents.Layers))})
		}
		z := &out.Zones[i]
		z.Nodes++
		switch t.state {
		case Succeeded:
			z.Done++
		case Failed, Cancelled:
			z.Failed++
		}
		for k := range j.contents.Layers {
			n := t.bytes(k, j.contents.Layers[k].Size)
			z.Layers[k] += n
			out.Bytes += n
			out.Total += max(j.contents.Layers[k].Size, 0)
		}
		out.Nodes = append(out.Nodes, t.view(j.contents.Layers))
	}
	return out
}

// bytes is how much of a layer is at the node. Of a node that has succeeded the details are gone.
func (t *task) bytes(layer int, size int64) int64 {
	if t.state == Succeeded {
		return max(size, 0)
	}
	if layer < len(t.layers) {
		return t.layers[layer].bytes
	}
	return 0
}

func (t *task) view(layers []Layer) Node {
	n := Node{PeerID: t.member.ID.String(), Name: t.member.Name, Zone: t.member.Zone, State: t.state, Reason: t.reason}
	for i, l := range t.layers {
		n.Layers = append(n.Layers, NodeLayer{Digest: layers[i].Digest, State: l.state, Bytes: l.bytes, Reason: l.reason})
	}
	return n
}
