package node

import (
	"net/http"

	"github.com/meshd-project/meshd/node/admin"
)

// putScrub stops the search for what has rotted on disk, or lets it go on: PUT /v1/scrub {"paused": true}.
func (n *node) putScrub(w http.ResponseWriter, r *http.Request) error {
	var body struct {
		Paused *bool `json:"paused"`
	}
	if err := admin.Decode(r, &body); err != nil {
		return err
	}
	if body.Paused == nil {
		return admin.Errorf(http.StatusBadRequest, `body: want {"paused": true} or {"paused": false}`)
	}
	n.store.PauseScrub(*body.Paused)
	log.Infow("scrubbing", "paused", *body.Paused)
	return admin.WriteJSON(w, http.StatusOK, n.scrubStatus())
}
