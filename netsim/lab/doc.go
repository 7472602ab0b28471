// Package lab plays a scenario of package netsim with real meshd processes, to find out how far the simulator is right:
// the same file, the same draw of who begins when and who dies, the same table, and both beside each other.
//
// # What is real
//
// Every host is a `meshd run` in a network namespace of its own, every zone a bridge in another, the registry a process
// in one more. Clients are plain HTTP clients inside the hosts' namespaces, which pull through 127.0.0.1:65001 and
// check every digest. The kernel's own TCP carries all, with cubic, which is set for each route, as the machine's own
// choice may need a packet scheduler that it has not (bbr without fq).
//
// The card of a host is a veth pair with a token bucket (tbf) at both ends. Between zones, and between zones and the
// registry, packets go through a router in this process: a TUN device for each zone and for the registry, and a
// fabric that holds each packet for half the round trip and shapes each zone's pipes, those of pairs and the registry's
// egress. The delay between two hosts of one zone is the kernel's own, some hundredths of a millisecond.
//
// # What is counted
//
// Times run from the arrival of a host's client, which is counted from the release: by then all nodes are up and know
// each other. The registry counts the bytes of blobs that it wrote to connections. What came into a zone is counted by the
// router twice: whole IP packets, all of them; and what those of the data ports and the registry carry behind the TCP header
// (pieces with their HTTP and TLS, and retransmissions). The table shows the second, which the simulator's bytes are like. Where the bytes came
// from and how many were duplicates is what the nodes say; those of a killed node are lost.
//
// # Cleaning up
//
// Namespaces have no names: the kernel removes them, and every link and device in them, when the last process in them
// has ended, however it ended. Children are killed with their parent, even if that is killed itself. Only the
// directory with the nodes' data stays if the lab is killed with SIGKILL; the next run removes it. Several labs may run
// at a time, as far as the processors carry them.
//
// # What it refuses
//
// Check refuses, with line and field, what a scenario asks for and processes cannot do: lies, warm disks,
// lost packets, swarm constants, a registry that goes away or does not know ranges, more nodes than a machine carries.
// The model's own constants (delays, mesh, network) are left aside. The package needs Linux and root.
package lab
