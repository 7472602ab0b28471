// Package e2e holds the end-to-end tests and the benchmarks of the whole: the real meshd binary, Debian's
// docker-registry, and real clients (dockerd, containerd, podman, buildah, skopeo, crane,
// regctl, oras-go, curl), all as processes of their own on loopback addresses. Clients that are libraries are programs in
// clients, a module of its own.
//
// Every test gets a 127.A.B.0/24 of its own, so that nodes use their usual ports and tests never meet. Bytes out of the
// registry are counted by a reverse proxy in front of it, also a process of its own (this test binary once more).
//
// TestChaos stands apart: as root it runs in network and mount namespaces of its own, a further one for each node, so that
// it can cut networks and fill disks. See docs/testing.md.
//
// A test whose tools are missing is skipped and says so; with MESHD_REQUIRE_ALL set, as `make test` does for root, it fails.
package e2e
