package notify

import (
	"encoding/json"
	"fmt"
	"net/url"
	"strings"

	"github.com/google/go-containerregistry/pkg/v1/types"
	"github.com/opencontainers/go-digest"

	"github.com/meshd-project/meshd/seed/preheat"
)

// MaxEvents bounds the events of one body.
const MaxEvents = 1000

// Event is a manifest that was pushed.
type Event struct {
	Host       string // of the registry, as the event has it: HOST[:PORT]
	Repository string
	Tag        string
	Digest     digest.Digest // "" if the event does not tell
}

// envelope is what docker distribution and Harbor's Kraken driver send. Field names match in any case.
type envelope struct {
	Events []struct {
		Action string `json:"action"`
		Target struct {
			MediaType  types.MediaType `json:"mediaType"`
			Digest     string          `json:"digest"`
			Repository string          `json:"repository"`
			URL        string          `json:"url"`
			Tag        string          `json:"tag"`
		} `json:"target"`
		Request *struct {
			Host string `json:"host"`
		} `json:"request"`
	} `json:"events"`
}

// ParseDistribution reads docker distribution's notifications and returns the pushes of tagged manifests among them. ErrInvalid for what is
// none.
func ParseDistribution(data []byte) ([]Event, error) {
	var e envelope
	if err := json.Unmarshal(data, &e); err != nil {
		return nil, fmt.Errorf("%w: %w", preheat.ErrInvalid, err)
	}
	if e.Events == nil || len(e.Events) > MaxEvents {
		return nil, fmt.Errorf("%w: want {\"events\": [...]} with at most %d", preheat.ErrInvalid, MaxEvents)
	}
	var out []Event
	for _, n := range e.Events {
		t := n.Target
		if n.Action != "push" || t.Tag == "" || !t.MediaType.IsImage() && !t.MediaType.IsIndex() {
			continue
		}
		host := ""
		if u, err := url.Parse(t.URL); err == nil {
			host = u.Host
		}
		if host == "" && n.Request != nil {
			host = n.Request.Host
		}
		ev := Event{Host: host, Repository: t.Repository, Tag: t.Tag}
		if d, err := digest.Parse(t.Digest); err == nil {
			ev.Digest = d
		}
		out = append(out, ev)
	}
	return out, nil
}

// webhook is Harbor's payload: of type PUSH_ARTIFACT with event_data, or a CloudEvent with data.
type webhook struct {
	Type      string       `json:"type"`
	EventData *webhookData `json:"event_data"`
	Data      *webhookData `json:"data"`
}

type webhookData struct {
	Resources []struct {
		Digest string `json:"digest"`
		Tag    string `json:"tag"`
		URL    string `json:"resource_url"`
	} `json:"resources"`
	Repository struct {
		FullName string `json:"repo_full_name"`
	} `json:"repository"`
}

// ParseHarbor reads Harbor's webhook and returns the artifacts that were pushed with a tag; of other kinds of events none.
// ErrInvalid for what is none.
func ParseHarbor(data []byte) ([]Event, error) {
	var w webhook
	if err := json.Unmarshal(data, &w); err != nil {
		return nil, fmt.Errorf("%w: %w", preheat.ErrInvalid, err)
	}
	d := w.EventData
	if d == nil {
		d = w.Data
	}
	switch {
	case w.Type == "":
		return nil, fmt.Errorf("%w: want a type, such as PUSH_ARTIFACT", preheat.ErrInvalid)
	case w.Type != "PUSH_ARTIFACT" && w.Type != "harbor.artifact.pushed", d == nil:
		return nil, nil
	case len(d.Resources) > MaxEvents:
		return nil, fmt.Errorf("%w: more than %d resources", preheat.ErrInvalid, MaxEvents)
	}
	var out []Event
	for _, r := range d.Resources {
		host, _, _ := strings.Cut(r.URL, "/")
		if r.Tag == "" || strings.HasPrefix(r.Tag, "sha256:") {
			continue
		}
		ev := Event{Host: host, Repository: d.Repository.FullName, Tag: r.Tag}
		if d, err := digest.Parse(r.Digest); err == nil {
			ev.Digest = d
		}
		out = append(out, ev)
	}
	return out, nil
}
