package node

import (
	"context"
	"crypto/ed25519"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"os"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"

	"github.com/meshd-project/meshd/dht/gossip"
	"github.com/meshd-project/meshd/node/admin"
	"github.com/meshd-project/meshd/node/trust"
)

const (
	maxAllow      = 4 << 20         // bytes of an allow list: some 70000 peers
	allowInterval = 2 * time.Second // between two looks at it
)

// openTrust makes what says who may be a member.
func (n *node) openTrust() error {
	self, err := peer.IDFromPrivateKey(n.key)
	if err != nil {
		return err
	}
	var operator ed25519.PublicKey
	if path := n.cfg.P2P.OperatorPublic; path != "" {
		raw, err := readPublic(path, 4<<10)
		if err == nil {
			operator, err = trust.ParsePublic(raw)
		}
		if err != nil {
			return fmt.Errorf("--operator-public: %s: %w", path, err)
		}
	}
	kept, err := os.ReadFile(n.path(RevokedFile))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("read the revocations: %w", err)
	}
	n.gate = trust.NewGate(self, operator, kept, func(raw []byte) error { return writeFile(n.path(RevokedFile), raw, 0o600) })
	n.evidence = &evidence{dir: n.path(EvidenceDir)}
	if n.cfg.P2P.AllowPeers == "" {
		return nil
	}
	n.allowText, err = readPublic(n.cfg.P2P.AllowPeers, maxAllow)
	if err != nil {
		return fmt.Errorf("--allow-peers: %w", err)
	}
	peers, err := trust.ParseAllow(string(n.allowText))
	if err != nil {
		return fmt.Errorf("--allow-peers: %s: %w", n.cfg.P2P.AllowPeers, err)
	}
	n.gate.Allow(peers)
	return nil
}

// readPublic reads a file that is no secret but that others must not be able to change.
func readPublic(path string, limit int64) ([]byte, error) {
	f, info, err := openFile(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	if info.Mode().Perm()&0o022 != 0 && !hidden(path) {
		return nil, fmt.Errorf("%s may be changed by others (mode %#o): chmod 644 %s", path, info.Mode().Perm(), path)
	}
	raw, err := io.ReadAll(io.LimitReader(f, limit+1))
	if err == nil && int64(len(raw)) > limit {
		err = fmt.Errorf("%s: more than %d bytes", path, limit)
	}
	return raw, err
}

// keepAllow takes over what the allow list says, until ctx ends. A list that is no good leaves the one before in force.
func (n *node) keepAllow(ctx context.Context) error {
	if n.cfg.P2P.AllowPeers == "" {
		return nil
	}
	tick := time.NewTicker(allowInterval)
	defer tick.Stop()
	failed := ""
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
		raw, err := readPublic(n.cfg.P2P.AllowPeers, maxAllow)
		if err == nil && string(raw) == string(n.allowText) {
			continue
		}
		var peers []peer.ID
		if err == nil {
			peers, err = trust.ParseAllow(string(raw))
		}
		if err != nil {
			if failed != err.Error() {
				failed = err.Error()
				log.Warnw("allow list not read again; the one before stays in force", "err", err)
			}
			continue
		}
		failed, n.allowText = "", raw
		log.Infow("allow list changed", "count", len(peers))
		n.gate.Allow(peers)
	}
}

// changed passes on what gossip says of a member that is admitted.
func (n *node) changed(m gossip.Member) {
	if n.gate.Admits(m.ID) {
		n.topology.Changed(m)
	}
}

// Revoked is /v1/revoked: who is revoked, and the document that says so.
type Revoked struct {
	Serial uint64    `json:"serial"` // 0: there was never a list
	Peers  []peer.ID `json:"peers"`
	List   string    `json:"list"` // as the operator signed it
}

// RevokedList is the body of PUT /v1/revoked.
type RevokedList struct {
	List string `json:"list"` // as the operator signed it
}

func (n *node) revoked() Revoked {
	list, raw := n.gate.Revoked()
	if list.Peers == nil {
		list.Peers = []peer.ID{}
	}
	return Revoked{list.Serial, list.Peers, string(raw)}
}

// takeRevoked puts a list in force that the operator has signed.
func (n *node) takeRevoked(w http.ResponseWriter, r *http.Request) error {
	var in RevokedList
	if err := admin.Decode(r, &in); err != nil {
		return err
	}
	switch err := n.gate.Take([]byte(in.List)); {
	case errors.Is(err, trust.ErrOld), errors.Is(err, trust.ErrNoOperator):
		return admin.Errorf(http.StatusConflict, "%v", err)
	case errors.Is(err, trust.ErrList):
		return admin.Errorf(http.StatusBadRequest, "%v", err)
	case err != nil:
		return err
	}
	return admin.WriteJSON(w, http.StatusOK, n.revoked())
}
