package main

import (
	"context"
	"crypto/ed25519"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"

	"github.com/meshd-project/meshd/node"
	"github.com/meshd-project/meshd/node/admin/client"
	"github.com/meshd-project/meshd/node/trust"
)

// keyOperatorCommand prints an operator key, to stdout as `meshd key new` does.
type keyOperatorCommand struct{}

// Run prints the key.
func (keyOperatorCommand) Run(std streams) error {
	text, err := trust.NewOperatorKey()
	if err != nil {
		return err
	}
	return writeSecret(std.out, text)
}

// keyPublicCommand prints the public half of an operator key.
type keyPublicCommand struct {
	File string `arg:"" help:"File of the operator key."`
}

// Run prints the public key.
func (k keyPublicCommand) Run(std streams) error {
	key, err := readOperatorKey(k.File)
	if err != nil {
		return err
	}
	text, err := trust.PublicText(key)
	if err != nil {
		return err
	}
	_, err = fmt.Fprint(std.out, text)
	return err
}

func readOperatorKey(path string) (ed25519.PrivateKey, error) {
	raw, err := node.ReadSecret(path)
	if err != nil {
		return nil, fmt.Errorf("operator key: %w", err)
	}
	key, err := trust.ParseOperatorKey(raw)
	if err != nil {
		return nil, fmt.Errorf("operator key %s: %w", path, err)
	}
	return key, nil
}

// revokeCommand is `meshd revoke`.
type revokeCommand struct {
	Peers       []string `arg:"" name:"peer" help:"Peer ids, as in meshd status and /v1/peers."`
	OperatorKey string   `required:"" env:"MESHD_OPERATOR_KEY" placeholder:"FILE" help:"The operator key (meshd key operator)."`
	Undo        bool     `help:"Take the peers off the list."`
	adminFlags
}

// Run takes the list from a node, changes and signs it, and gives it back; the node passes it on.
func (r *revokeCommand) Run(ctx context.Context, std streams) error {
	var peers []peer.ID
	for _, text := range r.Peers {
		p, err := peer.Decode(text)
		if err != nil {
			return &usageErr{fmt.Errorf("%q is not a peer id", text)}
		}
		peers = append(peers, p)
	}
	key, err := readOperatorKey(r.OperatorKey)
	if err != nil {
		return err
	}
	c, err := r.client()
	if err != nil {
		return err
	}
	var now node.Revoked
	if err := c.Do(ctx, http.MethodGet, "/v1/revoked", nil, &now); err != nil {
		return fmt.Errorf("revocations of the node at %s: %w", r.AdminAddr, err)
	}
	list, err := r.next(now, key, peers)
	if err != nil {
		return err
	}
	signed, err := list.Sign(key)
	if err != nil {
		return err
	}
	if err := c.Do(ctx, http.MethodPut, "/v1/revoked", node.RevokedList{List: string(signed)}, &now); err != nil {
		return fmt.Errorf("hand the list to the node at %s: %w", r.AdminAddr, err)
	}
	if _, err := fmt.Fprintf(std.out, "%d revoked; the list (serial %d) is on its way through the mesh\n", len(now.Peers), now.Serial); err != nil {
		return err
	}
	return r.warnOfItself(ctx, c, std, peers)
}

// warnOfItself tells if the node that was asked is one of the peers: the others cut it, and it cannot pass on its own return.
func (r *revokeCommand) warnOfItself(ctx context.Context, c *client.Client, std streams, peers []peer.ID) error {
	var asked struct {
		PeerID string `json:"peer_id"`
	}
	err := c.Do(ctx, http.MethodGet, "/v1/status", nil, &asked)
	if err != nil || !slices.ContainsFunc(peers, func(p peer.ID) bool { return p.String() == asked.PeerID }) {
		return nil // it is in force in any case
	}
	_, err = fmt.Fprintf(std.err, "meshd: %s is the node that was asked: if the others do not follow, ask one of them\n", asked.PeerID)
	return err
}

// next is the list that follows the one in force. A list that the operator did not sign is no ground to build on.
func (r *revokeCommand) next(now node.Revoked, key ed25519.PrivateKey, peers []peer.ID) (trust.List, error) {
	list := trust.List{Serial: max(now.Serial+1, uint64(time.Now().UnixMilli()))}
	if now.List != "" {
		old, err := trust.Parse([]byte(now.List), key.Public().(ed25519.PublicKey))
		if err != nil {
			return list, fmt.Errorf("the node's list: %w", err)
		}
		list.Peers = old.Peers
	}
	for _, p := range peers {
		at := slices.Index(list.Peers, p)
		switch {
		case r.Undo && at < 0:
			return list, fmt.Errorf("%s is not revoked", p)
		case r.Undo:
			list.Peers = slices.Delete(list.Peers, at, at+1)
		case at >= 0:
			return list, errors.New(p.String() + " is revoked already")
		default:
			list.Peers = append(list.Peers, p)
		}
	}
	return list, nil
}
