package mirror

import (
	"errors"
	"fmt"
	"time"
)

// Config holds what an operator may tune. A zero field means its default.
type Config struct {
	// DefaultRegistry is the registry of names that do not say theirs.
	// Default docker.io.
	DefaultRegistry string

	// FirstByteTimeout bounds the time from a blob request to its first body
	// byte, questions to the origin included. docker waits more than 45 s for a
	// silent mirror and tries nothing else, so stay below. Default 20 s.
	FirstByteTimeout time.Duration
	// ManifestTimeout bounds one question to the origin: a manifest, a list, or
	// whether a blob may be had. Default 15 s.
	ManifestTimeout time.Duration
	// StallTimeout bounds the time without a new byte from the mesh once a body
	// has begun; then the connection is cut. Default 60 s.
	StallTimeout time.Duration
	// WriteTimeout bounds the time a client takes to accept the next chunk of a
	// body, 1 MiB at most. Default 60 s.
	WriteTimeout time.Duration
	// BodyTimeout bounds the time for a pull's request body to arrive, which has
	// none to bring, and the wait for the next bytes of a push's. Default 10 s.
	BodyTimeout time.Duration

	// ManifestMax is the largest manifest in bytes that is passed on.
	// Default 4 MiB, the specification's lower bound for registries.
	ManifestMax int64

	// GrantTTL is how long the origin's yes is good. Default 5 min.
	GrantTTL time.Duration
	// RefusalTTL is how long the origin's no to credentials is good. Default 30 s.
	RefusalTTL time.Duration
	// StaleTTL is how old a yes to anybody may be to serve while the origin cannot
	// answer, tags included. Default 7 days; equal to GrantTTL switches it off.
	StaleTTL time.Duration
	// StalePrivateTTL is the same for a yes to credentials. Default 24 h.
	StalePrivateTTL time.Duration
	// TagTTL is how long the manifest that a tag named is taken for the one that
	// it names, without asking. Default 0: each pull asks.
	TagTTL time.Duration
	// MaxGrants bounds the remembered yeses, about 150 bytes each; the least
	// recently used goes first. Default 65536.
	MaxGrants int
	// MaxTags bounds the tags of which is remembered what they named, and the
	// manifests of which is remembered whose they are. Default 4096.
	MaxTags int

	// MaxRequests bounds the requests served at once; more get 429.
	// Default 1024.
	MaxRequests int
	// MaxQuestions bounds the questions put to origins at once; more wait inside
	// their time-out. Default 64.
	MaxQuestions int
}

// Default returns the configuration that a zero Config stands for.
func Default() Config { return Config{}.withDefaults() }

func (c Config) withDefaults() Config {
	or(&c.DefaultRegistry, dockerHub)
	or(&c.FirstByteTimeout, 20*time.Second)
	or(&c.ManifestTimeout, 15*time.Second)
	or(&c.StallTimeout, 60*time.Second)
	or(&c.WriteTimeout, 60*time.Second)
	or(&c.BodyTimeout, 10*time.Second)
	or(&c.ManifestMax, 4<<20)
	or(&c.GrantTTL, 5*time.Minute)
	or(&c.RefusalTTL, 30*time.Second)
	or(&c.StaleTTL, max(7*24*time.Hour, c.GrantTTL))
	or(&c.StalePrivateTTL, max(24*time.Hour, c.GrantTTL))
	or(&c.MaxGrants, 1<<16)
	or(&c.MaxTags, 1<<12)
	or(&c.MaxRequests, 1024)
	or(&c.MaxQuestions, 64)
	return c
}

// or sets *p to def if it is zero.
func or[T comparable](p *T, def T) {
	var zero T
	if *p == zero {
		*p = def
	}
}

// Validate reports every field that cannot work, after defaults are filled in.
func (c Config) Validate() error {
	c = c.withDefaults()
	var errs []error
	if _, err := parseHost(c.DefaultRegistry); err != nil {
		errs = append(errs, fmt.Errorf("default registry %q is not a registry host", c.DefaultRegistry))
	}
	for _, f := range []struct {
		name  string
		value int64
	}{
		{"first byte timeout", int64(c.FirstByteTimeout)},
		{"manifest timeout", int64(c.ManifestTimeout)},
		{"stall timeout", int64(c.StallTimeout)},
		{"write timeout", int64(c.WriteTimeout)},
		{"body timeout", int64(c.BodyTimeout)},
		{"manifest max", c.ManifestMax},
		{"grant ttl", int64(c.GrantTTL)},
		{"refusal ttl", int64(c.RefusalTTL)},
		{"tag ttl", int64(c.TagTTL)},
		{"max grants", int64(c.MaxGrants)},
		{"max tags", int64(c.MaxTags)},
		{"max requests", int64(c.MaxRequests)},
		{"max questions", int64(c.MaxQuestions)},
	} {
		if f.value < 0 {
			errs = append(errs, fmt.Errorf("%s is negative", f.name))
		}
	}
	if c.StaleTTL < c.GrantTTL {
		errs = append(errs, fmt.Errorf("stale ttl %v is below grant ttl %v", c.StaleTTL, c.GrantTTL))
	}
	if c.StalePrivateTTL < c.GrantTTL {
		errs = append(errs, fmt.Errorf("stale private ttl %v is below grant ttl %v", c.StalePrivateTTL, c.GrantTTL))
	}
	return errors.Join(errs...)
}
