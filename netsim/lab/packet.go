package lab

import "encoding/binary"

// Header sizes and protocol numbers of RFC 791 and RFC 9293.
const (
	minIPv4 = 20
	minTCP  = 20
	ipTCP   = 6
	ipUDP   = 17
	udpSize = 8
)

// header is what the router reads of a packet.
type header struct {
	src, dst [4]byte
	size     int // of the whole packet
	payload  int // bytes behind the TCP or UDP header; of other protocols behind the IP header
	from, to int // TCP ports; 0 of other protocols and of fragments
}

// Ports of what runs in the lab.
const (
	registryPort = 5000
	p2pPort      = 65003 // control messages
	dataPort     = 65004 // pieces
)

// bulk reports whether the packet is one of blobs: to or from a node's data port or the registry.
func (h *header) bulk() bool {
	return h.from == dataPort || h.to == dataPort || h.from == registryPort || h.to == registryPort
}

// parse reads the header of an IPv4 packet. It reports false for everything else and for what contradicts itself.
func parse(p []byte) (header, bool) {
	if len(p) < minIPv4 || p[0]>>4 != 4 {
		return header{}, false
	}
	ihl := int(p[0]&15) * 4
	size := int(binary.BigEndian.Uint16(p[2:]))
	if ihl < minIPv4 || size < ihl || size > len(p) {
		return header{}, false
	}
	h := header{src: [4]byte(p[12:16]), dst: [4]byte(p[16:20]), size: size, payload: size - ihl}
	if binary.BigEndian.Uint16(p[6:])&0x1fff != 0 { // not the first fragment: no more headers
		return h, true
	}
	switch next := 0; p[9] {
	case ipTCP:
		if size >= ihl+minTCP {
			next = int(p[ihl+12]>>4) * 4
			h.from, h.to = int(binary.BigEndian.Uint16(p[ihl:])), int(binary.BigEndian.Uint16(p[ihl+2:]))
		}
		h.payload = max(h.payload-max(next, minTCP), 0)
	case ipUDP:
		h.payload = max(h.payload-udpSize, 0)
	}
	return h, true
}
