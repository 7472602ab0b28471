package e2e

import (
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// damageClasses are the files of a data dir that a node has to survive the damage of: what it finds there is worth a look
// and no belief. Identity and keys are not among them: without those it must not start.
var damageClasses = []struct {
	name  string
	match func(path string) bool
}{
	{"complete blob", func(p string) bool { return strings.Contains(p, "/blobs/blobs/") && !strings.HasSuffix(p, ".meta") }},
	{"sidecar", func(p string) bool { return strings.HasSuffix(p, ".meta") }},
	{"partial", func(p string) bool {
		return strings.Contains(p, "/blobs/partial/") && !strings.HasSuffix(p, ".journal")
	}},
	{"journal", func(p string) bool { return strings.HasSuffix(p, ".journal") }},
	{"small file", func(p string) bool { return slices.Contains([]string{"tags", "peers", "zone"}, filepath.Base(p)) }},
}

// damage spoils a file of each class that a data dir has, in ways that pick chooses, and says what it did.
func damage(dir string, pick uint64) (string, error) {
	rng := rand.New(rand.NewPCG(pick, 2))
	var files []string
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err == nil && d.Type().IsRegular() {
			files = append(files, path)
		}
		return err
	})
	if err != nil && !errors.Is(err, fs.ErrNotExist) { // a short life may have left nothing
		return "", err
	}
	slices.Sort(files)
	var done []string
	for _, class := range damageClasses {
		var of []string
		for _, f := range files {
			if class.match(f) {
				of = append(of, f)
			}
		}
		if len(of) == 0 || rng.IntN(4) == 0 {
			continue
		}
		how, err := spoil(of[rng.IntN(len(of))], rng)
		if err != nil {
			return "", fmt.Errorf("damage a %s: %w", class.name, err)
		}
		done = append(done, class.name+" "+how)
	}
	return strings.Join(done, ", "), nil
}

// spoil puts a changed copy in the place of a file: the bytes of the file itself may still be on their way to a client, as the
// kernel sends them from where they lie. Half of the changes leave size and mtime as they were, as rot does.
func spoil(path string, rng *rand.Rand) (how string, err error) {
	info, err := os.Stat(path)
	if err != nil {
		return "", err
	}
	data, err := os.ReadFile(path)
	if err != nil {
		return "", err
	}
	rots := false
	switch n := rng.IntN(8); {
	case n < 4 && len(data) > 0:
		how, rots = "rotted", true
		for range 1 + rng.IntN(3) {
			data[rng.IntN(len(data))] ^= byte(1 + rng.IntN(255))
		}
	case n == 4 && len(data) > 0:
		how, data = "cut short", data[:rng.IntN(len(data))]
	case n == 5:
		how, data = "emptied", nil
	case n == 6:
		return "removed", os.Remove(path)
	default:
		how = "garbled at its end"
		data = data[:max(0, len(data)-100)]
		for range 1 + rng.IntN(300) {
			data = append(data, byte(rng.Uint32()))
		}
	}
	if err := errors.Join(os.Remove(path), os.WriteFile(path, data, info.Mode())); err != nil {
		return "", err
	}
	if rots {
		err = os.Chtimes(path, info.ModTime(), info.ModTime())
	}
	return how, err
}
