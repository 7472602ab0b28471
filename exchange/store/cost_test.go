package store

import (
	"context"
	"strings"
	"sync"
	"testing"
)

// countingDisk counts what is done to the file of a partial's pieces, and to its journal.
type countingDisk struct {
	osDisk
	mu            sync.Mutex
	data, journal ioCount
}

type ioCount struct{ writes, written, read, syncs int64 }

func (d *countingDisk) Open(name string, flag int) (file, error) {
	f, err := d.osDisk.Open(name, flag)
	if err != nil || !strings.Contains(name, "/partial") {
		return f, err
	}
	if strings.HasSuffix(name, journalExt) {
		return &countingFile{f, d, &d.journal}, nil
	}
	return &countingFile{f, d, &d.data}, nil
}

func (d *countingDisk) count(of *ioCount, add func(*ioCount)) {
	d.mu.Lock()
	defer d.mu.Unlock()
	add(of)
}

type countingFile struct {
	file
	d  *countingDisk
	of *ioCount
}

func (f *countingFile) WriteAt(b []byte, off int64) (int, error) {
	f.d.count(f.of, func(c *ioCount) { c.writes++; c.written += int64(len(b)) })
	return f.file.WriteAt(b, off)
}

func (f *countingFile) ReadAt(b []byte, off int64) (int, error) {
	f.d.count(f.of, func(c *ioCount) { c.read += int64(len(b)) })
	return f.file.ReadAt(b, off)
}

func (f *countingFile) Sync() error {
	f.d.count(f.of, func(c *ioCount) { c.syncs++ })
	return f.file.Sync()
}

// TestWhatAPullAsksOfTheDisk: a piece is one write and one record, whatever the order; the whole is read back once to be
// hashed; nothing waits for the disk before the commit, and that once.
func TestWhatAPullAsksOfTheDisk(t *testing.T) {
	const pieces = 64
	for name, order := range map[string]func(i int) int{
		"in order":    func(i int) int { return i },
		"from behind": func(i int) int { return pieces - 1 - i },
	} {
		t.Run(name, func(t *testing.T) {
			d := &countingDisk{}
			s, err := open(testConfig(t.TempDir()), d)
			if err != nil {
				t.Fatal(err)
			}
			defer s.Close()
			data := sample(1, pieces*smallPieces)
			p := begin(t, s, data)
			defer p.Close()
			header := d.journal
			for i := range pieces {
				fill(t, p, data, order(i))
			}
			if err := p.Verify(context.Background()); err != nil {
				t.Fatal(err)
			}
			want := ioCount{writes: pieces, written: int64(len(data)), read: int64(len(data))}
			if d.data != want || d.journal.writes-header.writes != pieces || d.journal.syncs != 0 {
				t.Errorf("data %+v, want %+v; journal %+v, before the pieces %+v", d.data, want, d.journal, header)
			}
			b, err := p.Commit(context.Background())
			if err != nil {
				t.Fatal(err)
			}
			defer b.Close()
			if want.syncs = 1; d.data != want {
				t.Errorf("after the commit: %+v, want %+v", d.data, want)
			}
		})
	}
}
