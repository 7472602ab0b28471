package node

import (
	"encoding/json"
	"path/filepath"
	"testing"

	"github.com/meshd-project/meshd/node/admin/client"
)

// The scrubber is stopped and let go on over the admin API, and the status says so.
func TestAdminScrub(t *testing.T) {
	cfg := testConfig(t, "")
	cfg.Admin.Addr = "unix:" + filepath.Join(t.TempDir(), "admin.sock")
	launch(t, cfg, nil)
	c, err := client.New(client.Config{Addr: cfg.Admin.Addr})
	if err != nil {
		t.Fatal(err)
	}
	for _, paused := range []bool{true, false} {
		var answer ScrubStatus
		if err := c.Do(t.Context(), "PUT", "/v1/scrub", map[string]bool{"paused": paused}, &answer); err != nil || answer.Paused != paused {
			t.Fatalf("%+v, %v", answer, err)
		}
		var status Status
		text, err := c.Get(t.Context(), "/v1/status")
		if err == nil {
			err = json.Unmarshal(text, &status)
		}
		if err != nil || status.Store.Scrub.Paused != paused {
			t.Errorf("status: %+v, %v", status.Store.Scrub, err)
		}
	}
	if err := c.Do(t.Context(), "PUT", "/v1/scrub", map[string]bool{}, nil); err == nil {
		t.Error("a body that says nothing is taken")
	}
}
