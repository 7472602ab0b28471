package node

import (
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"

	"github.com/meshd-project/meshd/exchange"
	"github.com/meshd-project/meshd/mirror"
)

// newMetrics returns the registry behind /metrics. Nothing is counted twice: the numbers are read off the parts at
// each scrape.
func newMetrics(n *node) *prometheus.Registry {
	r := prometheus.NewRegistry()
	r.MustRegister(
		collectors.NewGoCollector(),
		collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}),
		&collector{n: n},
	)
	return r
}

// collector turns the node's status into metrics. Its descriptions are sent unchecked: the names are all below.
type collector struct{ n *node }

// Describe sends nothing, which makes the collector an unchecked one.
func (c *collector) Describe(chan<- *prometheus.Desc) {}

// Collect implements prometheus.Collector.
func (c *collector) Collect(ch chan<- prometheus.Metric) {
	m := scrape(ch)
	s := c.n.status()
	m.mesh(s)
	m.bytes(s)
	m.store(s.Store)
	if s.Storage != nil {
		m.bucket(s.Storage)
	}
	m.mirror(c.n.mirror.Stats())
}

// scrape is where the metrics of one scrape go.
type scrape chan<- prometheus.Metric

// send sends one number; labels are names and values in turn.
func (m scrape) send(kind prometheus.ValueType, name, help string, v float64, labels ...string) {
	var names, values []string
	for i := 0; i < len(labels); i += 2 {
		names, values = append(names, labels[i]), append(values, labels[i+1])
	}
	m <- prometheus.MustNewConstMetric(prometheus.NewDesc(name, help, names, nil), kind, v, values...)
}

func (m scrape) gauge(name, help string, v int) {
	m.send(prometheus.GaugeValue, name, help, float64(v))
}

func (m scrape) counter(name, help string, v int64, labels ...string) {
	m.send(prometheus.CounterValue, name, help, float64(v), labels...)
}

func (m scrape) bySource(name, help string, s exchange.Sources) {
	m.counter(name, help, s.Disk, "source", "disk")
	m.counter(name, help, s.Zone, "source", "zone")
	m.counter(name, help, s.OtherZone, "source", "other_zone")
	m.counter(name, help, s.Origin, "source", "origin")
}

func (m scrape) mesh(s Status) {
	m.gauge("meshd_peers", "Members of the mesh connected.", s.Peers)
	m.gauge("meshd_members", "Members of the mesh known.", s.Members)
	m.gauge("meshd_dht_peers", "Nodes in the routing table.", s.DHT.Peers)
	m.gauge("meshd_dht_records", "Provider records kept for others.", s.DHT.Records)
	m.gauge("meshd_dht_announced", "Keys under which this node stands in the table.", s.DHT.Announced)
	m.counter("meshd_dht_lookups_total", "Searches for holders of a blob.", s.DHT.Lookups)
	m.counter("meshd_dht_placed_total", "Provider records placed or renewed.", s.DHT.Placed)
	m.counter("meshd_dht_asked_total", "Requests of other nodes to the table.", s.DHT.AskedFind, "kind", "find")
	m.counter("meshd_dht_asked_total", "Requests of other nodes to the table.", s.DHT.AskedStore, "kind", "store")
	m.counter("meshd_gossip_bytes_in_total", "Bytes of gossip frames received.", s.Gossip.BytesIn)
	m.counter("meshd_gossip_bytes_out_total", "Bytes of gossip frames sent.", s.Gossip.BytesOut)
	m.counter("meshd_gossip_duplicates_total", "Gossip messages that came again by another neighbour.", s.Gossip.Duplicates)
	m.counter("meshd_gossip_rejected_total", "Gossip messages that were nonsense.", s.Gossip.Rejected)
}

func (m scrape) bytes(s Status) {
	m.gauge("meshd_pulls", "Blobs on their way into the store.", len(s.Pulls))
	notKept := 0
	if s.NotKept != nil {
		notKept = 1
	}
	m.gauge("meshd_not_kept", "1 while the disk takes no blobs: they are streamed to their readers and not kept.", notKept)
	m.counter("meshd_streamed_bytes_total", "Bytes handed to local clients of blobs that are not kept.", s.StreamedBytes)
	m.gauge("meshd_quarantined_peers", "Peers not used for a time.", len(s.Quarantined))
	m.bySource("meshd_bytes_in_total", "Bytes received or read, by source.", s.BytesIn)
	m.bySource("meshd_bytes_out_total", "Bytes sent to peers, by where they are.", s.BytesOut)
	m.counter("meshd_client_bytes_total", "Bytes handed to local clients.", s.ClientBytes)
	m.counter("meshd_origin_requests_total", "Blob ranges asked of registries.", s.OriginRequests)
	m.counter("meshd_duplicate_bytes_total", "Bytes that came over the network and led to nothing.", s.DuplicateBytes)
}

func (m scrape) store(s StoreStatus) {
	m.send(prometheus.GaugeValue, "meshd_store_bytes", "Bytes of blobs on disk.", float64(s.Bytes))
	m.send(prometheus.GaugeValue, "meshd_store_pinned_bytes", "Bytes of blobs on disk that pins hold.", float64(s.Pinned))
	m.counter("meshd_scrub_bytes_total", "Bytes on disk hashed to find what has rotted.", s.Scrub.Bytes)
	m.counter("meshd_scrub_blobs_total", "Blobs on disk hashed to find what has rotted.", s.Scrub.Blobs)
	m.counter("meshd_scrub_corrupt_total", "Blobs on disk found to have rotted.", s.Scrub.Corrupt)
	m.gauge("meshd_scrub_due", "Blobs on disk that are due to be hashed.", s.Scrub.Due)
	m.gauge("meshd_store_blobs", "Complete blobs on disk.", s.Blobs)
}

func (m scrape) bucket(b *StorageStatus) {
	up := func(h BucketHealth) int {
		if h.Problem != "" {
			return 0
		}
		return 1
	}
	m.gauge("meshd_seed_storage_readable", "1 while reading from the bucket goes well.", up(b.Read))
	m.gauge("meshd_seed_storage_writable", "1 while writing to the bucket goes well.", up(b.Write))
	m.gauge("meshd_seed_storage_pending", "Blobs that wait to be written to the bucket.", b.Pending)
	m.counter("meshd_seed_storage_bytes_out_total", "Bytes written to the bucket.", b.BytesOut)
	m.counter("meshd_seed_storage_bytes_in_total", "Bytes read from the bucket.", b.BytesIn)
	m.counter("meshd_seed_storage_instead_total", "Fetches that went to the registry because the bucket failed.", b.Instead)
}

func (m scrape) mirror(s mirror.Stats) {
	m.send(prometheus.GaugeValue, "meshd_mirror_active_requests", "Requests of clients being served.", float64(s.Active))
	m.counter("meshd_mirror_requests_total", "Requests of clients.", s.Requests)
	m.counter("meshd_mirror_failures_total", "Requests of clients answered with a status of 400 or more.", s.Failures)
	m.counter("meshd_mirror_tokens_total", "Tokens given to clients.", s.Tokens)
	m.counter("meshd_mirror_origin_questions_total", "Questions put to registries on behalf of clients.", s.OriginAsks)
	m.counter("meshd_mirror_grant_hits_total", "Requests that an earlier yes of the registry covered.", s.GrantHits)
	m.counter("meshd_mirror_refusal_hits_total", "Questions that an earlier no of the registry answered.", s.Refusals)
	m.counter("meshd_mirror_shed_total", "Requests of clients refused for load.", s.Shed)
	m.counter("meshd_mirror_manifest_pulls_total", "Manifests sent to clients.", s.ManifestPulls)
	m.counter("meshd_mirror_blob_pulls_total", "Blobs and ranges sent to clients to the end.", s.BlobPulls)
	m.counter("meshd_mirror_aborted_total", "Blobs cut after their first byte.", s.Aborted)
}
