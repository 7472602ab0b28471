package e2e

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

// guardedHost is what nodes call the registry that wants tokens.
const guardedHost = "guarded.test"

// registryLeeway is how long after its end docker-registry takes a token.
const registryLeeway = time.Minute

// authServer issues tokens to users by name and password, as the Docker registry token protocol has it, and counts them.
type authServer struct {
	addr string
	cert []byte // PEM, its own authority
	key  *ecdsa.PrivateKey
	der  []byte

	users map[string]string   // passwords by name
	mays  map[string][]string // repositories by name; "" is anybody
	life  time.Duration       // of a token, at least, and less than a second more; 0: 5 min. Set before anybody asks

	mu     sync.Mutex
	asked  map[string]int // by "USER SCOPE"
	tokens []string       // given out
}

// startAuthServer serves tokens on an address of its own until the test ends.
func startAuthServer(t testing.TB, n network, users map[string]string, mays map[string][]string) *authServer {
	t.Helper()
	a := &authServer{addr: n.host(202) + ":5001", users: users, mays: mays, asked: map[string]int{}}
	var err error
	a.key, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	must(t, err)
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), NotBefore: time.Unix(0, 0), NotAfter: time.Now().AddDate(1, 0, 0),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign,
	}
	a.der, err = x509.CreateCertificate(rand.Reader, template, template, &a.key.PublicKey, a.key)
	must(t, err)
	a.cert = pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: a.der})
	l, err := net.Listen("tcp", a.addr)
	must(t, err)
	srv := &http.Server{Handler: a, ReadHeaderTimeout: 10 * time.Second}
	served := make(chan struct{})
	go func() {
		defer close(served)
		_ = srv.Serve(l)
	}()
	t.Cleanup(func() {
		_ = srv.Close()
		<-served
	})
	return a
}

// config is the auth section of a docker-registry that believes this server.
func (a *authServer) config(t testing.TB) string {
	t.Helper()
	bundle := filepath.Join(t.TempDir(), "bundle.pem")
	must(t, os.WriteFile(bundle, a.cert, 0o600))
	return fmt.Sprintf("auth:\n  token:\n    realm: http://%s/token\n    service: %s\n    issuer: e2e\n    rootcertbundle: %s\n", a.addr, guardedHost, bundle)
}

func (a *authServer) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.Method != http.MethodGet { // clients that try OAuth 2 first come again
		w.WriteHeader(http.StatusMethodNotAllowed)
		return
	}
	user, password, login := r.BasicAuth()
	scope := r.URL.Query().Get("scope")
	a.mu.Lock()
	a.asked[strings.TrimSpace(user+" "+scope)]++
	a.mu.Unlock()
	if login && (password == "" || a.users[user] != password) {
		w.WriteHeader(http.StatusUnauthorized)
		return
	}
	access := []any{}
	repo, actions, _ := strings.Cut(strings.TrimPrefix(scope, "repository:"), ":")
	if slices.Contains(a.mays[user], repo) || slices.Contains(a.mays[""], repo) {
		access = append(access, map[string]any{"type": "repository", "name": repo, "actions": strings.Split(actions, ",")})
	}
	token, err := a.sign(user, access)
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	a.mu.Lock()
	a.tokens = append(a.tokens, token)
	a.mu.Unlock()
	_ = json.NewEncoder(w).Encode(map[string]any{"token": token, "expires_in": 300})
}

// sign makes a JWT (ES256, with the certificate in its header).
func (a *authServer) sign(user string, access []any) (string, error) {
	now := time.Now().Unix()
	expires := now + 300
	if a.life != 0 {
		expires = time.Now().Add(a.life - registryLeeway + time.Second - 1).Unix() // whole seconds, rounded up
	}
	header, err := json.Marshal(map[string]any{"typ": "JWT", "alg": "ES256", "x5c": []string{base64.StdEncoding.EncodeToString(a.der)}})
	if err != nil {
		return "", err
	}
	claims, err := json.Marshal(map[string]any{
		"iss": "e2e", "sub": user, "aud": guardedHost, "exp": expires, "nbf": now - 120, "iat": now - 120, "jti": rand.Text(), "access": access,
	})
	if err != nil {
		return "", err
	}
	signed := base64.RawURLEncoding.EncodeToString(header) + "." + base64.RawURLEncoding.EncodeToString(claims)
	sum := sha256.Sum256([]byte(signed))
	r, s, err := ecdsa.Sign(rand.Reader, a.key, sum[:])
	if err != nil {
		return "", err
	}
	sig := make([]byte, 64)
	r.FillBytes(sig[:32])
	s.FillBytes(sig[32:])
	return signed + "." + base64.RawURLEncoding.EncodeToString(sig), nil
}

// questions returns how often was asked for each user and scope, and how often in all.
func (a *authServer) questions() (each map[string]int, all int) {
	a.mu.Lock()
	defer a.mu.Unlock()
	each = map[string]int{}
	for k, n := range a.asked {
		each[k] = n
		all += n
	}
	return each, all
}
