package main

import (
	"bufio"
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// Ctrl-C ends a demo at any time, and nothing of it stays: no child, no directory.
func TestDemoInterrupted(t *testing.T) {
	if testing.Short() {
		t.Skip("starts processes")
	}
	for _, row := range []struct {
		name string
		args []string
		sign string // in a line of output, after which the signal is sent
		ok   bool   // the exit code is 0
	}{
		{"while the mesh starts", []string{"--nodes", "4", "--size", "8MiB"}, "starting a registry", false},
		{"while it pulls", []string{"--nodes", "3", "--zones", "1", "--size", "512MiB"}, "pulled 25 %", false},
		{"while it is kept", []string{"--nodes", "2", "--zones", "1", "--size", "4MiB", "--keep"}, "docker pull", true},
	} {
		t.Run(row.name, func(t *testing.T) {
			tmp := t.TempDir()
			cmd := exec.Command("meshd", append([]string{"demo"}, row.args...)...) // testscript has put this binary there
			cmd.Env = append(os.Environ(), "TMPDIR="+tmp)
			out, w, err := os.Pipe()
			if err != nil {
				t.Fatal(err)
			}
			cmd.Stdout, cmd.Stderr = w, w
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
			w.Close()
			guard := time.AfterFunc(2*time.Minute, func() { _ = cmd.Process.Kill() })
			defer guard.Stop()
			var text bytes.Buffer
			for lines := bufio.NewScanner(out); lines.Scan(); {
				text.WriteString(lines.Text() + "\n")
				if row.sign != "" && strings.Contains(lines.Text(), row.sign) {
					row.sign = ""
					if err := cmd.Process.Signal(os.Interrupt); err != nil {
						t.Fatal(err)
					}
				}
			}
			if err := cmd.Wait(); (err == nil) != row.ok || row.sign != "" {
				t.Errorf("exit: %v, output:\n%s", err, &text)
			}
			entries, err := os.ReadDir(tmp)
			if err != nil || len(entries) > 0 {
				t.Errorf("left behind: %v, %v", entries, err)
			}
			if pids := mentioning(tmp); len(pids) > 0 {
				t.Errorf("processes left behind: %v", pids)
			}
		})
	}
}

// mentioning finds processes by a text in their command line (Linux; elsewhere none).
func mentioning(text string) []string {
	var found []string
	files, _ := filepath.Glob("/proc/[0-9]*/cmdline")
	for _, f := range files {
		if data, err := os.ReadFile(f); err == nil && bytes.Contains(data, []byte(text)) {
			found = append(found, f)
		}
	}
	return found
}
