package main

import (
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

const moduleRoot = "../.."

// Every test that docs/security.md names is there, and every finding of the audit has some.
func TestSecurityTable(t *testing.T) {
	page, err := os.ReadFile(filepath.Join(moduleRoot, "docs/security.md"))
	if err != nil {
		t.Fatal(err)
	}
	named := regexp.MustCompile("`([a-z0-9/]+)\\.((?:Test|Fuzz)\\w+)`")
	rows := 0
	for line := range strings.Lines(string(page)) {
		found := named.FindAllStringSubmatch(line, -1)
		if regexp.MustCompile(`^\| \d+ `).MatchString(line) {
			rows++
			if len(found) == 0 {
				t.Errorf("no test: %s", line)
			}
		}
		for _, f := range found {
			if !declares(t, f[1], f[2]) {
				t.Errorf("%s has no %s", f[1], f[2])
			}
		}
	}
	if rows != 19 {
		t.Errorf("%d findings, want 19", rows)
	}
}

// declares reports whether a package has a test of that name.
func declares(t *testing.T, pkg, name string) bool {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(moduleRoot, pkg, "*_test.go"))
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		if strings.Contains(string(text), "\nfunc "+name+"(") {
			return true
		}
	}
	return false
}

// What the source may not do, and the files where it may.
func TestSourceHabits(t *testing.T) {
	habits := []struct {
		what    string
		pattern *regexp.Regexp
		may     []string
	}{
		{"trim a set of characters that is meant as a prefix", regexp.MustCompile(`\.Trim(Left|Right)\([^,]+, "[a-zA-Z/:][^"]+"\)`), nil},
		{"use weak hashes", regexp.MustCompile(`"crypto/(md5|sha1|des|rc4)"`), []string{"cmd/meshd/", "seed/file/"}}, // sums that users bring,
		{"switch the check of certificates off", regexp.MustCompile(`InsecureSkipVerify: +[^f]|InsecureSkipVerify =`), []string{"seed/origin/config.go"}},
		{"compare secrets in time that tells", regexp.MustCompile(`(?i)(token|password|secret) == [a-z.]*(token|password|secret)\b`), nil},
	}
	err := filepath.WalkDir(moduleRoot, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go") {
			return err
		}
		text, err := os.ReadFile(path)
		name := strings.TrimPrefix(filepath.ToSlash(path), moduleRoot+"/")
		for _, h := range habits {
			if at := h.pattern.FindIndex(text); at != nil && !contains(h.may, name) {
				t.Errorf("%s:%d: must not %s", name, 1+strings.Count(string(text[:at[0]]), "\n"), h.what)
			}
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}

func contains(list []string, s string) bool {
	for _, l := range list {
		if strings.HasPrefix(s, l) {
			return true
		}
	}
	return false
}

// The page on testing lists every fuzz test of the module, and no other.
func TestFuzzTable(t *testing.T) {
	page, err := os.ReadFile(filepath.Join(moduleRoot, "docs/testing.md"))
	if err != nil {
		t.Fatal(err)
	}
	listed := map[string]bool{}
	for _, m := range regexp.MustCompile("`([a-z0-9/]+)\\.(Fuzz\\w+)`").FindAllStringSubmatch(string(page), -1) {
		listed[m[1]+"."+m[2]] = true
	}
	declared := regexp.MustCompile(`(?m)^func (Fuzz\w+)\(`)
	err = filepath.WalkDir(moduleRoot, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || !strings.HasSuffix(path, "_test.go") {
			return err
		}
		text, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		pkg, err := filepath.Rel(moduleRoot, filepath.Dir(path))
		for _, m := range declared.FindAllStringSubmatch(string(text), -1) {
			name := filepath.ToSlash(pkg) + "." + m[1]
			if !listed[name] {
				t.Errorf("docs/testing.md does not list %s", name)
			}
			delete(listed, name)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	for name := range listed {
		t.Errorf("docs/testing.md lists %s, which is not there", name)
	}
}
