package mirror

import (
	"context"
	"net/http"
	"time"

	"github.com/opencontainers/go-digest"
)

// stalePatience bounds the wait for an origin while an old yes could serve: an origin with several addresses has given up a
// silent one after 5 s and asked the next.
// outageTTL is how long one that could not answer is then not asked at all.
const (
	stalePatience = 8 * time.Second
	outageTTL     = 5 * time.Second
)

// maxOutages bounds the registries that are remembered as away.
const maxOutages = 1024

// grant is the origin's yes.
type grant struct {
	at   time.Time // when the question was put
	size int64     // bytes, -1 unknown
	// proven: the origin told the size for this digest; otherwise a manifest
	// claimed it.
	proven bool

	// On the way out of the gate only.
	stale  bool // it is old, and the origin cannot answer
	public bool // it was given to anybody
}

// maxRefusals bounds the remembered noes.
const maxRefusals = 4096

// refusal is the origin's no.
type refusal struct {
	err   error
	until time.Time
}

// caller is who asks for what: a repository with the client's own credentials.
type caller struct {
	ref  Ref
	auth string // Authorization, "" if anonymous
}

// under is the caller that a yes was given to: this one, or anybody.
func (c caller) under(yes grant) caller {
	if yes.public {
		c.auth = ""
	}
	return c
}

// gate remembers who may have what. It is safe for concurrent use.
type gate struct {
	hasher hasher
	ttl    time.Duration
	// How old a yes to anybody, and one to credentials, may be to serve while the
	// origin cannot answer.
	stale, stalePrivate time.Duration

	grants *lru[hash, grant]
	noes   *lru[hash, refusal]
	noTTL  time.Duration
	// outages says until when a registry is not asked if an old yes serves.
	outages *lru[string, time.Time]

	asks  *flights[grant]
	stats *counters
}

func (g *gate) key(c caller, d digest.Digest) hash {
	return g.hasher.sum(c.auth, c.ref.Registry, c.ref.Repository, d.String())
}

// give records a yes. A newer yes wins; a proven size outlives a claimed one.
func (g *gate) give(c caller, d digest.Digest, yes grant) {
	g.grants.update(g.key(c, d), func(old grant, ok bool) grant {
		if !ok {
			return yes
		}
		if old.at.After(yes.at) {
			old, yes = yes, old
		}
		if old.size >= 0 && (yes.size < 0 || old.proven && !yes.proven) {
			yes.size, yes.proven = old.size, old.proven
		}
		return yes
	})
}

// giveParts records that a yes for a manifest covers what it vouches for. The
// yes is as old as the manifest's.
func (g *gate) giveParts(c caller, at time.Time, parts []part) {
	for _, p := range parts {
		g.give(c, p.digest, grant{at: at, size: p.size})
	}
}

// staleFor is how old a yes to a caller may be.
func (g *gate) staleFor(c caller) time.Duration {
	if c.auth == "" {
		return g.stale
	}
	return g.stalePrivate
}

// fresh returns a yes that needs no question.
func (g *gate) fresh(c caller, d digest.Digest) (grant, bool) {
	yes, ok := g.grants.get(g.key(c, d))
	return yes, ok && time.Since(yes.at) < g.ttl
}

// known reports whether there is a yes to these very credentials that may still
// be used.
func (g *gate) known(c caller, d digest.Digest) bool {
	yes, ok := g.grants.get(g.key(c, d))
	return ok && time.Since(yes.at) < g.staleFor(c)
}

// old returns a yes that serves while the origin cannot answer: to these
// credentials, or to anybody.
func (g *gate) old(c caller, d digest.Digest) (grant, bool) {
	for _, who := range []caller{c, {ref: c.ref}} {
		if yes, ok := g.grants.get(g.key(who, d)); ok && time.Since(yes.at) < g.staleFor(who) {
			yes.stale, yes.public = true, who.auth == ""
			return yes, true
		}
	}
	return grant{}, false
}

// allow returns a fresh yes, or the answer to ask. An old yes serves while the
// origin cannot answer; the origin's no withdraws it.
func (g *gate) allow(ctx context.Context, e endpoint, c caller, d digest.Digest, ask func(context.Context) (grant, error)) (grant, error) {
	if yes, ok := g.fresh(c, d); ok {
		g.stats.grantHits.Add(1)
		return yes, nil
	}
	old, usable := g.old(c, d)
	yes, stale, err := orOld(ctx, g, c, old, usable, func(ctx context.Context) (grant, error) {
		return g.ask(ctx, e, c, d, ask)
	})
	if stale {
		g.stats.staleGrants.Add(1)
		log.Infow("origin cannot answer, an earlier yes serves", "blob", d, "ref", c.ref.String(), "origin", c.ref.Registry, "dur", time.Since(old.at).Round(time.Second))
	}
	return yes, err
}

// orOld puts a question to the origin. If usable, old is the answer, and stale
// true, when the origin cannot give one: at once if it could not a moment ago,
// else after stalePatience at most.
func orOld[V any](ctx context.Context, g *gate, c caller, old V, usable bool, ask func(context.Context) (V, error)) (value V, stale bool, err error) {
	if !usable {
		value, err = ask(ctx)
		return value, false, err
	}
	if until, ok := g.outages.get(c.ref.Registry); ok && time.Now().Before(until) {
		return old, true, nil
	}
	wait, cancel := context.WithTimeout(ctx, stalePatience)
	defer cancel()
	value, err = ask(wait)
	if err == nil || ctx.Err() != nil || !cannotAnswer(err) {
		return value, false, err
	}
	g.outages.put(c.ref.Registry, time.Now().Add(outageTTL))
	return old, true, nil
}

// ask puts a question to the origin together with whoever asks the same. It is
// coalesced by endpoint too: a registry may know a digest as a manifest and not
// as a blob.
func (g *gate) ask(ctx context.Context, e endpoint, c caller, d digest.Digest, ask func(context.Context) (grant, error)) (grant, error) {
	key := g.hasher.sum(e.String(), c.auth, c.ref.Registry, c.ref.Repository, d.String())
	yes, err := inquire(ctx, g, g.asks, c, key, g.everything(c), ask)
	if refused(err) {
		g.grants.drop(g.key(c, d))
	}
	return yes, err
}

// inquire puts a question of a caller to the origin, together with whoever asks
// the same, unless it has just said no. key names the question, credentials
// included; a 401 is a no to all that about stands for.
func inquire[V any](ctx context.Context, g *gate, asks *flights[V], c caller, key, about hash, ask func(context.Context) (V, error)) (value V, err error) {
	if err := g.refusal(c, key); err != nil {
		g.stats.refusals.Add(1)
		return value, err
	}
	value, shared, err := asks.do(ctx, key, ask)
	if shared {
		g.stats.coalesced.Add(1)
	}
	g.note(key, about, err)
	return value, err
}

// everything stands for all that a caller could ask of its repository.
func (g *gate) everything(c caller) hash {
	return g.hasher.sum("everything", c.auth, c.ref.Registry, c.ref.Repository)
}

// refusal returns a fresh no, nil if there is none.
func (g *gate) refusal(c caller, key hash) error {
	for _, k := range []hash{g.everything(c), key} {
		if no, ok := g.noes.get(k); ok && time.Now().Before(no.until) {
			return no.err
		}
	}
	return nil
}

// private reports whether the origin has just refused a caller's repository to
// anonymity.
func (g *gate) private(c caller) bool {
	c.auth = ""
	return g.refusal(c, hash{}) != nil
}

// note remembers a no. A 401 is to the credentials; a 403 may be to one question
// of theirs. A yes ends a no.
func (g *gate) note(key, about hash, err error) {
	no := refusal{err: err, until: time.Now().Add(g.noTTL)}
	switch {
	case err == nil:
		g.noes.drop(about)
	case originStatus(err) == http.StatusUnauthorized:
		g.noes.put(about, no)
	case originStatus(err) == http.StatusForbidden:
		g.noes.put(key, no)
	}
}
