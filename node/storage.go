package node

import (
	"context"
	"fmt"
	"time"

	"github.com/meshd-project/meshd/exchange"
	"github.com/meshd-project/meshd/seed/storage"
)

// openBucket bounds what a provider's SDK does before the first question, such as looking for credentials.
const openBucket = 10 * time.Second

// openStorage makes the bucket of a seed, if it has one. The bucket itself is not asked: it may be away.
func (n *node) openStorage() error {
	if n.cfg.Store.SeedStorage == "" {
		return nil
	}
	ctx, cancel := context.WithTimeout(context.Background(), openBucket)
	defer cancel()
	b, err := storage.Open(ctx, n.cfg.Store.SeedStorage)
	if err != nil {
		return fmt.Errorf("--seed-storage: %w", err)
	}
	n.closeLater(b.Close)
	n.storage = storage.New(b, n.store)
	return nil
}

// behindBucket puts the bucket before the registries.
func (n *node) behindBucket(o exchange.Origin) exchange.Origin {
	if n.storage == nil {
		return o
	}
	return n.storage.Origin(o)
}

// StorageStatus is how a seed's bucket is. Counters begin with the node's life in its zone.
type StorageStatus struct {
	Read     BucketHealth `json:"read"`
	Write    BucketHealth `json:"write"`
	Pending  int          `json:"pending"`   // blobs that wait to be written
	BlobsOut int64        `json:"blobs_out"` // written by this seed
	BytesOut int64        `json:"bytes_out"`
	BytesIn  int64        `json:"bytes_in"` // read; they count as origin in the node's own bytes_in
	Instead  int64        `json:"instead"`  // fetches that went to the registry because the bucket failed
}

// BucketHealth is how reading from a bucket, or writing to it, goes.
type BucketHealth struct {
	Problem string  `json:"problem"` // "" (well), full, forbidden, gone, slow, unreachable or corrupt
	Detail  string  `json:"detail,omitempty"`
	Failed  int64   `json:"failed"`       // times
	Rest    float64 `json:"rest_seconds"` // until the next try
}

// storageStatus is nil without a bucket.
func (n *node) storageStatus() *StorageStatus {
	if n.storage == nil {
		return nil
	}
	s := n.storage.State()
	health := func(h storage.Health) BucketHealth {
		return BucketHealth{h.Problem, h.Detail, h.Failed, h.Rest.Seconds()}
	}
	return &StorageStatus{health(s.Read), health(s.Write), s.Pending, s.BlobsOut, s.BytesOut, s.BytesIn, s.Instead}
}
