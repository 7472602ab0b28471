package node

import (
	"crypto/x509"
	"fmt"
	"net"
	"net/http"

	"github.com/libp2p/go-libp2p/core/peer"

	"github.com/meshd-project/meshd/mirror/gateway"
	"github.com/meshd-project/meshd/node/admin"
	"github.com/meshd-project/meshd/node/files"
	"github.com/meshd-project/meshd/seed/file"
	"github.com/meshd-project/meshd/seed/origin"
)

// FileHost is a pattern of hosts that have files: NAME, *.DOMAIN, ADDRESS or *, with an optional :PORT.
type FileHost = file.Host

// openFiles makes what brings plain files through the mesh.
func (n *node) openFiles() (err error) {
	var authorities *x509.CertPool
	if ca := n.cfg.Files.CA; ca != "" {
		if authorities, err = origin.Authorities(ca); err != nil {
			return fmt.Errorf("--files-ca: %w", err)
		}
	}
	n.files, err = files.New(files.Config{
		RootCAs: authorities,
		Allow:   n.cfg.Files.Allow, Gateway: n.cfg.Files.Gateway, Control: origin.GuardClient, Own: n.notOwn,
		MeshKey: func() []byte { return n.meshKeys.all()[0].psk }, Limits: n.limits, Members: n.connectedIDs, Address: n.addressOf, Settled: n.settled,
	}, n.host)
	if err != nil {
		return err
	}
	n.closeLater(n.files.Close)
	n.gateway = gateway.New(gateway.Config{}, n.files)
	return nil
}

// withGateway puts the gateway before what else answers at the mirror's port, if it is to be there.
func (n *node) withGateway(next http.Handler) http.Handler {
	if len(n.cfg.Files.Gateway) == 0 {
		return next
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if gateway.Match(r) {
			n.gateway.ServeHTTP(w, r)
			return
		}
		next.ServeHTTP(w, r)
	})
}

// FileRequest is the body of POST /v1/files.
type FileRequest struct {
	URL    string      `json:"url"`
	Header http.Header `json:"header,omitempty"` // for the file's origin
	Filter []string    `json:"filter,omitempty"` // query parameters that do not tell one file from another
	Digest string      `json:"digest,omitempty"` // sha256:HEX
}

// serveFile answers POST /v1/files with the file: as the gateway does, of any host.
func (n *node) serveFile(w http.ResponseWriter, r *http.Request) error {
	var q FileRequest
	if err := admin.Decode(r, &q); err != nil {
		return err
	}
	n.gateway.Serve(w, r, gateway.Ask{URL: q.URL, Header: q.Header, Filter: q.Filter, Digest: q.Digest})
	return nil
}

// addressOf is the address of a member's data port, without the port; "" if it is none, or has not told.
func (n *node) addressOf(id peer.ID) string {
	for _, m := range n.topology.Members() {
		if m.ID == id {
			host, _, _ := net.SplitHostPort(m.DataAddr) // "" if that is no address
			return host
		}
	}
	return ""
}

func (n *node) connectedIDs() []peer.ID {
	var out []peer.ID
	for _, m := range n.connectedPeers() {
		out = append(out, m.ID)
	}
	return out
}
