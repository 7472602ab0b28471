package node

import (
	"bytes"
	"context"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/meshd-project/meshd/mirror"
)

func tag(name string, at time.Time) mirror.Tag {
	return mirror.Tag{Ref: mirror.Ref{Registry: "h.example:5000", Repository: "team/app"}, Name: name, Digest: digest.FromString(name), At: at.UTC()}
}

// What is written down is read again, whatever else stands in the file.
func TestTagsFile(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		path := filepath.Join(t.TempDir(), TagsFile)
		if got := readTags(path); len(got) != 0 {
			t.Fatalf("%v of no file", got)
		}
		now := time.Now()
		tags := []mirror.Tag{tag("b", now.Add(-time.Hour)), tag("a", now)}
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error)
		go func() {
			done <- keepFile(ctx, path, tagsInterval, func() []byte { return tagsText(slices.Clone(tags)) })
		}()
		time.Sleep(tagsInterval)
		synctest.Wait()
		if got := readTags(path); !slices.Equal(got, tags) {
			t.Fatalf("got %v, want %v", got, tags)
		}
		tags = append(tags, tag("c", now.Add(time.Minute)))
		cancel()
		if err := <-done; err != nil {
			t.Fatal(err)
		}
		if got := readTags(path); !slices.Equal(got, tags) {
			t.Fatalf("at the end: got %v, want %v", got, tags)
		}
	})
}

func TestParseTagsLeavesOut(t *testing.T) {
	good := tagsText([]mirror.Tag{tag("x", time.Unix(1, 0))})
	text := "\nnot json\n{\"at\":\"yesterday\"}\n" + string(good) + "[]\n"
	got, err := parseTags(strings.NewReader(text))
	if err != nil || len(got) != 1 || got[0].Name != "x" {
		t.Fatalf("%v, %v", got, err)
	}
}

// FuzzParseTags: what is read can be written and read again.
func FuzzParseTags(f *testing.F) {
	f.Add(tagsText([]mirror.Tag{tag("x", time.Unix(1, 0)), tag("y", time.Unix(2, 0))}))
	f.Add([]byte("{}\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		tags, _ := parseTags(bytes.NewReader(data))
		for i := range tags {
			if y := tags[i].At.Year(); y < 1 || y > 9998 {
				return
			}
		}
		text := tagsText(slices.Clone(tags))
		again, err := parseTags(bytes.NewReader(text))
		if err == nil && !bytes.Equal(tagsText(again), text) {
			t.Fatalf("%s\nbecomes\n%s", text, tagsText(again))
		}
	})
}
