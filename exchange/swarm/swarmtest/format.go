package swarmtest

import (
	"fmt"
	"strings"

	"github.com/meshd-project/meshd/exchange/swarm"
)

// Describe writes an action in one short line, as the story scripts have it.
func Describe(a swarm.Action) string {
	switch a := a.(type) {
	case swarm.Send:
		return fmt.Sprintf("-> %s %s", a.To, describe(a.Msg))
	case swarm.FindProviders:
		return "find providers"
	case swarm.Announce:
		return fmt.Sprintf("announce %s%s", map[swarm.AnnounceState]string{swarm.Importing: "importing", swarm.Holding: "holding"}[a.State], flag(a.Global, " globally"))
	case swarm.OpenBlob:
		return fmt.Sprintf("open %d bytes", a.Size)
	case swarm.RequestPiece:
		return fmt.Sprintf("request %d of %s", a.Piece, a.To)
	case swarm.CancelPiece:
		return fmt.Sprintf("cancel %d of %s", a.Piece, a.To)
	case swarm.ServePiece:
		return fmt.Sprintf("serve #%d", a.Xfer)
	case swarm.RefusePiece:
		return fmt.Sprintf("refuse #%d%s", a.Xfer, flag(a.Wait == 0, " not here"))
	case swarm.FetchOrigin:
		what := fmt.Sprintf("pieces %d-%d", a.First, int(a.First)+int(a.Count)-1)
		if a.Count == 0 {
			what = fmt.Sprintf("from %d on", a.First)
		}
		return fmt.Sprintf("fetch #%d from the origin: %s%s", a.Fetch, what, flag(a.Bytes > 0, fmt.Sprintf(", %d bytes", a.Bytes)))
	case swarm.StopOrigin:
		return fmt.Sprintf("stop fetch #%d", a.Fetch)
	case swarm.Await:
		return fmt.Sprintf("await what %s reads", a.Reader)
	case swarm.Verify:
		return "verify"
	case swarm.Discard:
		return "discard"
	case swarm.Distrust:
		if a.Strangers {
			return "distrust strangers"
		}
		return fmt.Sprintf("distrust %s", a.Attester)
	case swarm.GiveUp:
		return fmt.Sprintf("give up: %s", map[swarm.GiveUpReason]string{swarm.GaveUpOrigin: "origin", swarm.GaveUpCorrupt: "corrupt", swarm.GaveUpAbandoned: "abandoned", swarm.GaveUpStore: "store"}[a.Reason])
	case swarm.Quarantine:
		return fmt.Sprintf("quarantine %s", a.Peer)
	}
	return fmt.Sprintf("%T%+v", a, a)
}

func describe(m swarm.Message) string {
	switch m := m.(type) {
	case swarm.Hello:
		return fmt.Sprintf("hello: size %d, has %d%s%s%s", m.Size, m.Have.Count(), flag(m.Want, ", wants"), flag(m.NoRange, ", no ranges"), flag(m.Reply, ", reply"))
	case swarm.Have:
		return "have " + list(m.Pieces)
	case swarm.Bye:
		return "bye"
	case swarm.Join:
		return "join"
	case swarm.Members:
		var ids []string
		for _, p := range m.Peers {
			ids = append(ids, string(p.ID))
		}
		return "members [" + strings.Join(ids, " ") + "]"
	case swarm.Want:
		return fmt.Sprintf("want: size %d of %s/%s", m.Size, m.Origin.Registry, m.Origin.Repository)
	case swarm.Refuse:
		return fmt.Sprintf("refuse: kind %d", m.Kind)
	case swarm.Claim:
		return fmt.Sprintf("claim %s %s %s", scope(m.Scope), map[swarm.ClaimState]string{swarm.ClaimWant: "want", swarm.ClaimHeld: "held", swarm.ClaimDone: "done", swarm.ClaimRelease: "release"}[m.State], list(m.Units))
	case swarm.Verdict:
		s := "verdict " + scope(m.Scope)
		if len(m.Granted) > 0 {
			s += ": granted " + list(m.Granted)
		}
		for _, d := range m.Denied {
			s += fmt.Sprintf(": denied %s, %s has it%s", list([]swarm.Units{d.Units}), d.Holder, flag(d.Done, " whole"))
		}
		return s
	}
	return fmt.Sprintf("%T%+v", m, m)
}

func scope(s swarm.Scope) string {
	if s == swarm.ScopeOrigin {
		return "stripes"
	}
	return "pieces"
}

func list(runs []swarm.Units) string {
	var out []string
	for _, r := range runs {
		if r.Count == 1 {
			out = append(out, fmt.Sprint(r.First))
		} else {
			out = append(out, fmt.Sprintf("%d-%d", r.First, r.First+r.Count-1))
		}
	}
	return strings.Join(out, ",")
}

func flag(on bool, s string) string {
	if on {
		return s
	}
	return ""
}
