package gossip

import (
	"sync/atomic"

	pubsub "github.com/libp2p/go-libp2p-pubsub"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/protocol"
)

// Stats counts what gossip did since New. Bytes are those of pubsub's frames, without what the connection adds.
type Stats struct {
	BytesIn    int64 // of frames from neighbours
	BytesOut   int64 // of frames to neighbours
	Delivered  int64 // messages taken in, the node's own among them
	Duplicates int64 // messages that had come before by another neighbour
	Rejected   int64 // messages that were nonsense
	Dropped    int64 // messages beyond what a neighbour may forward, or that found a queue full
}

// traffic counts; pubsub calls it from several goroutines.
type traffic struct {
	in, out, delivered, duplicates, rejected, dropped atomic.Int64
}

var _ pubsub.RawTracer = (*traffic)(nil)

func (t *traffic) stats() Stats {
	return Stats{
		BytesIn: t.in.Load(), BytesOut: t.out.Load(), Delivered: t.delivered.Load(), Duplicates: t.duplicates.Load(),
		Rejected: t.rejected.Load(), Dropped: t.dropped.Load(),
	}
}

func (t *traffic) RecvRPC(rpc *pubsub.RPC)            { t.in.Add(int64(rpc.Size())) }
func (t *traffic) SendRPC(rpc *pubsub.RPC, _ peer.ID) { t.out.Add(int64(rpc.Size())) }
func (t *traffic) DropRPC(*pubsub.RPC, peer.ID)       { t.dropped.Add(1) }
func (t *traffic) DeliverMessage(*pubsub.Message)     { t.delivered.Add(1) }
func (t *traffic) DuplicateMessage(*pubsub.Message)   { t.duplicates.Add(1) }

func (t *traffic) UndeliverableMessage(*pubsub.Message) { t.dropped.Add(1) }

func (t *traffic) RejectMessage(_ *pubsub.Message, reason string) {
	if reason == pubsub.RejectValidationIgnored || reason == pubsub.RejectValidationThrottled {
		t.dropped.Add(1)
		return
	}
	t.rejected.Add(1)
}

func (t *traffic) OnNewOutboundStream(peer.ID, protocol.ID) {}
func (t *traffic) OnClosedOutboundStream(peer.ID)           {}
func (t *traffic) Join(string)                              {}
func (t *traffic) Leave(string)                             {}
func (t *traffic) Graft(peer.ID, string)                    {}
func (t *traffic) Prune(peer.ID, string)                    {}
func (t *traffic) ValidateMessage(*pubsub.Message)          {}
func (t *traffic) ThrottlePeer(peer.ID)                     {}
