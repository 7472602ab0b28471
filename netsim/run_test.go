package netsim

import (
	"context"
	"encoding/json"
	"os"
	"testing"
)

func TestTry(t *testing.T) {
	file := os.Getenv("SCENARIO")
	if file == "" {
		t.Skip()
	}
	s, err := Load(file)
	if err != nil {
		t.Fatal(err)
	}
	r, err := s.Run(context.Background(), Options{Progress: func(p Progress) { t.Logf("%+v", p) }})
	if err != nil {
		t.Error(err)
	}
	if r != nil {
		js, _ := json.MarshalIndent(r, "", "  ")
		t.Logf("%s", js)
	}
}
