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

// spoil changes one file. Half of the changes leave size and mtime as they were, as rot does.
func spoil(path string, rng *rand.Rand) (how string, err error) {
	info, err := os.Stat(path)
	if err != nil {
		return "", err
	}
	size := info.Size()
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		return "", err
	}
	defer f.Close()
	switch n := rng.IntN(8); {
	case n < 4 && size > 0:
		for range 1 + rng.IntN(3) {
			off, b := rng.Int64N(size), make([]byte, 1)
			if _, err := f.ReadAt(b, off); err != nil {
				return "", err
			}
			b[0] ^= byte(1 + rng.IntN(255))
			if _, err := f.WriteAt(b, off); err != nil {
				return "", err
			}
		}
		return "rotted", os.Chtimes(path, info.ModTime(), info.ModTime())
	case n == 4 && size > 0:
		return "cut short", f.Truncate(rng.Int64N(size))
	case n == 5:
		return "emptied", f.Truncate(0)
	case n == 6:
		return "removed", os.Remove(path)
	}
	junk := make([]byte, 1+rng.IntN(300))
	for i := range junk {
		junk[i] = byte(rng.Uint32())
	}
	_, err = f.WriteAt(junk, max(0, size-100))
	return "garbled at its end", err
}
