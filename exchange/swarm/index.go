package swarm

// index finds members by id. A map would take more room than the members of a large mesh themselves, in each of the thousands of
// cores of a simulation. It is open-addressed with linear probing (Knuth, TAOCP 3, 6.4, algorithms L and R); the salt keeps
// those who choose their ids from choosing where they collide.
type index struct {
	slots []*member // a power of two, at most three quarters of them used
	used  int
	salt  uint64
}

func (x *index) home(id PeerID) int {
	h := x.salt
	for i := max(len(id)-16, 0); i < len(id); i++ { // ids differ at the end: it is the public key
		h = (h ^ uint64(id[i])) * 1099511628211
	}
	return int(mix(h) & uint64(len(x.slots)-1))
}

// find returns the place of an id, or the free one where it would be. There is always one.
func (x *index) find(id PeerID) int {
	i := x.home(id)
	for x.slots[i] != nil && x.slots[i].ID != id {
		i = (i + 1) & (len(x.slots) - 1)
	}
	return i
}

func (x *index) get(id PeerID) *member {
	if x.used == 0 {
		return nil
	}
	return x.slots[x.find(id)]
}

// put adds a member that is not there yet.
func (x *index) put(m *member) {
	if 4*(x.used+1) > 3*len(x.slots) {
		old := x.slots
		x.slots = make([]*member, max(2*len(old), 8))
		for _, o := range old {
			if o != nil {
				x.slots[x.find(o.ID)] = o
			}
		}
	}
	x.slots[x.find(m.ID)] = m
	x.used++
}

// remove takes a member out and moves up those that stand behind it for its sake.
func (x *index) remove(id PeerID) {
	if x.get(id) == nil {
		return
	}
	mask := len(x.slots) - 1
	hole := x.find(id)
	x.slots[hole] = nil
	x.used--
	for i := (hole + 1) & mask; x.slots[i] != nil; i = (i + 1) & mask {
		if home := x.home(x.slots[i].ID); (i-home)&mask >= (i-hole)&mask {
			x.slots[hole], x.slots[i] = x.slots[i], nil
			hole = i
		}
	}
}
