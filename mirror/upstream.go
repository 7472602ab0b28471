package mirror

import (
	"net/netip"
	"net/url"
	"strconv"
	"strings"
)

const (
	dockerHub = "docker.io"
	maxName   = 255  // bytes of a registry and of a repository
	maxQuery  = 4096 // bytes of an encoded query
)

// parseQuery reads a query strictly: a pair that one reader drops and another
// one keeps would move a request, credentials and all, to another registry.
func parseQuery(raw string) (url.Values, error) {
	if len(raw) > maxQuery {
		return nil, errQuery
	}
	q, err := url.ParseQuery(raw)
	if err != nil || len(q["ns"]) > 1 {
		return nil, errQuery
	}
	return q, nil
}

// resolve turns the name of a path and the query parameter ns ("" if absent) into
// registry and repository. known tells whether a name is a configured registry.
func resolve(name, ns, fallback string, known func(string) bool) (Ref, error) {
	registry, repository := fallback, name
	first, rest, more := strings.Cut(name, "/")
	switch {
	case ns != "":
		registry = canonicalHost(ns)
		if more && canonicalHost(first) == registry {
			repository = rest
		}
	case more && (known(canonicalHost(first)) || looksLikeHost(first)):
		registry, repository = canonicalHost(first), rest
	}
	if !known(registry) {
		var err error
		if registry, err = parseHost(registry); err != nil {
			return Ref{}, err
		}
	}
	if !validRepository(repository) {
		return Ref{}, errName
	}
	if registry == dockerHub && !strings.Contains(repository, "/") {
		repository = "library/" + repository
		if len(repository) > maxName {
			return Ref{}, errName
		}
	}
	return Ref{Registry: registry, Repository: repository}, nil
}

func looksLikeHost(s string) bool {
	return s == "localhost" || strings.ContainsAny(s, ".:")
}

// canonicalHost gives one spelling to hosts that are the same registry.
func canonicalHost(s string) string {
	s = strings.ToLower(s)
	switch s {
	case "index.docker.io", "registry-1.docker.io", "registry.hub.docker.com":
		return dockerHub
	}
	return s
}

// parseHost checks that s is a host name, an IPv4 address or an IPv6 address in
// brackets, with or without a port, and returns it in lower case.
func parseHost(s string) (string, error) {
	if s == "" || len(s) > maxName {
		return "", errName
	}
	s = canonicalHost(s)
	host, port := s, ""
	if i := strings.LastIndexByte(s, ':'); i >= 0 && !strings.HasSuffix(s, "]") {
		host, port = s[:i], s[i+1:]
		if n, err := strconv.ParseUint(port, 10, 16); err != nil || n == 0 || port[0] == '0' || port[0] == '+' {
			return "", errName
		}
	}
	if strings.HasPrefix(host, "[") {
		inner, ok := strings.CutSuffix(host[1:], "]")
		if a, err := netip.ParseAddr(inner); !ok || err != nil || !a.Is6() || a.Zone() != "" {
			return "", errName
		}
		return s, nil
	}
	for label := range strings.SplitSeq(host, ".") {
		if !validLabel(label) {
			return "", errName
		}
	}
	return s, nil
}

func validLabel(s string) bool {
	if s == "" || len(s) > 63 || s[0] == '-' || s[len(s)-1] == '-' {
		return false
	}
	for i := range len(s) {
		if c := s[i]; !isLowerAlnum(c) && c != '-' {
			return false
		}
	}
	return true
}

// validRepository reports whether s is slash-separated components of
// [a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*, at most 255 bytes in all.
func validRepository(s string) bool {
	if s == "" || len(s) > maxName {
		return false
	}
	for component := range strings.SplitSeq(s, "/") {
		if !validComponent(component) {
			return false
		}
	}
	return true
}

func validComponent(s string) bool {
	if s == "" || !isLowerAlnum(s[0]) || !isLowerAlnum(s[len(s)-1]) {
		return false
	}
	for i := 0; i < len(s); {
		if isLowerAlnum(s[i]) {
			i++
			continue
		}
		sep := i
		for i < len(s) && !isLowerAlnum(s[i]) {
			i++
		}
		if !validSeparator(s[sep:i]) {
			return false
		}
	}
	return true
}

func validSeparator(s string) bool {
	return s == "." || s == "_" || s == "__" || strings.Trim(s, "-") == ""
}

func isLowerAlnum(c byte) bool {
	return 'a' <= c && c <= 'z' || '0' <= c && c <= '9'
}
