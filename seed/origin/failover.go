package origin

import (
	"context"
	"errors"
	"net/http"
	"net/url"
	"strings"
	"sync/atomic"
	"time"
)

const (
	// downTime is how long an address that gave no answer is asked last, and a mirror not at all.
	downTime = 30 * time.Second
	// haste is the part of HeaderTimeout that an address has while there is another one.
	haste = 3
)

// address is one of the places where a registry answers.
type address struct {
	base   *url.URL
	plain  bool         // may lead to http
	mirror bool         // asked without credentials; what it does not give, the registry may
	until  atomic.Int64 // Unix nanoseconds; until then it counts as down
}

func (a *address) down(now time.Time) bool { return a.until.Load() > now.UnixNano() }

// addresses builds the list: mirrors, then the registry's own, each in the order of the configuration.
func (r Registry) addresses(name string) ([]*address, error) {
	var out []*address
	add := func(mirror bool, urls ...string) error {
		for _, u := range urls {
			base, err := Registry{URL: u}.base(name)
			if err != nil {
				return err
			}
			out = append(out, &address{base: base, plain: r.Insecure || base.Scheme == "http", mirror: mirror})
		}
		return nil
	}
	err := errors.Join(add(true, r.Mirrors...), add(false, r.URL), add(false, r.URLs...))
	return out, err
}

// order is whom to ask: mirrors that are up, the registry's addresses that are up, then those that are not. It ends with
// an address of the registry.
func (ep *endpoint) order(now time.Time) []*address {
	var mirrors, up, down []*address
	for _, a := range ep.addresses {
		switch isDown := a.down(now); {
		case a.mirror && isDown:
		case a.mirror:
			mirrors = append(mirrors, a)
		case isDown:
			down = append(down, a)
		default:
			up = append(up, a)
		}
	}
	return append(append(mirrors, up...), down...)
}

// ask sends q to one address of its registry after the other until one gives an answer that counts: a mirror 2xx or
// 304, another any but 429 and 5xx. All but the last are asked once and in haste. What cannot be repeated goes to the
// first address of the registry only.
func (c *Client) ask(ctx context.Context, q *query) (*answer, error) {
	if len(q.ep.addresses) < 2 || !q.replayable() {
		return c.try(ctx, q)
	}
	order := q.ep.order(time.Now())
	for i, at := range order {
		last := i == len(order)-1
		a, err := c.try(ctx, q.at(at, !last))
		if err == nil {
			at.until.Store(0)
			return a, nil
		}
		if ctx.Err() != nil {
			return nil, err
		}
		silent := noAnswer(err)
		if silent {
			at.until.Store(time.Now().Add(downTime).UnixNano())
		}
		if last || !at.mirror && !silent {
			return nil, err
		}
		log.Debugw("origin asked at its next address", "origin", q.ep.name, "addr", at.base.Host, "err", err)
	}
	return c.try(ctx, q) // a registry has an address: not reached
}

// noAnswer tells whether another address of the same registry might do better.
func noAnswer(err error) bool {
	var e *Error
	if !errors.As(err, &e) || errors.Is(err, ErrRefused) || errors.Is(err, ErrReference) {
		return false
	}
	return e.Status == 0 || e.Status >= 500 || e.Status == http.StatusTooManyRequests
}

// at is q for one address of its registry. A mirror gets no credentials, and its tokens are its own.
func (q *query) at(a *address, hasty bool) *query {
	ep := *q.ep
	ep.base, ep.plain = a.base, a.plain
	out := *q
	out.ep, out.hasty, out.header = &ep, hasty, q.header.Clone()
	if a.mirror {
		ep.name, ep.certified = a.base.Host, nil
		out.cred = credential{}
	}
	u := *q.url
	u.Scheme, u.Host = a.base.Scheme, a.base.Host
	u.Path = a.base.Path + strings.TrimPrefix(u.Path, q.ep.base.Path)
	out.url = &u
	return &out
}
