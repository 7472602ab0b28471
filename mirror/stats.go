package mirror

import "sync/atomic"

// Stats counts since start.
type Stats struct {
	Active        int64 // requests being served now
	Requests      int64 // all requests
	Failures      int64 // answered with a status of 400 or more, but for the challenge on /v2/
	Shed          int64 // of these, refused by MaxRequests
	ManifestPulls int64 // manifests sent by GET
	BlobPulls     int64 // blobs and ranges sent to the end
	BlobBytes     int64 // body bytes of blobs, cut ones included
	Aborted       int64 // blobs cut after their first byte, by either side
	GrantHits     int64 // requests that an earlier yes of the origin covered
	StaleGrants   int64 // of an origin that could not answer, covered by an old yes
	StaleTags     int64 // of an origin that could not answer, named by its last answer
	TagHits       int64 // tags not asked for within Config.TagTTL
	OriginAsks    int64 // questions put to origins
	Coalesced     int64 // requests that shared another one's question
	Refusals      int64 // requests that an earlier no of the origin answered
	Tokens        int64 // given to clients
	Pushes        int64 // requests of pushes and deletions passed on
	Grants        int64 // remembered now
}

// counters is the live form of Stats.
type counters struct {
	active, requests, failures, shed atomic.Int64
	manifestPulls                    atomic.Int64
	blobPulls, blobBytes, aborted    atomic.Int64
	grantHits, staleGrants           atomic.Int64
	originAsks, coalesced            atomic.Int64
	refusals, tokens                 atomic.Int64
	staleTags, tagHits, pushes       atomic.Int64
}

// Stats returns the counters. They are read one by one, so they need not add up.
func (m *Mirror) Stats() Stats {
	c := m.stats
	return Stats{
		Active:        c.active.Load(),
		Requests:      c.requests.Load(),
		Failures:      c.failures.Load(),
		Shed:          c.shed.Load(),
		ManifestPulls: c.manifestPulls.Load(),
		BlobPulls:     c.blobPulls.Load(),
		BlobBytes:     c.blobBytes.Load(),
		Aborted:       c.aborted.Load(),
		GrantHits:     c.grantHits.Load(),
		StaleGrants:   c.staleGrants.Load(),
		StaleTags:     c.staleTags.Load(),
		TagHits:       c.tagHits.Load(),
		OriginAsks:    c.originAsks.Load(),
		Coalesced:     c.coalesced.Load(),
		Refusals:      c.refusals.Load(),
		Tokens:        c.tokens.Load(),
		Pushes:        c.pushes.Load(),
		Grants:        int64(m.gate.grants.len()),
	}
}
