package origin

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"strings"
)

// credential is what a client sent to identify itself. It is never printed.
type credential struct {
	header string   // the Authorization header; "" is anonymous
	basic  bool     // name and password, to exchange for a token if the registry asks for one
	id     [32]byte // keyed hash of header; zero for anonymous
}

// exchangeable tells whether a challenge for a token can be answered: a client's own token is all it has.
func (c credential) exchangeable() bool { return c.header == "" || c.basic }

// String hides the secret from every log line.
func (c credential) String() string {
	switch {
	case c.header == "":
		return "anonymous"
	case c.basic:
		return "basic"
	}
	return "token"
}

// GoString is String: no verb shows the secret.
func (c credential) GoString() string { return c.String() }

// hashKey makes the hashes of credentials useless outside this process.
var hashKey = func() []byte {
	key := make([]byte, sha256.Size)
	_, _ = rand.Read(key) // never fails
	return key
}()

func newCredential(authorization string) credential {
	authorization = strings.TrimSpace(authorization)
	scheme, rest, _ := strings.Cut(authorization, " ")
	basic := strings.EqualFold(scheme, "basic")
	if basic {
		// podman and skopeo answer a challenge with an empty name and password when they have none.
		if userPass, err := base64.StdEncoding.DecodeString(strings.TrimSpace(rest)); err == nil && string(userPass) == ":" {
			return credential{}
		}
	}
	if authorization == "" {
		return credential{}
	}
	mac := hmac.New(sha256.New, hashKey)
	mac.Write([]byte(authorization))
	return credential{header: authorization, basic: basic, id: [32]byte(mac.Sum(nil))}
}
