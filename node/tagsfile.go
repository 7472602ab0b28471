package node

import (
	"bufio"
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"io"
	"os"
	"slices"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/meshd-project/meshd/mirror"
)

const (
	tagsInterval = 30 * time.Second
	maxTagsFile  = 16 << 20 // bytes read of a tags file
)

// mirror is the configuration of package mirror.
func (c MirrorConfig) mirror() mirror.Config {
	grant := mirror.Default().GrantTTL
	return mirror.Config{
		DefaultRegistry:  c.DefaultRegistry,
		FirstByteTimeout: c.FirstByteTimeout, ManifestTimeout: c.ManifestTimeout,
		ManifestMax: maxDocument,
		TagTTL:      c.TagTTL, StaleTTL: max(c.Stale, grant), StalePrivateTTL: max(c.StalePrivate, grant),
	}
}

// tagLine is a line of the tags file: what anybody was told of a tag.
type tagLine struct {
	Registry   string        `json:"registry"`
	Repository string        `json:"repository"`
	Tag        string        `json:"tag"`
	Digest     digest.Digest `json:"digest"`
	At         time.Time     `json:"at"`
}

// tagsText lists tags, the last asked for last: that order is how they are forgotten. It is never nil.
func tagsText(tags []mirror.Tag) []byte {
	slices.SortFunc(tags, func(a, b mirror.Tag) int {
		return cmp.Or(a.At.Compare(b.At), cmp.Compare(a.String()+":"+a.Name, b.String()+":"+b.Name))
	})
	text := bytes.NewBuffer([]byte{})
	enc := json.NewEncoder(text)
	for _, t := range tags {
		_ = enc.Encode(tagLine{t.Registry, t.Repository, t.Name, t.Digest, t.At.UTC()}) // strings and a time always marshal
	}
	return text.Bytes()
}

// readTags reads what tagsText was written to. A file that is not there is an empty one; lines that make no sense are
// left out, for what they hold is only of use while a registry is away.
func readTags(path string) []mirror.Tag {
	f, err := os.Open(path)
	if err != nil {
		if !errors.Is(err, os.ErrNotExist) {
			log.Warnw("tags of the last run not read", "err", err)
		}
		return nil
	}
	defer f.Close()
	tags, err := parseTags(io.LimitReader(f, maxTagsFile))
	if err != nil {
		log.Warnw("tags of the last run not read to the end", "err", err)
	}
	return tags
}

func parseTags(r io.Reader) ([]mirror.Tag, error) {
	var tags []mirror.Tag
	lines := bufio.NewScanner(r)
	for lines.Scan() {
		var t tagLine
		if json.Unmarshal(lines.Bytes(), &t) == nil {
			tags = append(tags, mirror.Tag{Ref: mirror.Ref{Registry: t.Registry, Repository: t.Repository}, Name: t.Tag, Digest: t.Digest, At: t.At})
		}
	}
	return tags, lines.Err()
}
