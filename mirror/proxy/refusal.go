package proxy

import (
	"errors"
	"fmt"
	"net/http"
	"strings"
)

// refusal is a no that the client is told the reason of.
type refusal struct {
	status int
	reason string // printable ASCII
}

// Error implements error.
func (r *refusal) Error() string { return r.reason }

func refusef(status int, format string, args ...any) *refusal {
	return &refusal{status: status, reason: printable(fmt.Sprintf(format, args...))}
}

// refusalOf makes the answer to an error of ours or of the way to t.
func refusalOf(t target, err error) *refusal {
	var r *refusal
	if errors.As(err, &r) {
		return r
	}
	return refusef(http.StatusBadGateway, "%s: %v", t, err)
}

// printable keeps s on one status line, in at most 500 bytes.
func printable(s string) string {
	s = strings.Map(func(c rune) rune {
		if c < ' ' || c > '~' {
			return '?'
		}
		return c
	}, s)
	return s[:min(len(s), 500)]
}

// write answers a request that is no CONNECT.
func (r *refusal) write(w http.ResponseWriter) {
	http.Error(w, "meshd: "+r.reason, r.status)
}

// writeConnect answers a CONNECT with the reason in the status line too, and closes the connection.
func (r *refusal) writeConnect(w http.ResponseWriter) {
	conn, err := hijack(w)
	if err != nil {
		r.write(w)
		return
	}
	defer conn.Close()
	body := "meshd: " + r.reason + "\n"
	fmt.Fprintf(conn, "HTTP/1.1 %d meshd: %s\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Length: %d\r\nConnection: close\r\n\r\n%s",
		r.status, r.reason, len(body), body)
}
