package main

import (
	"path/filepath"

	"github.com/meshd-project/meshd/node"
	"github.com/meshd-project/meshd/node/admin/client"
)

// adminFlags say how a node is asked; every command that asks one embeds them.
type adminFlags struct {
	AdminAddr      string `env:"MESHD_ADMIN_ADDR" default:"${admin_addr}" placeholder:"ADDR" help:"Admin address of the node: HOST:PORT, https://HOST:PORT or unix:PATH (default ${default})."`
	AdminTokenFile string `env:"MESHD_ADMIN_TOKEN_FILE" placeholder:"FILE" help:"Admin token (default: admin.token in --data-dir, if it can be read)."`
	AdminCA        string `name:"admin-ca" env:"MESHD_ADMIN_CA" placeholder:"FILE" help:"Authorities for the node's TLS certificate, PEM (default: the system's)."`
	DataDir        string `env:"MESHD_DATA_DIR" default:"${data_dir}" placeholder:"DIR" help:"Data dir of the node, for its own token."`
}

// client returns a client of the node. An error is the user's mistake.
func (f *adminFlags) client() (*client.Client, error) {
	c, err := client.New(client.Config{
		Addr: f.AdminAddr, TokenFile: f.AdminTokenFile, CA: f.AdminCA,
		OwnToken: filepath.Join(f.DataDir, node.AdminTokenFile),
	})
	if err != nil {
		return nil, &usageErr{err}
	}
	return c, nil
}
