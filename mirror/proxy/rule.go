package proxy

import (
	"fmt"
	"regexp"
	"slices"
	"strings"
)

// maxPattern bounds a rule's pattern in bytes.
const maxPattern = 1024

// Action is what happens to a host.
type Action uint8

// The actions. The zero value is none.
const (
	// Mesh ends TLS and hands pulls to the mirror.
	Mesh Action = iota + 1
	// Direct tunnels, or passes on what comes without TLS.
	Direct
	// Refuse answers 403.
	Refuse
)

var actionNames = map[Action]string{Mesh: "mesh", Direct: "direct", Refuse: "refuse"}

// String is the word in a rule's text.
func (a Action) String() string { return actionNames[a] }

// Rule says what happens to the hosts that its pattern fits. Its text is HOST[:PORT]=ACTION or /REGEXP/=ACTION. A
// HOST is compared as a whole, without regard to case; docker.io stands for all names of Docker Hub. A REGEXP (RE2) has to fit the whole of the host in lower case,
// or the whole of host:port. A rule that fits only with the port opens that port. The zero value fits nothing.
type Rule struct {
	pattern string
	host    string // without port, "" if regexp is set
	port    string // "": any
	regexp  *regexp.Regexp
	action  Action
}

// ParseRule reads HOST[:PORT]=ACTION or /REGEXP/=ACTION.
func ParseRule(s string) (Rule, error) {
	i := strings.LastIndexByte(s, '=')
	if i < 0 {
		return Rule{}, fmt.Errorf("%q: want HOST[:PORT]=ACTION or /REGEXP/=ACTION", s)
	}
	r := Rule{pattern: s[:i]}
	for a, name := range actionNames {
		if name == s[i+1:] {
			r.action = a
		}
	}
	switch {
	case r.action == 0:
		return Rule{}, fmt.Errorf("%q: unknown action %q: want mesh, direct or refuse", s, s[i+1:])
	case len(r.pattern) > maxPattern:
		return Rule{}, fmt.Errorf("pattern of %d bytes: want at most %d", len(r.pattern), maxPattern)
	case len(r.pattern) > 1 && r.pattern[0] == '/' && strings.HasSuffix(r.pattern, "/"):
		re, err := regexp.Compile("^(?:" + r.pattern[1:len(r.pattern)-1] + ")$")
		if err != nil {
			return Rule{}, fmt.Errorf("%q: %w", s, err)
		}
		r.regexp = re
		return r, nil
	}
	t, err := parseTarget(r.pattern, "")
	if err != nil {
		return Rule{}, fmt.Errorf("%q: %w", s, err)
	}
	r.host, r.port = t.host, t.port
	return r, nil
}

// match tells whether the rule fits t, and whether it names the port.
func (r Rule) match(t target) (fits, port bool) {
	if r.regexp != nil {
		if r.regexp.MatchString(t.host) {
			return true, false // /.*/ opens no port
		}
		port = r.regexp.MatchString(t.String())
		return port, port
	}
	same := r.host == t.host || r.host == dockerHub[0] && slices.Contains(dockerHub, t.host)
	fits = r.host != "" && same && (r.port == "" || r.port == t.port)
	return fits, fits && r.port != ""
}

// String is the text form.
func (r Rule) String() string { return r.pattern + "=" + r.action.String() }

// UnmarshalText implements encoding.TextUnmarshaler by ParseRule.
func (r *Rule) UnmarshalText(text []byte) (err error) {
	*r, err = ParseRule(string(text))
	return err
}

// MarshalText is the inverse of UnmarshalText.
func (r Rule) MarshalText() ([]byte, error) { return []byte(r.String()), nil }
