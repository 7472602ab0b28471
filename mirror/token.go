package mirror

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"encoding/base64"
	"encoding/binary"
	"fmt"
	"strings"
	"time"
)

const (
	// tokenMark begins each token of a mirror: one that no longer opens is not
	// taken for a registry's own and never sent to one.
	tokenMark = "meshd."
	// tokenTTL is how long a token is good. Clients ask for a new one by
	// themselves when it has run out.
	tokenTTL = 5 * time.Minute
	// maxLogin bounds a name and password, in bytes as they are sent: the token
	// with them has to fit into the client's next header.
	maxLogin = 12 << 10
	maxToken = 2 * maxLogin
)

// pass is what a token says.
type pass struct {
	auth     string // Basic credentials, "" if anonymous
	registry string // the only one that auth is for; "" if none was named
	expires  time.Time
}

// sealer makes and opens tokens: a pass, encrypted and authenticated (AES-256-GCM,
// random nonces). The key is made anew in each process and is nowhere else: what
// a client was given is worth nothing after a restart, and nothing on disk opens
// it. The price is one fresh token for each client that a restart interrupts.
type sealer struct{ aead cipher.AEAD }

func newSealer() sealer {
	var key [32]byte
	_, _ = rand.Read(key[:]) // never fails since Go 1.24
	block, err := aes.NewCipher(key[:])
	if err != nil {
		panic(err) // the key's length is right
	}
	aead, err := cipher.NewGCMWithRandomNonce(block)
	if err != nil {
		panic(err) // the block's size is right
	}
	return sealer{aead}
}

func (s sealer) seal(p pass) string { return tokenMark + s.sealFor(tokenMark, p) }

// sealFor seals what opens for the same purpose only.
func (s sealer) sealFor(purpose string, p pass) string {
	plain := binary.BigEndian.AppendUint64(nil, uint64(p.expires.Unix()))
	plain = binary.AppendUvarint(plain, uint64(len(p.registry)))
	plain = append(plain, p.registry...)
	plain = append(plain, p.auth...)
	return base64.RawURLEncoding.EncodeToString(s.aead.Seal(nil, nil, plain, []byte(purpose)))
}

// open returns what a token says, or errToken for one that has expired, was
// changed, or is another node's.
func (s sealer) open(token string, now time.Time) (pass, error) {
	text, ok := strings.CutPrefix(token, tokenMark)
	if !ok {
		return pass{}, errToken
	}
	return s.openFor(tokenMark, text, now)
}

func (s sealer) openFor(purpose, text string, now time.Time) (pass, error) {
	if len(text) > maxToken {
		return pass{}, errToken
	}
	sealed, err := base64.RawURLEncoding.Strict().DecodeString(text)
	if err != nil {
		return pass{}, errToken
	}
	plain, err := s.aead.Open(nil, nil, sealed, []byte(purpose))
	if err != nil {
		return pass{}, errToken
	}
	p, err := parsePass(plain)
	if err != nil {
		return pass{}, err
	}
	if !now.Before(p.expires) {
		return pass{}, fmt.Errorf("%w: expired", errToken)
	}
	return p, nil
}

// parsePass reads what seal has written.
func parsePass(plain []byte) (pass, error) {
	if len(plain) < 8 {
		return pass{}, errToken
	}
	expires := time.Unix(int64(binary.BigEndian.Uint64(plain)), 0)
	n, used := binary.Uvarint(plain[8:])
	if used <= 0 || n > uint64(len(plain)-8-used) {
		return pass{}, errToken
	}
	rest := string(plain[8+used:])
	return pass{registry: rest[:n], auth: rest[n:], expires: expires}, nil
}

// ownToken returns the token of an Authorization header if a mirror made it.
func ownToken(auth string) (token string, ok bool) {
	scheme, token, _ := strings.Cut(auth, " ")
	token = strings.TrimSpace(token)
	return token, strings.EqualFold(scheme, "Bearer") && strings.HasPrefix(token, tokenMark)
}
