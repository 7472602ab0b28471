// Package preheat has nodes fetch an image before anybody pulls it.
//
// # What it owns
//
// Jobs. A job is one image, the platforms wanted of it and a scope: which nodes are to have it. The node that is told of a
// job owns it: it asks the registry what the image is made of (resolve.go), has every node of the scope fetch that, itself
// included if it is among them, gathers how far each blob is at each node, and keeps the result on disk (book.go). The
// owner is part of a job's id, so that any node that is asked for a job can ask its owner.
//
// The bytes are moved by package exchange, as for a pull, so the registry sends each once and each zone gets each once. The
// package says only what is wanted where.
//
// # Lifecycle
//
//	m, err := preheat.New(cfg, host, origin, blobs)   // reads the jobs of an earlier run
//	go m.Run(ctx)                                     // works until ctx ends
//	job, err := m.Create(preheat.Request{Image: i})   // on disk when it returns
//	job, err = m.Get(ctx, job.ID)
//
// A job goes from queued to running to succeeded, failed or cancelled. One that the end of its owner cuts short goes on
// with the next run from what the nodes have by then.
//
// # Between nodes: protocol /meshd/preheat/1
//
// Lines of JSON on a stream of the libp2p host, thus between members only. The opener says what it wants in one value of at
// most 8 MiB: fetch (an order: registry, repository, digests, sizes, and the manifests themselves if the image is public) or
// job (an id; get or cancel). To a fetch the answers are reports on single blobs, at most four rounds a second, an empty
// value at least every 5 s, and done; to an inquiry the job. Unknown fields are ignored, so that fields can be added; a
// changed meaning is a new protocol id.
//
// # Trust
//
// No URL, path or credential goes from node to node. A node that is asked fetches only from registries that its own operator
// has named, through its own configuration of them. Of a public image every node reads from the registry as anybody. A private
// one the owner reads with the credentials of the request or of its operator; the others with those of their own
// operator if they have some, else they get it from the owner through the mesh, and it goes by its private name
// everywhere, so that clients get it only if the registry lets them (package mirror). Who has the mesh key may therefore have
// a node with credentials fetch any blob that those open and whose digest he knows.
//
// The credentials of a request stay in the owner's memory until the job ends. They are not logged, written or sent to nodes.
//
// # Bounds
//
// 4 jobs run at a time, 1024 wait, 1000 ended ones are kept. A job has up to 4096 blobs and 4 MiB of manifests, and has 256
// nodes at work at a time. A node takes part in 64 requests of others at a time and fetches 4 blobs at a time for all of them
// together, behind what its own clients wait for.
//
// # Concurrency
//
// All methods of Manager may be called from any goroutine.
//
// # What it refuses
//
// Registries that are not in the configuration, schema 1 manifests, layers that live outside the registry, platforms that an
// index does not list.
package preheat
