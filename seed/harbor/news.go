package harbor

import (
	"encoding/json"
	"errors"
	"net/http"

	"github.com/meshd-project/meshd/seed/notify"
	"github.com/meshd-project/meshd/seed/preheat"
)

// notifications answers docker distribution, which repeats what is refused for ever and so is told of overload only, and Harbor's Kraken
// driver, which shows the administrator why.
func (s *server) notifications(w http.ResponseWriter, r *http.Request) error {
	data, err := read(w, r)
	if err != nil {
		return err
	}
	events, err := notify.ParseDistribution(data)
	if err != nil {
		return err
	}
	return s.tell(w, r, events, fromKraken(data))
}

// fromKraken tells Harbor's Kraken driver from docker distribution: it writes Go's field names.
func fromKraken(data []byte) bool {
	var fields map[string]json.RawMessage
	err := json.Unmarshal(data, &fields)
	return err == nil && fields["Events"] != nil
}

func (s *server) webhook(w http.ResponseWriter, r *http.Request) error {
	data, err := read(w, r)
	if err != nil {
		return err
	}
	events, err := notify.ParseHarbor(data)
	if err != nil {
		return err
	}
	return s.tell(w, r, events, true)
}

// tell makes jobs of events; strict: the sender hears of those that were refused.
func (s *server) tell(w http.ResponseWriter, r *http.Request, events []notify.Event, strict bool) error {
	res, err := s.news.Notify(r.Context(), events)
	if err != nil && (strict || errors.Is(err, preheat.ErrBusy) || errors.Is(err, preheat.ErrClosed)) {
		return err
	}
	return write(w, http.StatusOK, res)
}

func (s *server) notifyImage(w http.ResponseWriter, r *http.Request) error {
	var body struct {
		Image string `json:"image"`
	}
	if err := decode(w, r, &body); err != nil {
		return err
	}
	image, err := preheat.ParseImage(body.Image, s.cfg.DefaultRegistry)
	if err != nil {
		return err
	}
	res, err := s.news.NotifyImage(r.Context(), image)
	if err != nil {
		return err
	}
	return write(w, http.StatusOK, res)
}
