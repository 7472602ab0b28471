package node

import (
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/meshd-project/meshd/node/admin"
	"github.com/meshd-project/meshd/seed/preheat"
)

// preheatRoutes are those of jobs.
func (n *node) preheatRoutes() []admin.Route {
	return []admin.Route{
		{Method: http.MethodGet, Path: "/v1/preheats", Handle: n.listPreheats},
		{Method: http.MethodPost, Path: "/v1/preheats", Handle: n.createPreheat},
		{Method: http.MethodGet, Path: "/v1/preheats/{id}", Handle: n.getPreheat},
		{Method: http.MethodDelete, Path: "/v1/preheats/{id}", Handle: n.cancelPreheat},
		{Method: http.MethodPost, Path: "/v1/notify", Handle: n.notifyImage},
	}
}

// preheatBody is the body of POST /v1/preheats.
type preheatBody struct {
	Image     string   `json:"image"`
	Platforms []string `json:"platforms"`
	Scope     string   `json:"scope"`
	Timeout   string   `json:"timeout"` // such as 30m
}

// request reads a body.
func (n *node) preheatRequest(b preheatBody) (preheat.Request, error) {
	image, err := preheat.ParseImage(b.Image, n.cfg.Mirror.DefaultRegistry)
	if err != nil {
		return preheat.Request{}, err
	}
	r := preheat.Request{Image: image, Platforms: b.Platforms, Scope: preheat.Scope(b.Scope)}
	if b.Timeout != "" {
		if r.Timeout, err = time.ParseDuration(b.Timeout); err != nil {
			return r, fmt.Errorf("%w: timeout %.40q: want a duration such as 30m", preheat.ErrInvalid, b.Timeout)
		}
	}
	return r, nil
}

func (n *node) createPreheat(w http.ResponseWriter, r *http.Request) error {
	var body preheatBody
	if err := admin.Decode(r, &body); err != nil {
		return err
	}
	request, err := n.preheatRequest(body)
	if err != nil {
		return preheatRefusal(err)
	}
	job, err := n.preheat.Create(request)
	if err != nil {
		return preheatRefusal(err)
	}
	w.Header().Set("Location", "/v1/preheats/"+job.ID.String())
	return admin.WriteJSON(w, http.StatusCreated, job)
}

// imageNamed reads the image that the body of a request names.
func (n *node) imageNamed(r *http.Request) (preheat.Image, error) {
	var body struct {
		Image string `json:"image"`
	}
	if err := admin.Decode(r, &body); err != nil {
		return preheat.Image{}, err
	}
	image, err := preheat.ParseImage(body.Image, n.cfg.Mirror.DefaultRegistry)
	if err != nil {
		return preheat.Image{}, preheatRefusal(err)
	}
	return image, nil
}

// notifyImage has the rules decide where an image goes that was pushed.
func (n *node) notifyImage(w http.ResponseWriter, r *http.Request) error {
	image, err := n.imageNamed(r)
	if err != nil {
		return err
	}
	res, err := n.news.NotifyImage(r.Context(), image)
	if err != nil {
		return preheatRefusal(err)
	}
	return admin.WriteJSON(w, http.StatusOK, res)
}

func (n *node) listPreheats(w http.ResponseWriter, _ *http.Request) error {
	return admin.WriteJSON(w, http.StatusOK, n.preheat.List())
}

func (n *node) getPreheat(w http.ResponseWriter, r *http.Request) error {
	id, err := preheat.ParseID(r.PathValue("id"))
	if err != nil {
		return preheatRefusal(err)
	}
	job, err := n.preheat.Get(r.Context(), id)
	if err != nil {
		return preheatRefusal(err)
	}
	return admin.WriteJSON(w, http.StatusOK, job)
}

func (n *node) cancelPreheat(w http.ResponseWriter, r *http.Request) error {
	id, err := preheat.ParseID(r.PathValue("id"))
	if err != nil {
		return preheatRefusal(err)
	}
	job, err := n.preheat.Cancel(r.Context(), id)
	if err != nil {
		return preheatRefusal(err)
	}
	return admin.WriteJSON(w, http.StatusOK, job)
}

// preheatStatuses says which status an error of preheat is; the first that matches counts.
var preheatStatuses = []struct {
	err    error
	status int
	after  time.Duration
}{
	{preheat.ErrInvalid, http.StatusBadRequest, 0},
	{preheat.ErrPlatform, http.StatusBadRequest, 0},
	{preheat.ErrUnlisted, http.StatusForbidden, 0},
	{preheat.ErrDenied, http.StatusForbidden, 0},
	{preheat.ErrNotFound, http.StatusNotFound, 0},
	{preheat.ErrUnknown, http.StatusNotFound, 0},
	{preheat.ErrBusy, http.StatusTooManyRequests, 5 * time.Second},
	{preheat.ErrAway, http.StatusServiceUnavailable, 5 * time.Second},
	{preheat.ErrClosed, http.StatusServiceUnavailable, 5 * time.Second},
}

// preheatRefusal is an error of preheat as the client gets it.
func preheatRefusal(err error) error {
	for _, row := range preheatStatuses {
		if errors.Is(err, row.err) {
			return &admin.Error{Status: row.status, Message: err.Error(), RetryAfter: row.after}
		}
	}
	return &admin.Error{Status: http.StatusBadGateway, Message: err.Error()}
}

// PreheatJob is a job as /v1/preheats shows it.
type PreheatJob = preheat.Job
