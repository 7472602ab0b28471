package harbor

import (
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/meshd-project/meshd/seed/preheat"
)

// preheatType and imageType are the only kinds of jobs.
const (
	preheatType = "preheat"
	imageType   = "image"
)

// maxTasks bounds the nodes' blobs that one answer lists.
const maxTasks = 1000

// harborTimeout is a little more than Harbor waits for a job.
const harborTimeout = 35 * time.Minute

// jobBody is the body of POST /oapi/v1/jobs. What is left out has no meaning here: there are no scheduler clusters, and how many
// fetch at once is for the nodes to say.
type jobBody struct {
	Type string `json:"type"`
	Args struct {
		Type    string            `json:"type"`
		URL     string            `json:"url"`
		Headers map[string]string `json:"headers"`
		Scope   string            `json:"scope"`
		Timeout time.Duration     `json:"timeout"` // nanoseconds; 0: ours
	} `json:"args"`
}

// scopes translates Dragonfly's.
var scopes = map[string]preheat.Scope{
	"":                 preheat.ScopeSeeds,
	"single_seed_peer": preheat.ScopeSeed,
	"all_seed_peers":   preheat.ScopeSeeds,
	"all_peers":        preheat.ScopeAll,
}

// jobAnswer is a job as Dragonfly shows it.
type jobAnswer struct {
	ID      preheat.ID `json:"id"`
	Created time.Time  `json:"created_at"`
	Updated time.Time  `json:"updated_at"`
	State   string     `json:"state"` // PENDING, SUCCESS or FAILURE: Harbor takes any other for a failure
	Result  *jobResult `json:"result"`
}

type jobResult struct {
	JobStates []jobState `json:"job_states"`
}

type jobState struct {
	Error   string          `json:"error"`
	Results []clusterResult `json:"results"`
}

type clusterResult struct {
	Cluster int    `json:"scheduler_cluster_id"`
	Success []task `json:"success_tasks"`
	Failure []task `json:"failure_tasks"`
}

type task struct {
	URL         string `json:"url"`
	Hostname    string `json:"hostname"`
	IP          string `json:"ip"`
	Description string `json:"description,omitempty"`
}

func (s *server) createJob(w http.ResponseWriter, r *http.Request) error {
	var b jobBody
	if err := decode(w, r, &b); err != nil {
		return err
	}
	scope, ok := scopes[b.Args.Scope]
	switch {
	case b.Type != preheatType || b.Args.Type != imageType:
		return fmt.Errorf("%w: want type preheat of an image, not %.40q of %.40q", preheat.ErrInvalid, b.Type, b.Args.Type)
	case !ok:
		return fmt.Errorf("%w: scope %.40q: want single_seed_peer, all_seed_peers or all_peers", preheat.ErrInvalid, b.Args.Scope)
	}
	image, err := s.image(b.Args.URL, "")
	if err != nil {
		return err
	}
	job, err := s.jobs.Create(preheat.Request{
		Image: image, Scope: scope, Platforms: s.cfg.Platforms, Authorization: authorization(b.Args.Headers),
		Timeout: timeout(b.Args.Timeout),
	})
	if err != nil {
		return err
	}
	return write(w, http.StatusOK, answer(job))
}

// timeout is Harbor's if that makes sense.
func timeout(d time.Duration) time.Duration {
	if d >= time.Second && d <= preheat.MaxTimeout {
		return d
	}
	return harborTimeout
}

func (s *server) getJob(w http.ResponseWriter, r *http.Request) error {
	id, err := preheat.ParseID(r.PathValue("id"))
	if err != nil {
		return err
	}
	job, err := s.jobs.Get(r.Context(), id)
	if errors.Is(err, preheat.ErrAway) { // it restarts: Harbor would take any other answer for the end
		now := time.Now().UTC()
		return write(w, http.StatusOK, jobAnswer{ID: id, Created: now, Updated: now, State: "PENDING"})
	}
	if err != nil {
		return err
	}
	return write(w, http.StatusOK, answer(job))
}

// answer translates a job.
func answer(j preheat.Job) jobAnswer {
	a := jobAnswer{ID: j.ID, Created: j.Created.UTC(), Updated: j.Updated.UTC(), State: "PENDING"}
	switch {
	case j.State == preheat.Succeeded:
		a.State = "SUCCESS"
	case j.State.Ended():
		a.State = "FAILURE"
	}
	if j.State.Ended() {
		a.Result = result(j)
	}
	return a
}

// result lists the blobs of each node, failures first.
func result(j preheat.Job) *jobResult {
	base := ""
	if i, err := preheat.ParseImage(j.Image, ""); err == nil {
		base = "https://" + i.Registry + "/v2/" + i.Name + "/blobs/"
	}
	c := clusterResult{Cluster: 1, Success: []task{}, Failure: []task{}}
	for _, n := range j.Nodes {
		for _, l := range n.Layers {
			if l.State != preheat.Succeeded && len(c.Failure) < maxTasks {
				c.Failure = append(c.Failure, task{base + l.Digest.String(), n.PeerID, n.Name, l.Reason})
			}
		}
		if n.State != preheat.Succeeded {
			continue
		}
		for _, l := range j.Layers {
			if len(c.Success) < maxTasks {
				c.Success = append(c.Success, task{URL: base + l.Digest.String(), Hostname: n.PeerID, IP: n.Name})
			}
		}
	}
	return &jobResult{[]jobState{{Error: j.Reason, Results: []clusterResult{c}}}}
}

// oldBody is the body of POST /preheats.
type oldBody struct {
	Type    string            `json:"type"`
	URL     string            `json:"url"`
	Headers map[string]string `json:"headers"`
	Digest  string            `json:"digest"`
}

// oldAnswer is a job as Dragonfly 1 shows it.
type oldAnswer struct {
	ID     string `json:"ID"`
	Status string `json:"status,omitempty"` // WAITING, RUNNING, SUCCESS or FAILED
	Start  string `json:"startTime,omitempty"`
	Finish string `json:"finishTime,omitempty"`
	Error  string `json:"errorMsg,omitempty"`
}

func (s *server) createOld(w http.ResponseWriter, r *http.Request) error {
	var b oldBody
	if err := decode(w, r, &b); err != nil {
		return err
	}
	if b.Type != imageType {
		return fmt.Errorf("%w: want type image, not %.40q", preheat.ErrInvalid, b.Type)
	}
	image, err := s.image(b.URL, digest.Digest(b.Digest))
	if err != nil {
		return err
	}
	job, err := s.jobs.Create(preheat.Request{
		Image: image, Scope: preheat.ScopeSeeds, Platforms: s.cfg.Platforms, Authorization: authorization(b.Headers), Timeout: harborTimeout,
	})
	if err != nil {
		return err
	}
	return write(w, http.StatusOK, oldAnswer{ID: job.ID.String()})
}

func (s *server) getOld(w http.ResponseWriter, r *http.Request) error {
	id, err := preheat.ParseID(r.PathValue("id"))
	if err != nil {
		return err
	}
	job, err := s.jobs.Get(r.Context(), id)
	if errors.Is(err, preheat.ErrAway) {
		return write(w, http.StatusOK, oldAnswer{ID: id.String(), Status: "RUNNING", Start: time.Now().UTC().Format(time.RFC3339)})
	}
	if err != nil {
		return err
	}
	a := oldAnswer{ID: id.String(), Status: "RUNNING", Start: job.Created.UTC().Format(time.RFC3339)}
	switch {
	case job.State == preheat.Queued:
		a.Status = "WAITING"
	case job.State == preheat.Succeeded:
		a.Status = "SUCCESS"
	case job.State.Ended():
		a.Status, a.Error = "FAILED", job.Reason
	}
	if job.State.Ended() {
		a.Finish = job.Updated.UTC().Format(time.RFC3339)
	}
	return write(w, http.StatusOK, a)
}
