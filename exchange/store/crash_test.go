package store

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"
)

// A child process works on a store until it is killed. It says what it did in lines on standard output:
//
//	open           the store is open
//	done N         sample N is complete: Commit or Put has returned
//	drop N         sample N may be gone from here on
const childEnv = "MESHD_STORE_TEST_CHILD"

const (
	crashBlobs = 6
	crashSize  = 40*smallPieces + 100
)

// childMain works as the child if this process is it.
func childMain() bool {
	dir := os.Getenv(childEnv)
	if dir == "" {
		return false
	}
	if err := child(dir); err != nil {
		fmt.Println("error", err)
		os.Exit(1)
	}
	return true
}

func child(dir string) error {
	s, err := Open(testConfig(dir))
	if err != nil {
		return err
	}
	fmt.Println("open")
	for {
		n := rand.IntN(crashBlobs)
		if err := work(s, n); err != nil {
			return fmt.Errorf("sample %d: %w", n, err)
		}
	}
}

// work does something with sample n.
func work(s *Store, n int) error {
	data := sample(uint64(n), crashSize)
	d := digest.FromBytes(data)
	switch rand.IntN(8) {
	case 0:
		fmt.Println("drop", n)
		if err := s.Delete(d); err != nil && !errors.Is(err, ErrNotFound) {
			return err
		}
		return nil
	case 1:
		if err := s.Put(d, manifestType, data); err != nil {
			return err
		}
		fmt.Println("done", n)
		return nil
	}
	p, err := s.Begin(d, crashSize, smallPieces)
	if errors.Is(err, ErrComplete) {
		return nil
	}
	if err != nil {
		return err
	}
	defer p.Close()
	for _, i := range rand.Perm(p.Pieces()) {
		b, sum := pieceOf(p.layout, data, i)
		if err := p.WritePiece(i, b, sum, proofOf(i)); err != nil {
			return err
		}
		switch rand.IntN(300) {
		case 0:
			return nil // left half-done
		case 1:
			return p.Discard()
		case 2:
			if err := p.Reset(); err != nil {
				return err
			}
		}
	}
	b, err := p.Commit(context.Background())
	if errors.Is(err, ErrIncomplete) { // after a Reset
		return nil
	}
	if err != nil {
		return err
	}
	fmt.Println("done", n)
	return b.Close()
}

// SIGKILL at any moment: nothing that a restart trusts is wrong, nothing that was committed is lost.
func TestKill(t *testing.T) {
	rounds := 40
	if testing.Short() {
		rounds = 8
	}
	dir := t.TempDir()
	done := make(map[int]bool)
	for range rounds {
		killChild(t, dir, done, 1+rand.IntN(12))
		s := openStore(t, testConfig(dir))
		for n := range crashBlobs {
			inspect(t, s, n, done[n])
			i, err := s.Stat(digest.FromBytes(sample(uint64(n), crashSize)))
			done[n] = err == nil && i.Complete
		}
		want := 1 // lock
		for _, i := range s.List() {
			want += 2
			if i.Size != crashSize {
				t.Errorf("a blob of %d bytes", i.Size)
			}
		}
		if got := filesUnder(t, dir); len(got) != want {
			t.Errorf("%d files in place of %d: %v", len(got), want, got)
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

// killChild starts a child and kills it some time after it has said n lines; done is brought up to date.
func killChild(t *testing.T, dir string, done map[int]bool, n int) {
	t.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), childEnv+"="+dir)
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	lines := bufio.NewScanner(out)
	for k := 0; lines.Scan(); k++ {
		if k == n {
			_ = cmd.Process.Kill()
		}
		hear(t, lines.Text(), done)
	}
	_ = cmd.Process.Kill()
	_ = cmd.Wait()
}

func hear(t *testing.T, line string, done map[int]bool) {
	t.Helper()
	var n int
	switch what, _, _ := strings.Cut(line, " "); what {
	case "done", "drop":
		if _, err := fmt.Sscan(line[5:], &n); err == nil { // a last line may be torn
			done[n] = what == "done"
		}
	case "error":
		t.Errorf("child: %s", line)
	}
}

// inspect checks what is here of sample n.
func inspect(t *testing.T, s *Store, n int, committed bool) {
	t.Helper()
	data := sample(uint64(n), crashSize)
	i, err := s.Stat(digest.FromBytes(data))
	if committed && (err != nil || !i.Complete) {
		t.Errorf("sample %d was committed and is lost: %+v, %v", n, i, err)
	}
	if err != nil {
		return
	}
	if i.Complete {
		mustRead(t, s, data)
		return
	}
	p := begin(t, s, data)
	defer p.Close()
	held := wantHeldRight(t, p, data)
	if got := p.Held(); got < i.Have || held == 0 && got > 0 {
		t.Errorf("sample %d: %d bytes held, %d claimed", n, got, i.Have)
	}
}
