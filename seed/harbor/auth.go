package harbor

import (
	"bufio"
	"bytes"
	"crypto/sha256"
	"crypto/subtle"
	"errors"
	"fmt"
	"net/http"
	"strings"

	"golang.org/x/net/http/httpguts"
)

// minSecret is the least length of a token or a password, in bytes.
const minSecret = 8

// Auth says who may ask. The zero value lets nobody in.
type Auth struct {
	open bool
	want []credential
}

// credential is a header and the hash of the value that it must have.
type credential struct {
	header string
	sum    [sha256.Size]byte
}

// ParseAuth reads the file of --preheat-auth: a line for each way in, of which one is enough. The ways are Harbor's modes:
//
//	none
//	basic USER:PASSWORD
//	bearer TOKEN
//	header NAME: VALUE
//
// Empty lines and those that begin with # are left out. Errors name the line, and no secret.
func ParseAuth(data []byte) (Auth, error) {
	var a Auth
	lines := bufio.NewScanner(bytes.NewReader(data))
	for n := 1; lines.Scan(); n++ {
		line := strings.TrimSpace(lines.Text())
		if line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		if err := a.add(line); err != nil {
			return Auth{}, fmt.Errorf("line %d: %w", n, err)
		}
	}
	if err := lines.Err(); err != nil {
		return Auth{}, err
	}
	if !a.open && len(a.want) == 0 {
		return Auth{}, errors.New("it names no way in: want lines of none, basic USER:PASSWORD, bearer TOKEN or header NAME: VALUE")
	}
	return a, nil
}

func (a *Auth) add(line string) error {
	mode, rest, _ := strings.Cut(line, " ")
	rest = strings.TrimSpace(rest)
	switch mode {
	case "none":
		a.open = true
		return nil
	case "basic":
		user, password, ok := strings.Cut(rest, ":")
		if !ok || user == "" || len(password) < minSecret {
			return fmt.Errorf("want basic USER:PASSWORD with a password of %d bytes or more", minSecret)
		}
		r := http.Request{Header: http.Header{}}
		r.SetBasicAuth(user, password)
		return a.require("Authorization", r.Header.Get("Authorization"))
	case "bearer":
		if len(rest) < minSecret {
			return fmt.Errorf("want bearer TOKEN with a token of %d bytes or more", minSecret)
		}
		return a.require("Authorization", "Bearer "+rest)
	case "header":
		name, value, ok := strings.Cut(rest, ":")
		value = strings.TrimSpace(value)
		if !ok || len(value) < minSecret || !httpguts.ValidHeaderFieldName(name) {
			return fmt.Errorf("want header NAME: VALUE with a value of %d bytes or more", minSecret)
		}
		return a.require(name, value)
	}
	return errors.New("want none, basic USER:PASSWORD, bearer TOKEN or header NAME: VALUE")
}

func (a *Auth) require(header, value string) error {
	if !httpguts.ValidHeaderFieldValue(value) {
		return errors.New("there is a sign in it that no header can carry")
	}
	a.want = append(a.want, credential{http.CanonicalHeaderKey(header), sha256.Sum256([]byte(value))})
	return nil
}

// Open reports whether everybody is let in.
func (a Auth) Open() bool { return a.open }

// allows compares in constant time.
func (a Auth) allows(h http.Header) bool {
	ok := a.open
	for _, c := range a.want {
		sum := sha256.Sum256([]byte(h.Get(c.header)))
		ok = subtle.ConstantTimeCompare(sum[:], c.sum[:]) == 1 || ok
	}
	return ok
}
