package proxy

import (
	"fmt"
	"net/http"
	"net/netip"
	"net/url"
	"slices"
)

// Registry is a registry that goes through the mesh unless a rule says otherwise.
type Registry struct {
	// Name is what references call it: docker.io, harbor.example:8443.
	Name string
	// URLs are the addresses it is reached at. A client that is sent there is sent to the registry.
	URLs []string
}

// dockerHub is one registry under several names.
var dockerHub = []string{"docker.io", "index.docker.io", "registry-1.docker.io"}

// policy decides where a target leads. It does not change.
type policy struct {
	rules      []Rule
	registries map[string]string // target.registry or an address -> the registry's name
	hosts      []string          // of registries and their addresses: named, so that they may be anywhere
	ports      []string          // beside the default ones
}

func newPolicy(rules []Rule, registries []Registry) (*policy, error) {
	p := &policy{rules: rules, registries: map[string]string{}}
	for _, r := range registries {
		names := []string{r.Name}
		if slices.Contains(dockerHub, r.Name) {
			names = dockerHub
		}
		for _, name := range names {
			if err := p.add(r.Name, name); err != nil {
				return nil, err
			}
		}
		for _, s := range r.URLs {
			u, err := url.Parse(s)
			if err != nil {
				return nil, fmt.Errorf("registry %s: its address is no URL", r.Name) // err quotes it
			}
			if err := p.add(r.Name, u.Host); err != nil {
				return nil, err
			}
		}
	}
	return p, nil
}

// add makes another name of a registry known; what came first stays.
func (p *policy) add(registry, name string) error {
	t, err := parseTarget(name, "")
	if err != nil {
		return fmt.Errorf("registry %s: %q: %w", registry, name, err)
	}
	if _, known := p.registries[t.registry()]; !known {
		p.registries[t.registry()] = registry
	}
	p.hosts = append(p.hosts, t.host)
	if t.port != "" {
		p.ports = append(p.ports, t.port)
	}
	return nil
}

// decision is what happens to a target.
type decision struct {
	target
	action   Action // Mesh or Direct
	registry string // of Mesh
	named    bool   // the configuration names this very host: it may be anywhere
}

// decide finds what happens to t. standard is the port that needs no permission beside 443; from is the client's
// address. The error is a *refusal.
func (p *policy) decide(t target, standard, from string) (decision, error) {
	d := decision{target: t, named: slices.Contains(p.hosts, t.host)}
	registry, listed := p.registries[t.registry()]
	opened := false
	for _, r := range p.rules {
		fits, port := r.match(t)
		if !fits {
			continue
		}
		if r.action == Refuse {
			return d, refusef(http.StatusForbidden, "the rule %s refuses %s", r, t)
		}
		d.action, opened = r.action, port
		d.named = d.named || r.regexp == nil
		break
	}
	switch {
	case d.action == 0 && listed:
		d.action = Mesh
	case d.action == 0 && !onThisMachine(from):
		return d, refusef(http.StatusForbidden, "%s: clients on other machines reach registries and hosts of --proxy-rule only", t)
	case d.action == 0:
		d.action = Direct
	}
	if !opened && t.port != "443" && t.port != standard && !slices.Contains(p.ports, t.port) {
		return d, refusef(http.StatusForbidden, "port %s is not open: --proxy-rule %s=direct opens it", t.port, t)
	}
	if d.action == Mesh {
		d.registry = registry
		if !listed {
			d.registry = t.registry()
		}
	}
	return d, nil
}

// onThisMachine reports whether a client's address is loopback.
func onThisMachine(remote string) bool {
	a, err := netip.ParseAddrPort(remote)
	return err == nil && a.Addr().Unmap().IsLoopback()
}
