package netsim

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"

	"github.com/opencontainers/go-digest"

	"github.com/meshd-project/meshd/exchange/swarm"
)

// ErrNoNode says that Options.RecordNodes names a node that there is not.
var ErrNoNode = errors.New("there is no such node")

// shareRecord has the world gather a host's journal.
const shareRecord sharedOp = 255

// recorder writes what cores were told and what they decided, one JSON object a line: the lines of a window in the order
// of the nodes, those of a node in the order in which they happened. A host writes into its own journal while the
// hosts run in parallel, and the world gathers them between windows.
type recorder struct {
	w     *bufio.Writer
	err   error
	names [][]byte // of nodes, as JSON
}

// journal is what a host recorded in a window.
type journal struct {
	names [][]byte
	buf   []byte
}

// record has the hosts named write down what happens at them, or all if none is named.
func (w *world) record(out io.Writer, only []string) error {
	rec := &recorder{w: bufio.NewWriterSize(out, 1<<16)}
	for _, n := range w.t.nodes {
		name, err := json.Marshal(n.name)
		if err != nil {
			return fmt.Errorf("record: %w", err)
		}
		rec.names = append(rec.names, name)
	}
	left := slices.Clone(only)
	for i, h := range w.hosts {
		if k := slices.Index(left, w.t.nodes[i].name); k >= 0 {
			left = slices.Delete(left, k, k+1)
		} else if len(only) > 0 {
			continue
		}
		h.log = &journal{names: rec.names}
	}
	if len(left) > 0 {
		return fmt.Errorf("record %q: %w; they are named as %q is", left[0], ErrNoNode, w.t.nodes[0].name)
	}
	w.rec = rec
	return nil
}

// gather takes over what a host recorded in the window.
func (r *recorder) gather(l *journal) {
	if r.err == nil {
		_, r.err = r.w.Write(l.buf)
	}
	l.buf = l.buf[:0]
}

// failed returns why nothing more can be written; nil if it can.
func (r *recorder) failed() error {
	if r == nil || r.err == nil {
		return nil
	}
	return fmt.Errorf("record: %w", r.err)
}

func (r *recorder) close() error {
	if r == nil {
		return nil
	}
	if err := r.w.Flush(); r.err == nil {
		r.err = err
	}
	return r.failed()
}

// line begins a line of the host's journal: kind is "event" or "action".
func (h *host) line(kind, name string) *journal {
	l := h.log
	if len(l.buf) == 0 {
		h.share(shareRecord, 0)
	}
	l.buf = append(l.buf, `{"t":`...)
	l.buf = strconv.AppendFloat(l.buf, float64(h.now)/1e9, 'f', 9, 64)
	l.buf = append(l.buf, `,"node":`...)
	l.buf = append(l.buf, l.names[h.id]...)
	return l.text(kind, name)
}

// text adds a field. Values are from a fixed set or hexadecimal: they need no escapes.
func (l *journal) text(key, value string) *journal {
	l.key(key)
	l.buf = append(append(append(l.buf, '"'), value...), '"')
	return l
}

func (l *journal) key(key string) {
	if l.buf[len(l.buf)-1] != '{' {
		l.buf = append(l.buf, ',')
	}
	l.buf = append(append(append(l.buf, '"'), key...), `":`...)
}

func (l *journal) num(key string, v int64) *journal {
	l.key(key)
	l.buf = strconv.AppendInt(l.buf, v, 10)
	return l
}

func (l *journal) on(key string) *journal {
	l.key(key)
	l.buf = append(l.buf, "true"...)
	return l
}

func (l *journal) blob(d digest.Digest) *journal { return l.text("blob", short(d)) }

func (l *journal) piece(i swarm.PieceIndex) *journal { return l.num("piece", int64(i)) }

// runs adds runs of units as text: "3,7-9".
func (l *journal) runs(key string, runs ...swarm.Units) *journal {
	l.key(key)
	l.buf = append(l.buf, '"')
	for i, u := range runs {
		if i > 0 {
			l.buf = append(l.buf, ',')
		}
		l.buf = strconv.AppendUint(l.buf, uint64(u.First), 10)
		if u.Count > 1 {
			l.buf = append(l.buf, '-')
			l.buf = strconv.AppendUint(l.buf, uint64(u.First)+uint64(u.Count)-1, 10)
		}
	}
	l.buf = append(l.buf, '"')
	return l
}

func (l *journal) end() { l.buf = append(l.buf, "}\n"...) }

// peered adds the name of a peer.
func (h *host) peered(l *journal, key string, id swarm.PeerID) *journal {
	l.key(key)
	if i := h.w.t.indexOf(id); i >= 0 {
		l.buf = append(l.buf, l.names[i]...)
	} else {
		l.buf = strconv.AppendQuoteToASCII(l.buf, fmt.Sprintf("%x", string(id)))
	}
	return l
}

// uploaded adds what is known of an upload.
func (h *host) uploaded(l *journal, xfer uint64) *journal {
	if i := h.upload(xfer); i >= 0 {
		u := &h.uploads[i]
		h.peered(l.blob(h.w.layers.list[u.blob].digest).piece(u.piece), "peer", h.peer(u.to))
	}
	return l.num("xfer", int64(xfer))
}

func (h *host) recordEvent(ev swarm.Event) {
	at := func(name string) *journal { return h.line("event", name) }
	switch e := ev.(type) {
	case swarm.Member:
		l := h.peered(at("Member"), "peer", e.ID)
		if e.Seed {
			l.on("seed")
		}
		if e.Relay {
			l.on("relay")
		}
		l.end()
	case swarm.MemberLost:
		h.peered(at("MemberLost"), "peer", e.ID).end()
	case swarm.Received:
		h.recordMessage(h.peered(at("Received"), "peer", e.From), e.Msg)
	case swarm.Wanted:
		at("Wanted").blob(e.Digest).num("size", e.Size).end()
	case swarm.Reading:
		at("Reading").blob(e.Digest).num("off", e.Off).end()
	case swarm.ReadClosed:
		at("ReadClosed").blob(e.Digest).end()
	case swarm.Unwanted:
		at("Unwanted").blob(e.Digest).end()
	case swarm.Held:
		at("Held").blob(e.Digest).num("size", e.Size).num("count", int64(e.Have.Count())).end()
	case swarm.OpenFailed:
		at("OpenFailed").blob(e.Digest).end()
	case swarm.Dropped:
		at("Dropped").blob(e.Digest).end()
	case swarm.ProvidersFound:
		l := at("ProvidersFound").blob(e.Digest).num("count", int64(len(e.Peers)))
		if e.Done {
			l.on("done")
		}
		l.end()
	case swarm.PieceRequested:
		h.peered(at("PieceRequested").blob(e.Digest).piece(e.Piece), "peer", e.From).num("xfer", int64(e.Xfer)).end()
	case swarm.PieceServed:
		l := at("PieceServed").num("xfer", int64(e.Xfer))
		if e.OK {
			l.on("ok")
		}
		l.end()
	case swarm.PieceStarted:
		h.peered(at("PieceStarted").blob(e.Digest).piece(e.Piece), "peer", e.From).end()
	case swarm.PieceArrived:
		l := h.peered(at("PieceArrived").blob(e.Digest).piece(e.Piece), "peer", e.From)
		if e.Attester != "" {
			h.peered(l, "attester", e.Attester)
		}
		l.num("took_us", e.Took.Microseconds()).end()
	case swarm.PieceFailed:
		l := h.peered(at("PieceFailed").blob(e.Digest).piece(e.Piece), "peer", e.From)
		l.num("why", int64(e.Why)).num("wait_us", e.Wait.Microseconds()).num("load", int64(e.Load)).end()
	case swarm.OriginSized:
		at("OriginSized").blob(e.Digest).num("fetch", int64(e.Fetch)).num("size", e.Size).end()
	case swarm.OriginPiece:
		at("OriginPiece").blob(e.Digest).piece(e.Piece).num("fetch", int64(e.Fetch)).end()
	case swarm.OriginDone:
		at("OriginDone").blob(e.Digest).num("fetch", int64(e.Fetch)).end()
	case swarm.OriginFailed:
		at("OriginFailed").blob(e.Digest).num("fetch", int64(e.Fetch)).num("why", int64(e.Kind)).end()
	case swarm.Verified:
		at("Verified").blob(e.Digest).end()
	case swarm.VerifyFailed:
		at("VerifyFailed").blob(e.Digest).end()
	case swarm.Tick:
		// Every 20 ms at every host, and of interest only for the actions that follow.
	default:
		at(typeName(ev)).end()
	}
}

func (h *host) recordAction(a swarm.Action) {
	do := func(name string) *journal { return h.line("action", name) }
	switch a := a.(type) {
	case swarm.Send:
		h.recordMessage(h.peered(do("Send"), "peer", a.To), a.Msg)
	case swarm.FindProviders:
		do("FindProviders").blob(a.Digest).end()
	case swarm.Announce:
		do("Announce").blob(a.Digest).num("state", int64(a.State)).end()
	case swarm.OpenBlob:
		do("OpenBlob").blob(a.Digest).num("size", a.Size).end()
	case swarm.RequestPiece:
		h.peered(do("RequestPiece").blob(a.Digest).piece(a.Piece), "peer", a.To).end()
	case swarm.CancelPiece:
		h.peered(do("CancelPiece").blob(a.Digest).piece(a.Piece), "peer", a.To).end()
	case swarm.ServePiece:
		h.uploaded(do("ServePiece"), a.Xfer).end()
	case swarm.RefusePiece:
		h.uploaded(do("RefusePiece"), a.Xfer).num("wait_us", a.Wait.Microseconds()).num("load", int64(a.Load)).end()
	case swarm.FetchOrigin:
		do("FetchOrigin").blob(a.Digest).num("fetch", int64(a.Fetch)).piece(a.First).num("count", int64(a.Count)).end()
	case swarm.StopOrigin:
		do("StopOrigin").blob(a.Digest).num("fetch", int64(a.Fetch)).end()
	case swarm.Verify:
		do("Verify").blob(a.Digest).end()
	case swarm.Discard:
		do("Discard").blob(a.Digest).end()
	case swarm.Distrust:
		if a.Strangers {
			do("DistrustStrangers").blob(a.Digest).end()
			return
		}
		h.peered(do("Distrust").blob(a.Digest), "peer", a.Attester).end()
	case swarm.GiveUp:
		do("GiveUp").blob(a.Digest).num("why", int64(a.Reason)).end()
	case swarm.Quarantine:
		h.peered(do("Quarantine"), "peer", a.Peer).num("why", int64(a.Why)).end()
	default:
		do(typeName(a)).end()
	}
}

// typeName serves what was added to package swarm since.
func typeName(v any) string { return strings.TrimPrefix(fmt.Sprintf("%T", v), "swarm.") }

// recordMessage ends a line with a message.
func (h *host) recordMessage(l *journal, m swarm.Message) {
	msg := func(name string, d digest.Digest) *journal { return l.text("msg", name).blob(d) }
	switch m := m.(type) {
	case swarm.Hello:
		msg("Hello", m.Digest).num("size", m.Size).num("count", int64(m.Have.Count())).num("load", int64(m.Load))
		if m.Want {
			l.on("want")
		}
		if m.Reply {
			l.on("reply")
		}
	case swarm.Have:
		msg("Have", m.Digest).runs("pieces", m.Pieces...).num("load", int64(m.Load))
	case swarm.Bye:
		msg("Bye", m.Digest)
	case swarm.Join:
		msg("Join", m.Digest)
	case swarm.Members:
		msg("Members", m.Digest).num("count", int64(len(m.Peers)))
	case swarm.Want:
		msg("Want", m.Digest)
	case swarm.Refuse:
		msg("Refuse", m.Digest).num("why", int64(m.Kind))
	case swarm.Claim:
		msg("Claim", m.Digest).num("scope", int64(m.Scope)).num("state", int64(m.State)).runs("units", m.Units...)
	case swarm.Verdict:
		msg("Verdict", m.Digest).num("scope", int64(m.Scope)).runs("granted", m.Granted...)
		h.denied(l, m.Denied)
	default:
		l.text("msg", typeName(m))
	}
	l.end()
}

// denied adds a list of denials.
func (h *host) denied(l *journal, list []swarm.Denial) {
	l.key("denied")
	l.buf = append(l.buf, '[')
	for i, d := range list {
		if i > 0 {
			l.buf = append(l.buf, ',')
		}
		l.buf = append(l.buf, '{')
		h.peered(l.runs("units", d.Units), "holder", d.Holder)
		if d.Done {
			l.on("done")
		}
		l.buf = append(l.buf, '}')
	}
	l.buf = append(l.buf, ']')
}
