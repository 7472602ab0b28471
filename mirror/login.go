package mirror

import (
	"encoding/base64"
	"encoding/json"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"
)

const (
	tokenPath = "/v2/token"
	// service names the mirror in challenges.
	service   = "meshd"
	maxScopes = 8
)

// serveToken gives a token to whoever asks. Nobody is refused here: what the
// credentials are worth is for the origin to say, which only a pull names.
func (m *Mirror) serveToken(w http.ResponseWriter, r *http.Request, rq request) error {
	registry, err := m.scopeRegistry(rq.query)
	if err != nil {
		return err
	}
	auth, err := basicLogin(rq.auth)
	if err != nil {
		return err
	}
	now := time.Now()
	token := m.sealer.seal(pass{auth: auth, registry: registry, expires: now.Add(tokenTTL)})
	body, _ := json.Marshal(map[string]any{ // strings and a number always marshal
		"token":        token,
		"access_token": token,
		"expires_in":   int(tokenTTL.Seconds()),
		"issued_at":    now.UTC().Format(time.RFC3339),
	})
	m.stats.tokens.Add(1)
	h := w.Header()
	h.Set("Content-Type", "application/json")
	h.Set("Content-Length", strconv.Itoa(len(body)))
	h.Set("Cache-Control", "no-store")
	w.WriteHeader(http.StatusOK)
	if r.Method == http.MethodGet {
		return m.writeAll(w, r, body)
	}
	return nil
}

// scopeRegistry returns the one registry that the scopes of a token request name,
// "" if there are none. It reads names as it does in paths, so that a token is
// for the registry that the request with it will mean.
func (m *Mirror) scopeRegistry(q url.Values) (string, error) {
	registry := ""
	scopes := strings.Fields(strings.Join(q["scope"], " "))
	if len(scopes) > maxScopes {
		return "", errScope
	}
	for _, scope := range scopes {
		kind, rest, _ := strings.Cut(scope, ":")
		end := strings.LastIndexByte(rest, ':') // a name may have a port
		if kind != "repository" || end < 0 {
			continue
		}
		ref, err := resolve(rest[:end], q.Get("ns"), m.cfg.DefaultRegistry, m.origin.Hosts)
		if err != nil {
			return "", err
		}
		if registry != "" && registry != ref.Registry {
			return "", errScope
		}
		registry = ref.Registry
	}
	return registry, nil
}

// basicLogin checks the credentials of a token request and returns them in one
// spelling.
func basicLogin(auth string) (string, error) {
	if auth == "" {
		return "", nil
	}
	scheme, value, _ := strings.Cut(auth, " ")
	value = strings.TrimSpace(value)
	login, err := base64.StdEncoding.DecodeString(value)
	if !strings.EqualFold(scheme, "Basic") || err != nil || len(value) > maxLogin || !strings.Contains(string(login), ":") {
		return "", errLogin
	}
	return "Basic " + value, nil
}

// challenge asks for a token of this mirror, at the name that the client reached
// it by.
func challenge(r *http.Request, rq request) string {
	realm := url.URL{Scheme: "http", Host: hostOf(r), Path: tokenPath}
	if r.TLS != nil {
		realm.Scheme = "https"
	}
	if ns := rq.query.Get("ns"); ns != "" {
		realm.RawQuery = url.Values{"ns": {ns}}.Encode()
	}
	c := `Bearer realm="` + realm.String() + `",service="` + service + `"`
	if rq.ref.Repository != "" { // the name is within the grammar
		c += `,scope="repository:` + rq.name + `:` + rq.rights() + `"`
	}
	return c
}

// hostOf is the host:port that the client reached the mirror by.
func hostOf(r *http.Request) string {
	if _, err := parseHost(r.Host); err == nil {
		return r.Host
	}
	if a, ok := r.Context().Value(http.LocalAddrContextKey).(net.Addr); ok {
		return a.String()
	}
	return "localhost"
}
