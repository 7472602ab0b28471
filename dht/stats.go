package dht

import (
	"context"
	"sync/atomic"

	pb "github.com/libp2p/go-libp2p-kad-dht/pb"
	"github.com/libp2p/go-libp2p/core/network"
)

// Stats says what the node's part in the table is and was asked since New.
type Stats struct {
	Peers      int   // in the routing table
	BucketSize int   // Kademlia's k
	Records    int   // of others, kept for the table; -1 if the datastore cannot tell
	Announced  int   // keys that this node stands under
	Left       int   // keys that it leaves to others
	Lookups    int64 // searches for holders
	Looks      int64 // at a key, whether others are enough
	Placed     int64 // records placed or renewed
	Failed     int64 // and not placed at the first try
	AskedFind  int64 // requests of others: who holds, who is near
	AskedStore int64 // requests of others: to keep a record
}

// requests counts what other nodes ask.
type requests struct{ find, store atomic.Int64 }

func (r *requests) count(_ context.Context, _ network.Stream, m *pb.Message) {
	switch m.GetType() {
	case pb.Message_ADD_PROVIDER:
		r.store.Add(1)
	case pb.Message_GET_PROVIDERS, pb.Message_FIND_NODE:
		r.find.Add(1)
	}
}

// Stats returns what is known now.
func (d *DHT) Stats() Stats {
	s := Stats{
		Peers: d.Peers(), BucketSize: d.table.size(), Records: -1,
		Lookups: d.lookups.Load(), Looks: d.looks.Load(), Placed: d.own.placed.Load(), Failed: d.own.failed.Load(),
		AskedFind: d.asked.find.Load(), AskedStore: d.asked.store.Load(),
	}
	if r, ok := d.cfg.Datastore.(interface{ Len() int }); ok {
		s.Records = r.Len()
	}
	s.Announced, s.Left = d.own.count()
	return s
}
