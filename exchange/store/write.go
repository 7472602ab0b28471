package store

import "fmt"

// WritePiece stores piece i. The caller has checked that sum is the SHA-256 of data; the store takes its word until
// a restart. proof, of at most MaxProof bytes, is kept as it is. data and proof are the caller's again on return.
//
// Different pieces are written in parallel. A piece that is held already is left alone: nil if sum is the same,
// ErrConflict if not. Of two calls for one piece the second waits for the first. After an error the piece is
// missing as before and may be written again; ErrNoSpace says that the disk is full.
func (p *Partial) WritePiece(i int, data []byte, sum Hash, proof []byte) error {
	off, n := p.layout.span(i)
	if n == 0 || int64(len(data)) != n || len(proof) > MaxProof {
		return p.wrap(fmt.Sprintf("write piece %d of", i),
			fmt.Errorf("%d bytes, %d of proof: %w", len(data), len(proof), ErrInvalid))
	}
	mine, err := p.claim(i, sum)
	if err != nil {
		return p.wrap(fmt.Sprintf("write piece %d of", i), err)
	}
	if !mine {
		return nil
	}
	r := record{piece: i, hash: sum, proof: append([]byte(nil), proof...)}
	if _, err = p.data.WriteAt(data, off); err == nil {
		err = p.journal.Append(r)
	}
	p.release(r, noSpace(err))
	if err != nil {
		return p.wrap(fmt.Sprintf("write piece %d of", i), noSpace(err))
	}
	if len(p.pieces) > 1 {
		p.flusher.Add(off, n)
	}
	return nil
}

// claim makes the caller the writer of piece i, or reports false if it is held already.
func (p *Partial) claim(i int, sum Hash) (bool, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for {
		switch pc := &p.pieces[i]; {
		case p.phase == phaseClosed:
			return false, ErrClosed
		case pc.state == pieceHeld && pc.hash != sum:
			return false, ErrConflict
		case pc.state == pieceHeld:
			return false, nil
		case p.broken != nil:
			return false, p.broken
		case p.phase == phaseOpen && pc.state == pieceMissing:
			pc.state = pieceWriting
			p.writers++
			return true, nil
		}
		p.cond.Wait()
	}
}

// release ends the write that claim began.
func (p *Partial) release(r record, err error) {
	p.settle(r, err)
	p.mu.Lock()
	defer p.mu.Unlock()
	p.writers--
	p.cond.Broadcast()
}

// settle makes a piece held, or missing after an error, and sets the hasher on a prefix that grew.
func (p *Partial) settle(r record, err error) {
	_, n := p.layout.span(r.piece)
	p.mu.Lock()
	if err != nil {
		p.pieces[r.piece].state = pieceMissing
		p.mu.Unlock()
		return
	}
	p.pieces[r.piece] = piece{state: pieceHeld, hash: r.hash, proof: r.proof}
	p.held++
	p.bytes += n
	for p.prefix < len(p.pieces) && p.pieces[p.prefix].state == pieceHeld {
		p.prefix++
	}
	goal := min(int64(p.prefix)*p.layout.pieceSize, p.layout.size)
	p.mu.Unlock()
	if !p.unhashed() {
		p.hasher.Grow(goal)
	}
	p.s.fulfil(p.e, n)
}
