package origin

import "strings"

// Bounds on what is read of WWW-Authenticate headers.
const (
	maxChallengeBytes  = 8 << 10
	maxChallenges      = 16
	maxChallengeParams = 32
)

// challenge is one challenge of a WWW-Authenticate header (RFC 9110, 11.6.1).
type challenge struct {
	scheme string            // lower case
	params map[string]string // by name in lower case; the first of a name counts. nil with token68
}

// bearerChallenge finds the first challenge for a bearer token that names a realm.
func bearerChallenge(headers []string) (challenge, bool) {
	for _, h := range headers {
		for _, ch := range parseChallenges(h) {
			if ch.scheme == "bearer" && ch.params["realm"] != "" {
				return ch, true
			}
		}
	}
	return challenge{}, false
}

// parseChallenges reads the challenges of one header field. It stops at the first that is malformed, and
// lets one deviation pass: values without quotes that are no tokens, like URLs.
func parseChallenges(header string) []challenge {
	if len(header) > maxChallengeBytes {
		return nil
	}
	p := challengeParser{rest: header}
	var out []challenge
	for len(out) < maxChallenges {
		ch, ok := p.challenge()
		if !ok {
			break
		}
		out = append(out, ch)
	}
	return out
}

type challengeParser struct{ rest string }

// challenge reads a scheme and what belongs to it.
func (p *challengeParser) challenge() (challenge, bool) {
	p.skip(" \t,")
	scheme := p.token()
	if scheme == "" {
		return challenge{}, false
	}
	ch := challenge{scheme: strings.ToLower(scheme)}
	if p.rest == "" || p.rest[0] == ',' {
		return ch, true
	}
	if p.rest[0] != ' ' && p.rest[0] != '\t' {
		return challenge{}, false
	}
	p.skip(" \t")
	if p.token68() {
		return ch, true
	}
	ch.params = make(map[string]string)
	for n := 0; ; n++ {
		name, ok := p.paramName()
		if !ok { // the next challenge, or the end
			return ch, true
		}
		value, ok := p.value()
		if !ok || n == maxChallengeParams {
			return challenge{}, false
		}
		if _, twice := ch.params[name]; !twice {
			ch.params[name] = value
		}
		p.skip(" \t")
		if p.rest != "" && p.rest[0] != ',' {
			return challenge{}, false
		}
		p.skip(" \t,")
	}
}

// token68 takes "abc==" if it stands alone between the scheme and a comma or the end.
func (p *challengeParser) token68() bool {
	n := 0
	for n < len(p.rest) && (isAlnum(p.rest[n]) || strings.IndexByte("-._~+/", p.rest[n]) >= 0) {
		n++
	}
	end := n
	for end < len(p.rest) && p.rest[end] == '=' {
		end++
	}
	tail := strings.TrimLeft(p.rest[end:], " \t")
	if n == 0 || tail != "" && tail[0] != ',' {
		return false
	}
	p.rest = tail
	return true
}

// paramName takes `name =`; if something else comes, nothing is taken.
func (p *challengeParser) paramName() (string, bool) {
	before := p.rest
	name := p.token()
	p.skip(" \t")
	if name == "" || p.rest == "" || p.rest[0] != '=' {
		p.rest = before
		return "", false
	}
	p.rest = p.rest[1:]
	p.skip(" \t")
	return strings.ToLower(name), true
}

// value takes a quoted string, or what comes before a blank, comma or quote.
func (p *challengeParser) value() (string, bool) {
	if p.rest == "" || p.rest[0] != '"' {
		n := 0
		for n < len(p.rest) && p.rest[n] > ' ' && p.rest[n] < 0x7f && p.rest[n] != ',' && p.rest[n] != '"' {
			n++
		}
		v := p.rest[:n]
		p.rest = p.rest[n:]
		return v, n > 0
	}
	var b strings.Builder
	for i := 1; i < len(p.rest); i++ {
		switch ch := p.rest[i]; {
		case ch == '"':
			p.rest = p.rest[i+1:]
			return b.String(), true
		case ch == '\\' && i+1 < len(p.rest):
			i++
			b.WriteByte(p.rest[i])
		case ch < ' ' && ch != '\t' || ch == 0x7f:
			return "", false
		default:
			b.WriteByte(ch)
		}
	}
	return "", false
}

// token takes a token (RFC 9110, 5.6.2); empty if there is none.
func (p *challengeParser) token() string {
	n := 0
	for n < len(p.rest) && isTokenByte(p.rest[n]) {
		n++
	}
	t := p.rest[:n]
	p.rest = p.rest[n:]
	return t
}

func (p *challengeParser) skip(set string) { p.rest = strings.TrimLeft(p.rest, set) }

func isTokenByte(c byte) bool { return isAlnum(c) || strings.IndexByte("!#$%&'*+-.^_`|~", c) >= 0 }

func isAlnum(c byte) bool {
	return '0' <= c && c <= '9' || 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z'
}
