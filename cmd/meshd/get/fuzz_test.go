package get

import (
	"bytes"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/meshd-project/meshd/mirror/gateway"
)

// Whatever lies beside a target from an earlier run, no more of it is taken up than its state stands for, and it is kept
// for the next run as it was.
func FuzzState(f *testing.F) {
	f.Add([]byte(`{"version":"v1","synced":3}`), []byte("abcdef"))
	f.Add([]byte(`{"version":"v1","synced":7}`), []byte("abcdef"))
	f.Add([]byte(`{"version":"","synced":3}`), []byte("abcdef"))
	f.Add([]byte(`{"version":"v1","synced":-1}`), []byte("abcdef"))
	f.Add([]byte(`{"synced":`), []byte("abcdef"))
	f.Fuzz(func(t *testing.T, state, left []byte) {
		target := filepath.Join(t.TempDir(), "file")
		for name, content := range map[string][]byte{".meshd-part": left, ".meshd-part.json": state} {
			if err := os.WriteFile(target+name, content, 0o600); err != nil {
				t.Fatal(err)
			}
		}
		p, err := openPart(target)
		if err != nil {
			t.Fatal(err)
		}
		var got bytes.Buffer
		if err := p.replay(&got); err != nil || !bytes.HasPrefix(left, got.Bytes()) || int64(got.Len()) != p.off || p.tag == "" && p.off > 0 {
			t.Fatalf("%d bytes of version %q, offset %d, %v", got.Len(), p.tag, p.off, err)
		}
		off, tag := p.at()
		if err := p.keep(); err != nil {
			t.Fatal(err)
		}
		if p, err = openPart(target); err != nil {
			t.Fatal(err)
		}
		if p.off != off || off > 0 && p.tag != tag {
			t.Fatalf("%d bytes of %q were kept as %d of %q", off, tag, p.off, p.tag)
		}
		if err := p.drop(); err != nil {
			t.Fatal(err)
		}
	})
}

// A node's answer is an offset and a size that fit each other, or an error.
func FuzzAnswer(f *testing.F) {
	f.Add(200, `"v1"`, "", "", "", "bytes")
	f.Add(206, `"v1"`, "bytes 3-9/10", "", "", "bytes")
	f.Add(206, `"v1"`, "bytes 9-3/1", "", "", "")
	f.Add(206, "", "bytes */10", "", "", "")
	f.Add(416, "", "bytes */10", "changed", "", "meshd: the file has changed")
	f.Add(503, "", "", "busy", "3", "meshd: too many")
	f.Add(503, "", "", "busy", "9e99", "")
	f.Fuzz(func(t *testing.T, status int, tag, span, code, after, body string) {
		resp := &http.Response{StatusCode: status, ContentLength: int64(len(body)), Header: http.Header{}, Body: io.NopCloser(strings.NewReader(body))}
		for name, value := range map[string]string{"ETag": tag, "Content-Range": span, gateway.ErrorHeader: code, "Retry-After": after} {
			resp.Header.Set(name, value)
		}
		a, err := answerOf(resp)
		switch {
		case (a == nil) == (err == nil):
			t.Fatalf("answer %v, error %v", a, err)
		case err != nil && err.Error() == "":
			t.Fatal("an error that says nothing")
		case a != nil && (a.Off < 0 || a.Size < a.Off || status != http.StatusOK && status != http.StatusPartialContent):
			t.Fatalf("status %d, offset %d of %d", status, a.Off, a.Size)
		}
	})
}
