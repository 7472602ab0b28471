package mirror

import (
	"strings"
	"testing"
	"time"
)

func TestConfig(t *testing.T) {
	if err := (Config{}).Validate(); err != nil {
		t.Fatalf("the zero config: %v", err)
	}
	if Default() != Default().withDefaults() || Default().DefaultRegistry != "docker.io" {
		t.Fatalf("defaults are not stable: %+v", Default())
	}
	long := Config{GrantTTL: 48 * time.Hour}
	if err := long.Validate(); err != nil {
		t.Fatalf("a grant TTL above the default stale TTL: %v", err)
	}
	for name, c := range map[string]Config{
		"default registry":   {DefaultRegistry: "http://x"},
		"first byte timeout": {FirstByteTimeout: -1},
		"manifest timeout":   {ManifestTimeout: -1},
		"stall timeout":      {StallTimeout: -1},
		"write timeout":      {WriteTimeout: -1},
		"body timeout":       {BodyTimeout: -1},
		"manifest max":       {ManifestMax: -1},
		"grant ttl":          {GrantTTL: -1},
		"refusal ttl":        {RefusalTTL: -1},
		"stale ttl":          {StaleTTL: time.Second},
		"max grants":         {MaxGrants: -1},
		"max tags":           {MaxTags: -1},
		"max requests":       {MaxRequests: -1},
		"max questions":      {MaxQuestions: -1},
	} {
		if err := c.Validate(); err == nil || !strings.Contains(err.Error(), name) {
			t.Errorf("%s: %v", name, err)
		}
	}
}
