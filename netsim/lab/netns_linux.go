package lab

import (
	"fmt"
	"net/http"
	"os"
	"path/filepath"

	"github.com/meshd-project/meshd/netsim/testbed"
)

// sysctls are set in every namespace. Routes do not remember what earlier connections met, so that one run is like another.
var sysctls = map[string]string{
	"ipv4/tcp_congestion_control":   "reno", // of the loopback; a namespace may always have it
	"ipv4/tcp_no_metrics_save":      "1",
	"ipv4/ip_forward":               "1",
	"ipv6/conf/all/disable_ipv6":    "1",
	"ipv6/conf/default/accept_dad":  "0",
	"ipv4/neigh/default/gc_thresh3": "4096",
}

// congestion is the TCP congestion control of all connections between hosts. It is given with their routes, which works
// for every algorithm that the kernel has, while the default of a namespace has to be one that the machine lets everybody use.
const congestion = "cubic"

// namespace is where a host, a zone's bridge or the registry stands.
type namespace struct{ *testbed.Namespace }

// newNamespace makes a namespace with its sysctls.
func newNamespace() (*namespace, error) {
	made, err := testbed.NewNamespace()
	if err != nil {
		return nil, err
	}
	n := &namespace{made}
	for name, value := range sysctls {
		if err := n.set(name, value); err != nil {
			n.Close()
			return nil, err
		}
	}
	return n, nil
}

// set gives a parameter of the namespace below /proc/sys/net a value, if the kernel has the parameter.
func (n *namespace) set(name, value string) error {
	return n.Do(func() error {
		path := filepath.Join("/proc/sys/net", name)
		if err := os.WriteFile(path, []byte(value), 0o644); err != nil && !os.IsNotExist(err) {
			return fmt.Errorf("set %s to %s: %w", path, value, err)
		}
		return nil
	})
}

// client returns an HTTP client that dials from inside the namespace.
func (n *namespace) client() *http.Client {
	return &http.Client{Transport: &http.Transport{
		DialContext:         n.DialContext,
		MaxIdleConnsPerHost: 4,
		DisableCompression:  true,
		ReadBufferSize:      64 << 10,
	}}
}
