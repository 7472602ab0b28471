package admin

import (
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"net"
	"net/http"
	"strings"
)

// Guard says who may ask. The zero value lets nobody.
type Guard struct {
	Token     string // "": no token is right
	OpenRead  bool   // reading needs no token
	OpenWrite bool   // nor does writing
	AnyHost   bool   // Host may be any name: the port is not on loopback, or is no port
}

// protect passes on the requests of those who may ask.
func (g Guard) protect(h http.Handler) http.Handler {
	browsers := http.NewCrossOriginProtection()
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		write := writes(r.Method)
		switch {
		case !g.AnyHost && !localHost(r.Host):
			refuse(w, Errorf(http.StatusForbidden, "this host name is not served here: ask by IP address or localhost"))
		case write && browsers.Check(r) != nil:
			refuse(w, Errorf(http.StatusForbidden, "a page of another site may not ask this"))
		case write && !g.OpenWrite && !g.knows(r), !write && !g.OpenRead && !g.knows(r):
			w.Header().Set("WWW-Authenticate", `Bearer realm="meshd"`)
			refuse(w, Errorf(http.StatusUnauthorized, "wants the admin token: Authorization: Bearer TOKEN (meshd: --admin-token-file)"))
		default:
			if g.OpenWrite || g.knows(r) {
				r = r.WithContext(context.WithValue(r.Context(), trustedKey{}, true))
			}
			h.ServeHTTP(w, r)
		}
	})
}

type trustedKey struct{}

// Trusted reports whether who asks may write as well: what not everybody on the host is to see is for those.
func Trusted(r *http.Request) bool {
	trusted, _ := r.Context().Value(trustedKey{}).(bool)
	return trusted
}

// knows reports whether a request brings the token. The time that it takes tells nothing of the token, its length
// included.
func (g Guard) knows(r *http.Request) bool {
	scheme, token, _ := strings.Cut(r.Header.Get("Authorization"), " ")
	got, want := sha256.Sum256([]byte(token)), sha256.Sum256([]byte(g.Token))
	same := subtle.ConstantTimeCompare(got[:], want[:]) == 1
	return same && g.Token != "" && strings.EqualFold(scheme, "Bearer")
}

// localHost reports whether a Host header is an IP address or localhost.
func localHost(host string) bool {
	if h, _, err := net.SplitHostPort(host); err == nil {
		host = h
	}
	host = strings.TrimSuffix(strings.TrimPrefix(host, "["), "]")
	return strings.EqualFold(host, "localhost") || net.ParseIP(host) != nil
}
