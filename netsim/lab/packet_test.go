package lab

import (
	"encoding/binary"
	"testing"
)

// ipv4 makes a packet with a header of ihl bytes, what follows it, and a total length.
func ipv4(src, dst [4]byte, proto byte, ihl int, fragment uint16, rest []byte) []byte {
	p := make([]byte, ihl, ihl+len(rest))
	p[0] = 4<<4 | byte(ihl/4)
	binary.BigEndian.PutUint16(p[2:], uint16(ihl+len(rest)))
	binary.BigEndian.PutUint16(p[6:], fragment)
	p[9] = proto
	copy(p[12:], src[:])
	copy(p[16:], dst[:])
	return append(p, rest...)
}

// tcp makes a segment with a header of so many bytes.
func tcp(header, payload int) []byte {
	s := make([]byte, header+payload)
	s[12] = byte(header/4) << 4
	return s
}

var (
	addrA = [4]byte{10, 1, 1, 1}
	addrB = [4]byte{10, 2, 1, 1}
)

func TestParse(t *testing.T) {
	short := ipv4(addrA, addrB, ipTCP, 20, 0, tcp(20, 100))
	for _, row := range []struct {
		name    string
		packet  []byte
		ok      bool
		size    int
		payload int
	}{
		{"nothing", nil, false, 0, 0},
		{"TCP", ipv4(addrA, addrB, ipTCP, 20, 0, tcp(32, 1448)), true, 1500, 1448},
		{"TCP behind IP options", ipv4(addrA, addrB, ipTCP, 24, 0, tcp(20, 10)), true, 54, 10},
		{"an acknowledgement", ipv4(addrA, addrB, ipTCP, 20, 0, tcp(32, 0)), true, 52, 0},
		{"a TCP header that says it is longer than the packet", ipv4(addrA, addrB, ipTCP, 20, 0, append(tcp(60, 0)[:20:20], 1)), true, 41, 0},
		{"half a TCP header", ipv4(addrA, addrB, ipTCP, 20, 0, make([]byte, 9)), true, 29, 0},
		{"UDP", ipv4(addrA, addrB, ipUDP, 20, 0, make([]byte, 108)), true, 128, 100},
		{"ICMP", ipv4(addrA, addrB, 1, 20, 0, make([]byte, 8)), true, 28, 8},
		{"a later fragment", ipv4(addrA, addrB, ipTCP, 20, 3, make([]byte, 40)), true, 60, 40},
		{"padding behind the packet", append(ipv4(addrA, addrB, 1, 20, 0, nil), 0, 0), true, 20, 0},
		{"cut short", short[:len(short)-1], false, 0, 0},
		{"a header shorter than there is", append([]byte{4<<4 | 4}, short[1:]...), false, 0, 0},
		{"IPv6", append([]byte{6 << 4}, short[1:]...), false, 0, 0},
	} {
		t.Run(row.name, func(t *testing.T) {
			h, ok := parse(row.packet)
			if ok != row.ok || h.size != row.size || h.payload != row.payload {
				t.Fatalf("got %+v, %v", h, ok)
			}
			if ok && (h.src != addrA || h.dst != addrB) {
				t.Errorf("from %v to %v", h.src, h.dst)
			}
		})
	}
}

func TestBulk(t *testing.T) {
	for _, row := range []struct {
		from, to uint16
		want     bool
	}{{40000, dataPort, true}, {dataPort, 40000, true}, {40000, registryPort, true}, {registryPort, 40000, true}, {40000, p2pPort, false}} {
		s := tcp(20, 10)
		binary.BigEndian.PutUint16(s, row.from)
		binary.BigEndian.PutUint16(s[2:], row.to)
		if h, ok := parse(ipv4(addrA, addrB, ipTCP, 24, 0, s)); !ok || h.bulk() != row.want {
			t.Errorf("from port %d to %d: %+v, %v", row.from, row.to, h, ok)
		}
	}
}

// Whatever comes out of a device, what is believed of it lies within it.
func FuzzParse(f *testing.F) {
	f.Add(ipv4(addrA, addrB, ipTCP, 20, 0, tcp(32, 8)))
	f.Add(ipv4(addrA, addrB, ipUDP, 24, 0, make([]byte, 3)))
	f.Add([]byte{0x45})
	f.Fuzz(func(t *testing.T, p []byte) {
		h, ok := parse(p)
		if !ok {
			if h != (header{}) {
				t.Fatalf("refused, and yet %+v", h)
			}
			return
		}
		if h.size < minIPv4 || h.size > len(p) || h.payload < 0 || h.payload > h.size-minIPv4 {
			t.Fatalf("%+v of %d bytes", h, len(p))
		}
		if to, ok := port(h.dst, 3); ok && (to < 0 || to > 3) {
			t.Fatalf("port %d", to)
		}
	})
}
