package wire

import (
	_ "crypto/sha256" // algorithms that digest.Validate is to know
	_ "crypto/sha512"
	"errors"
	"fmt"
	"strings"

	"github.com/meshd-project/meshd/exchange/swarm"
	"github.com/opencontainers/go-digest"
)

// Bounds of what a frame may carry.
const (
	MaxFrame   = 256 << 10 // bytes of type and body
	MaxName    = 255       // bytes of a registry or a repository
	MaxZone    = 64        // bytes
	MaxPeerID  = 64        // bytes; an ed25519 identity takes 38
	MaxUnits   = 16 << 10  // runs of units in a list
	MaxMembers = 512
	MaxDenials = 4 << 10

	// maxUnit bounds the end of a run: more than a blob of swarm.MaxBlobSize has pieces.
	maxUnit = 1 << 20
)

// ErrMalformed says that bytes, or a value to be encoded, break the format or its bounds.
var ErrMalformed = errors.New("malformed")

// Card is what both ends of a control stream say of themselves first.
type Card struct {
	Zone     string // at most MaxZone bytes of printable ASCII
	Seed     bool
	Relay    bool   // member of the backbone topic
	DataPort uint16 // TCP port of the data port at the address of this connection; 0: none
}

func validZone(z string) bool {
	for i := range len(z) {
		if z[i] < 0x21 || z[i] > 0x7e {
			return false
		}
	}
	return len(z) <= MaxZone
}

func validUnits(first, count uint64) bool { return count >= 1 && first+count <= maxUnit }

var algorithms = [...]struct {
	name digest.Algorithm
	size int
}{{}, {digest.SHA256, 32}, {digest.SHA384, 48}, {digest.SHA512, 64}}

// algorithmCode validates d and returns the code of its algorithm.
func algorithmCode(d digest.Digest) (byte, error) {
	if err := d.Validate(); err != nil {
		return 0, err
	}
	for code, a := range algorithms {
		if code > 0 && a.name == d.Algorithm() {
			return byte(code), nil
		}
	}
	return 0, fmt.Errorf("digest algorithm %q", d.Algorithm())
}

// algorithmOf returns the algorithm of a code and the bytes of its hash; 0 bytes for an unknown code.
func algorithmOf(code byte) (digest.Algorithm, int) {
	if int(code) >= len(algorithms) {
		return "", 0
	}
	return algorithms[code].name, algorithms[code].size
}

// ValidOrigin reports whether a reference names a registry host, with an optional port, and a repository in
// the grammar of the OCI distribution specification, within MaxName bytes each.
func ValidOrigin(o swarm.OriginRef) bool {
	return validRegistry(o.Registry) && validRepository(o.Repository)
}

// validRegistry accepts DNS names, IPv4 addresses and bracketed IPv6 addresses, each with an optional port.
func validRegistry(s string) bool {
	if s == "" || len(s) > MaxName {
		return false
	}
	host, port := s, ""
	if i := strings.LastIndexByte(s, ':'); i >= 0 && i > strings.LastIndexByte(s, ']') {
		host, port = s[:i], s[i+1:]
		if port == "" || len(port) > 5 || strings.Trim(port, "0123456789") != "" {
			return false
		}
	}
	if inner, ok := strings.CutPrefix(host, "["); ok {
		inner, ok = strings.CutSuffix(inner, "]")
		return ok && inner != "" && strings.Trim(inner, "0123456789abcdefABCDEF:.") == ""
	}
	for label := range strings.SplitSeq(host, ".") {
		if !validLabel(label) {
			return false
		}
	}
	return true
}

func validLabel(s string) bool {
	for i := range len(s) {
		if c := s[i]; !alphanumeric(c) && !('A' <= c && c <= 'Z') && c != '-' {
			return false
		}
	}
	return s != "" && s[0] != '-' && s[len(s)-1] != '-'
}

// validRepository accepts [a-z0-9]+((\.|_|__|-+)[a-z0-9]+)* in components separated by slashes.
func validRepository(s string) bool {
	if len(s) > MaxName {
		return false
	}
	for c := range strings.SplitSeq(s, "/") {
		if !validComponent(c) {
			return false
		}
	}
	return true
}

func validComponent(s string) bool {
	for s != "" {
		i := 0
		for i < len(s) && alphanumeric(s[i]) {
			i++
		}
		if i == 0 {
			return false
		}
		if s = s[i:]; s == "" {
			return true
		}
		sep := 0
		for sep < len(s) && !alphanumeric(s[sep]) {
			sep++
		}
		if run := s[:sep]; run != "." && run != "_" && run != "__" && strings.Trim(run, "-") != "" {
			return false
		}
		s = s[sep:]
	}
	return false
}

func alphanumeric(c byte) bool { return 'a' <= c && c <= 'z' || '0' <= c && c <= '9' }
