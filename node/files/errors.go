package files

import (
	"context"
	"errors"
	"net/http"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/meshd-project/meshd/exchange"
	"github.com/meshd-project/meshd/mirror/gateway"
	"github.com/meshd-project/meshd/seed/file"
)

// answers says how errors look to clients; the first that matches counts.
var answers = []struct {
	err    error
	code   gateway.Code
	status int
}{
	{file.ErrURL, gateway.BadRequest, http.StatusBadRequest},
	{file.ErrHeader, gateway.BadRequest, http.StatusBadRequest},
	{file.ErrRefused, gateway.Refused, http.StatusForbidden},
	{file.ErrChanged, gateway.Changed, http.StatusConflict},
	{exchange.ErrSealed, gateway.Changed, http.StatusConflict},
	{exchange.ErrCorruptOrigin, gateway.Corrupt, http.StatusBadGateway},
	{file.ErrNotFound, gateway.NotFound, http.StatusNotFound},
	{file.ErrUnauthorized, gateway.Unauthorized, http.StatusForbidden},
	{file.ErrThrottled, gateway.Throttled, http.StatusTooManyRequests},
	{exchange.ErrClosed, gateway.Draining, http.StatusServiceUnavailable},
	{file.ErrTimeout, gateway.Timeout, http.StatusGatewayTimeout},
	{context.DeadlineExceeded, gateway.Timeout, http.StatusGatewayTimeout},
	{file.ErrUnreachable, gateway.Unreachable, http.StatusBadGateway},
	{file.ErrInvalid, gateway.Nonsense, http.StatusBadGateway},
	{exchange.ErrNoProvider, gateway.Unreachable, http.StatusBadGateway},
}

// problem makes an error one that a client understands; others stay as they are and are told as an internal one.
func problem(err error) error {
	for _, row := range answers {
		if !errors.Is(err, row.err) {
			continue
		}
		e := &gateway.Error{Code: row.code, Status: row.status, Err: err}
		var origin *file.Error
		if errors.As(err, &origin) {
			e.RetryAfter = origin.RetryAfter
			if row.code == gateway.Unauthorized && origin.Status == http.StatusUnauthorized {
				e.Status = http.StatusUnauthorized
			}
		}
		return e
	}
	return err
}

// failed is problem for a file that was on its way. One of which there are two contents is refused for a while: to fetch
// it again would only cost the origin another copy.
func (f *Files) failed(name digest.Digest, err error) error {
	if errors.Is(err, exchange.ErrSealed) {
		f.split.Add(name, time.Now().Add(splitTTL))
	}
	return problem(err)
}
