package mirror

import "net/http"

// maxBonds bounds the credentials whose registry is remembered.
const maxBonds = 4096

// bonds remembers which registry first accepted credentials that were given for
// the mirror's own name. Such a login names no registry, so whoever has a host
// pull 127.0.0.1:65001/evil.example/x would be sent the password of another: a
// registry that the operator did not configure gets only credentials that no
// other one has accepted. Memory only; safe for concurrent use.
type bonds struct {
	hasher     hasher
	configured func(registry string) bool
	first      *lru[hash, string]
}

// may reports whether credentials may go to a registry.
func (b *bonds) may(c caller) bool {
	first, ok := b.first.get(b.hasher.sum("bond", c.auth))
	return !ok || first == c.ref.Registry || b.configured(c.ref.Registry)
}

func (b *bonds) accepted(c caller) {
	b.first.update(b.hasher.sum("bond", c.auth), func(old string, ok bool) string {
		if ok {
			return old
		}
		return c.ref.Registry
	})
}

// serveLeast serves a request with no more than it takes. Credentials out of a
// token were given for the mirror's name: they go to the registry only if it
// refuses anonymity, or has accepted them for the same thing before.
func (m *Mirror) serveLeast(w http.ResponseWriter, r *http.Request, rq request) error {
	if !rq.passed || rq.auth == "" || m.gate.known(rq.caller, rq.digest) {
		return m.serve(w, r, rq)
	}
	nobody := rq
	nobody.auth = ""
	err := m.serve(w, r, nobody)
	if !refused(err) && originStatus(err) != http.StatusTooManyRequests {
		return err
	}
	if !m.bonds.may(rq.caller) {
		log.Infow("login not used: another registry has accepted it (name this one with --registry to allow both)",
			"ref", rq.ref.String(), "origin", rq.ref.Registry)
		return err
	}
	if err = m.serve(w, r, rq); err == nil {
		m.bonds.accepted(rq.caller)
	}
	return err
}
