package files

import (
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/opencontainers/go-digest"

	"github.com/meshd-project/meshd/exchange/store"
)

// Protocol is spoken over a stream of its own: one question, one answer (see the package comment).
const Protocol = "/meshd/file/1"

const (
	maxMessage = 32 << 10 // bytes; a URL and its filter, written as JSON
	askTimeout = 3 * time.Second
)

// question is what a node asks another: one of the two.
type question struct {
	Where digest.Digest `json:"where,omitempty"`
	Seal  digest.Digest `json:"seal,omitempty"`
	Root  string        `json:"root,omitempty"` // hex
}

// place is where a file is. The zero value says that the asked does not tell.
type place struct {
	URL      string   `json:"url,omitempty"`
	Filter   []string `json:"filter,omitempty"`
	ETag     string   `json:"etag,omitempty"`
	Modified string   `json:"modified,omitempty"`
	Size     int64    `json:"size,omitempty"`
}

// sealed is the root that the asked was told first.
type sealed struct {
	Root string `json:"root"`
}

// readMessage reads one JSON object of known fields.
func readMessage(r io.Reader, v any) error {
	dec := json.NewDecoder(io.LimitReader(r, maxMessage))
	dec.DisallowUnknownFields()
	return dec.Decode(v)
}

// ask puts a question to a peer that is connected.
func (f *Files) ask(ctx context.Context, to peer.ID, q question, answer any) error {
	ctx, cancel := context.WithTimeout(network.WithNoDial(ctx, "files"), askTimeout)
	defer cancel()
	s, err := f.host.NewStream(ctx, to, Protocol)
	if err != nil {
		return fmt.Errorf("ask %s: %w", to, err)
	}
	defer func() { _ = s.Reset() }() // the answer is there, or nobody waits for it
	deadline, _ := ctx.Deadline()
	_ = s.SetDeadline(deadline)
	defer context.AfterFunc(ctx, func() { _ = s.Reset() })()
	if err := json.NewEncoder(s).Encode(q); err != nil {
		return fmt.Errorf("ask %s: %w", to, err)
	}
	if err := readMessage(s, answer); err != nil {
		return fmt.Errorf("answer of %s: %w", to, err)
	}
	return nil
}

// where asks the node that knows a file.
func (f *Files) where(ctx context.Context, id peer.ID, name digest.Digest) (place, error) {
	var p place
	if err := f.ask(ctx, id, question{Where: name}, &p); err != nil {
		return p, fmt.Errorf("%w: %w", errUnknown, err)
	}
	if p.URL == "" {
		return p, fmt.Errorf("%w: %s does not tell", errUnknown, id)
	}
	return p, nil
}

// answer answers one question of a member.
func (f *Files) answer(s network.Stream) {
	f.streams.Add(1)
	defer f.streams.Done()
	select {
	case f.slots <- struct{}{}:
		defer func() { <-f.slots }()
	default:
		_ = s.Reset()
		return
	}
	_ = s.SetDeadline(time.Now().Add(askTimeout))
	var q question
	err := readMessage(s, &q)
	if err == nil {
		var a any
		if a, err = f.reply(q); err == nil {
			err = json.NewEncoder(s).Encode(a)
		}
	}
	if err != nil {
		log.Debugw("question not answered", "peer", s.Conn().RemotePeer(), "err", err)
		_ = s.Reset()
		return
	}
	_ = s.Close()
}

var errQuestion = errors.New("not a question of this protocol")

// reply is the answer to a question.
func (f *Files) reply(q question) (any, error) {
	switch {
	case q.Where != "" && q.Seal == "" && q.Where.Validate() == nil:
		return f.tell(q.Where), nil
	case q.Where == "" && store.IsFile(q.Seal):
		root, err := hex.DecodeString(q.Root)
		if err != nil || len(root) != len(store.Hash{}) {
			return nil, errQuestion
		}
		first := f.first(q.Seal, store.Hash(root))
		return sealed{hex.EncodeToString(first[:])}, nil
	}
	return nil, errQuestion
}

// tell is what a member is told of a file: nothing unless this node lists its host.
func (f *Files) tell(name digest.Digest) place {
	k, ok := f.known.Peek(name)
	if !ok || !f.tells(k.request) {
		return place{}
	}
	return place{
		URL: k.request.URL.String(), Filter: k.request.Filter,
		ETag: k.version.ETag, Modified: k.version.Modified, Size: k.version.Size,
	}
}
