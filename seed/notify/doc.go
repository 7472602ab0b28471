// Package notify turns what registries tell of pushes into preheats.
//
// It owns the three forms of such news (parse.go), the rules that say which of it is preheated where (rule.go), and the
// memory of what was dealt with lately (notifier.go), so that an event that is sent twice, or once for each tag and retry,
// makes one job. Transport and authentication are the caller's; jobs are package preheat's.
//
// The forms: docker distribution's notifications, in lower case as distribution sends them and in Go's field names as Harbor's
// Kraken driver does (https://distribution.github.io/distribution/about/notifications/); Harbor's webhook, default and CloudEvents
// payload; and {"image": "HOST/NAME:TAG"}.
//
// Only pushes of tagged manifests count: the parts of an index are pushed without tags before it. The registry of an
// event is the configured one that answers at the event's host; events of others are refused.
//
// All functions and methods may be called from any goroutine.
package notify
