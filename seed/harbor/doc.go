// Package harbor answers on the preheat address: Harbor's three preheat drivers, as Harbor calls them, and the news of pushes that
// registries send.
//
//	GET  /healthy                 driver dragonfly, Harbor 2.12 and later
//	POST /oapi/v1/jobs
//	GET  /oapi/v1/jobs/{id}
//	GET  /_ping                   driver dragonfly, Harbor 2.0 to 2.11
//	POST /preheats
//	GET  /preheats/{id}
//	GET  /health                  driver kraken
//	POST /registry/notifications  driver kraken, and docker distribution's notifications
//	POST /harbor/webhook          Harbor's webhook
//	POST /v1/notify               {"image": "HOST/NAME:TAG"}
//
// Everything else is denied, and all of it without the right credentials (Auth), health included: Harbor sends its own
// there as well.
//
// What counts: Harbor posts once and never repeats; it then polls every 10 s for half an hour and takes a 404, any status but 2xx
// and any state that it does not know for a failure. So a job that waits or runs is PENDING, one whose owner restarts
// is PENDING too, and an id that nobody can have is 404. The polls may reach any node of the mesh.
//
// The token that Harbor sends for its registry goes into the job (package preheat) and nowhere else.
//
// Bodies have at most 1 MiB, at most 64 requests are answered at once; more are told 503 with Retry-After. The Server is the
// caller's, with bounds on every wait. Specification: Harbor's drivers (goharbor/harbor, src/pkg/p2p/preheat/provider).
package harbor
