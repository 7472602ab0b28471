package notify

import (
	"fmt"
	"regexp"
	"strings"

	"github.com/meshd-project/meshd/seed/preheat"
)

// ScopeNone in a rule has nothing done.
const ScopeNone preheat.Scope = "none"

// maxRule bounds the text of a rule, in bytes.
const maxRule = 1024

// Rule says where what is pushed is preheated. Its text is PATTERN=SCOPE, then options, each after a comma: platform=OS/ARCH (or
// all). PATTERN is [HOST/]NAME[:TAG], in which * stands for any text, slashes included; without a tag it fits every tag. SCOPE is
// one of preheat's, or none.
type Rule struct {
	Pattern   string
	Scope     preheat.Scope
	Platforms []string // none: those of the configuration

	fits *regexp.Regexp
}

// ParseRule reads the text of a rule.
func ParseRule(s string) (Rule, error) {
	pattern, rest, ok := strings.Cut(s, "=")
	if !ok || pattern == "" || len(s) > maxRule {
		return Rule{}, fmt.Errorf("%.80q: want PATTERN=SCOPE[,platform=OS/ARCH]", s)
	}
	parts := strings.Split(rest, ",")
	r := Rule{Pattern: pattern, Scope: preheat.Scope(parts[0])}
	if err := r.Scope.Validate(); err != nil && r.Scope != ScopeNone {
		return Rule{}, fmt.Errorf("%w, or none", err)
	}
	for _, p := range parts[1:] {
		platform, ok := strings.CutPrefix(p, "platform=")
		if !ok {
			return Rule{}, fmt.Errorf("%.80q: unknown option %.40q: want platform=OS/ARCH", s, p)
		}
		r.Platforms = append(r.Platforms, platform)
	}
	if err := preheat.CheckPlatforms(r.Platforms); err != nil {
		return Rule{}, err
	}
	var err error
	r.fits, err = compile(pattern)
	return r, err
}

// compile makes an expression of a pattern that matches HOST/NAME:TAG.
func compile(pattern string) (*regexp.Regexp, error) {
	if strings.LastIndexByte(pattern, ':') <= strings.LastIndexByte(pattern, '/') {
		pattern += ":*"
	}
	return regexp.Compile("^" + strings.ReplaceAll(regexp.QuoteMeta(pattern), `\*`, ".*") + "$")
}

// Fits reports whether the rule is for an image; a pattern without a host fits every registry.
func (r Rule) Fits(i preheat.Image) bool {
	name := i.Name + ":" + i.Tag
	return r.fits != nil && (r.fits.MatchString(i.Registry+"/"+name) || r.fits.MatchString(name))
}

// String is the text of the rule.
func (r Rule) String() string {
	s := r.Pattern + "=" + string(r.Scope)
	for _, p := range r.Platforms {
		s += ",platform=" + p
	}
	return s
}

// UnmarshalText implements encoding.TextUnmarshaler by ParseRule.
func (r *Rule) UnmarshalText(text []byte) (err error) {
	*r, err = ParseRule(string(text))
	return err
}

// MarshalText is the inverse of UnmarshalText.
func (r Rule) MarshalText() ([]byte, error) { return []byte(r.String()), nil }
