package trust

import (
	"bytes"
	"crypto/ed25519"
	"encoding/base64"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/libp2p/go-libp2p/core/peer"
)

// Bounds of a list.
const (
	MaxPeers = 1024
	MaxList  = 64 << 10 // bytes
)

const (
	listHeader = "meshd-revoked/1\n"
	serialWord = "serial "
	signWord   = "signature "
)

// ErrList is the parent of all errors about a list's bytes.
var ErrList = errors.New("not a signed list of revoked peers")

// List is who is revoked. The serial grows with each list of an operator.
type List struct {
	Serial uint64
	Peers  []peer.ID
}

// Sign returns the document. Peers are sorted and doubles dropped.
func (l List) Sign(key ed25519.PrivateKey) ([]byte, error) {
	ids := make([]string, 0, len(l.Peers))
	for _, p := range l.Peers {
		if err := p.Validate(); err != nil {
			return nil, err
		}
		ids = append(ids, p.String())
	}
	slices.Sort(ids)
	ids = slices.Compact(ids)
	if len(ids) > MaxPeers {
		return nil, fmt.Errorf("%d peers: want at most %d (change the mesh key instead)", len(ids), MaxPeers)
	}
	var b bytes.Buffer
	fmt.Fprintf(&b, "%s%s%d\n", listHeader, serialWord, l.Serial)
	for _, id := range ids {
		fmt.Fprintln(&b, id)
	}
	sig := ed25519.Sign(key, b.Bytes())
	fmt.Fprintf(&b, "%s%s\n", signWord, base64.StdEncoding.EncodeToString(sig))
	return b.Bytes(), nil
}

// Parse checks a document against the operator's key. Errors wrap ErrList.
func Parse(raw []byte, operator ed25519.PublicKey) (List, error) {
	bad := func(why string) (List, error) { return List{}, fmt.Errorf("%w: %s", ErrList, why) }
	if len(raw) > MaxList {
		return bad("too long")
	}
	at := bytes.LastIndex(raw, []byte(signWord))
	if at < 0 || len(raw) == 0 || raw[len(raw)-1] != '\n' {
		return bad("no signature")
	}
	text := string(raw[at+len(signWord) : len(raw)-1])
	sig, err := base64.StdEncoding.DecodeString(text)
	if err != nil || base64.StdEncoding.EncodeToString(sig) != text || !ed25519.Verify(operator, raw[:at], sig) {
		return bad("the signature is not by the operator's key")
	}
	body, ok := strings.CutPrefix(string(raw[:at]), listHeader+serialWord)
	serial, rest, more := strings.Cut(body, "\n")
	n, err := strconv.ParseUint(serial, 10, 64)
	if !ok || !more || err != nil || strconv.FormatUint(n, 10) != serial {
		return bad("no serial")
	}
	l := List{Serial: n}
	last := ""
	for line := range strings.Lines(rest) {
		id, err := peer.Decode(strings.TrimSuffix(line, "\n"))
		if err != nil || id.String()+"\n" != line || line <= last || len(l.Peers) == MaxPeers {
			return bad("a line is no peer id, or out of order")
		}
		last = line
		l.Peers = append(l.Peers, id)
	}
	return l, nil
}
