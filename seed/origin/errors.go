package origin

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"
)

// What went wrong, for errors.Is. An *Error matches the ones that apply to it.
var (
	ErrUnauthorized = errors.New("unauthorized by the origin") // 401: Error.Challenge says what it wants
	ErrDenied       = errors.New("denied by the origin")       // 403
	ErrNotFound     = errors.New("not found at the origin")    // 404
	ErrThrottled    = errors.New("throttled by the origin")    // 429: Error.RetryAfter
	ErrRange        = errors.New("range not satisfiable")      // 416
	ErrUnreachable  = errors.New("origin unreachable")         // no connection, 5xx, cut off
	ErrNoRange      = errors.New("origin does not do ranges")  // the whole blob came, and was not read
	ErrInvalid      = errors.New("invalid answer from the origin")
	ErrRefused      = errors.New("refused to go there") // a redirect, realm or address that is not allowed
	ErrReference    = errors.New("malformed reference") // of the caller; nothing was sent
	ErrClosed       = errors.New("origin client closed")

	// ErrTimeout is an ErrUnreachable that shows in silence.
	ErrTimeout = fmt.Errorf("%w: time-out", ErrUnreachable)
)

// Bounds on what is kept of an error's answer.
const (
	maxErrorBody    = 64 << 10
	maxErrorCodes   = 16
	maxErrorMessage = 200
	maxRetryAfter   = time.Hour
	errorBodyWait   = 2 * time.Second
)

// Error is a request that failed: what the registry answered, or why it did not.
type Error struct {
	Registry string // its name
	Op       string // method and path; never a query

	Status      int           // 0: no usable answer, see Err
	Codes       []Code        // from the answer's JSON, if it had any
	Body        []byte        // the answer's body, at most 64 KiB; nil if it came from another host than the registry
	ContentType string        // of Body
	Challenge   []string      // WWW-Authenticate as the registry sent it
	RetryAfter  time.Duration // 0: not given; at most an hour
	Temporary   bool          // a later try may work

	Err error // the cause; may be nil with a Status

	// storage: the answer came from a host that the registry redirected to. Its 401 and 403 are about an
	// expired signature, not about who asked.
	storage bool
	// retry: worth another try at once.
	retry bool
}

// Code is one error of an OCI error body.
type Code struct {
	Code    string          `json:"code"`
	Message string          `json:"message"`
	Detail  json.RawMessage `json:"detail,omitempty"`
}

// Error names the registry, the operation and what came back, and no secret.
func (e *Error) Error() string {
	var b strings.Builder
	fmt.Fprintf(&b, "origin %s: %s", e.Registry, e.Op)
	if e.Status != 0 {
		fmt.Fprintf(&b, ": %d %s", e.Status, http.StatusText(e.Status))
	}
	if e.storage {
		b.WriteString(" (from the host it redirects to)")
	}
	for i, c := range e.Codes {
		if i == 3 {
			break
		}
		fmt.Fprintf(&b, ": %s", clip(c.Code))
		if c.Message != "" {
			fmt.Fprintf(&b, " (%s)", clip(c.Message))
		}
	}
	if e.Err != nil {
		fmt.Fprintf(&b, ": %v", e.Err)
	}
	return b.String()
}

// clip makes a string of the origin's fit for a log line.
func clip(s string) string {
	if len(s) > maxErrorMessage {
		s = s[:maxErrorMessage] + "…"
	}
	return strings.Trim(strconv.Quote(s), `"`)
}

// Unwrap returns the cause.
func (e *Error) Unwrap() error { return e.Err }

// Is matches the sentinels that Status stands for; the others are found in Err.
func (e *Error) Is(target error) bool {
	switch target {
	case ErrUnauthorized:
		return e.Status == http.StatusUnauthorized && !e.storage
	case ErrDenied:
		return e.Status == http.StatusForbidden && !e.storage
	case ErrNotFound:
		return e.Status == http.StatusNotFound
	case ErrThrottled:
		return e.Status == http.StatusTooManyRequests
	case ErrRange:
		return e.Status == http.StatusRequestedRangeNotSatisfiable
	case ErrTimeout:
		return e.Status == http.StatusGatewayTimeout || e.Status == http.StatusRequestTimeout
	case ErrUnreachable:
		return e.Status >= 500 || e.Status == http.StatusRequestTimeout ||
			e.storage && (e.Status == http.StatusUnauthorized || e.Status == http.StatusForbidden)
	}
	return false
}

// HTTP returns the error as an answer to a client: the registry's own refusals as they were, with their
// challenge and Retry-After; everything else as 502 or 504, with no body, for the caller to fill, unless it is
// ErrRefused: that body says what would allow it.
func (e *Error) HTTP() (status int, header http.Header, body []byte) {
	header = make(http.Header)
	switch {
	case errors.Is(e, ErrReference):
		return http.StatusBadRequest, header, nil
	case errors.Is(e, ErrRefused):
		return http.StatusBadGateway, header, e.refusalBody()
	case errors.Is(e, ErrTimeout):
		return http.StatusGatewayTimeout, header, nil
	case e.Err == nil && e.Status == http.StatusNotImplemented:
		return e.Status, header, nil // says that the method is unknown, and another may work
	case e.Err != nil || e.Status < 400 || errors.Is(e, ErrUnreachable):
		return http.StatusBadGateway, header, nil
	}
	for _, c := range e.Challenge {
		header.Add("WWW-Authenticate", c)
	}
	if e.RetryAfter > 0 {
		header.Set("Retry-After", strconv.FormatInt(int64((e.RetryAfter+time.Second-1)/time.Second), 10))
	}
	if len(e.Body) > 0 && e.ContentType != "" {
		header.Set("Content-Type", e.ContentType)
	}
	return e.Status, header, e.Body
}

// refusalBody is an OCI error body that says why nobody was asked.
func (e *Error) refusalBody() []byte {
	body, _ := json.Marshal(map[string][]Code{"errors": {{Code: "UNAVAILABLE", Message: e.Registry + ": " + e.Err.Error()}}}) // strings always marshal
	return append(body, '\n')
}

// answerError makes the error of an answer that is neither 2xx nor 304. It consumes and closes the body, to
// its end if that is near, so that the connection can be used again.
func answerError(q *query, a *answer) *Error {
	e := &Error{
		Registry:   q.ep.name,
		Op:         q.op(),
		Status:     a.StatusCode,
		RetryAfter: parseRetryAfter(a.Header.Get("Retry-After"), time.Now()),
		storage:    a.away,
	}
	body := a.drain()
	if !a.away {
		e.Challenge = a.Header.Values("WWW-Authenticate")
		e.Body, e.ContentType = body, a.Header.Get("Content-Type")
		e.Codes = parseCodes(body)
	}
	switch e.Status {
	case http.StatusInternalServerError, http.StatusBadGateway, http.StatusServiceUnavailable, http.StatusGatewayTimeout:
		e.Temporary, e.retry = true, true
	case http.StatusTooManyRequests:
		e.Temporary, e.retry = true, e.RetryAfter > 0
	case http.StatusRequestTimeout:
		e.Temporary = true
	case http.StatusUnauthorized, http.StatusForbidden:
		e.Temporary = a.away // a fresh redirect brings a fresh signature
	}
	return e
}

// parseCodes reads an OCI error body; anything else gives nil.
func parseCodes(body []byte) []Code {
	var doc struct {
		Errors []Code `json:"errors"`
	}
	if json.Unmarshal(body, &doc) != nil {
		return nil
	}
	if len(doc.Errors) > maxErrorCodes {
		doc.Errors = doc.Errors[:maxErrorCodes]
	}
	return doc.Errors
}

// parseRetryAfter reads seconds or a date; what is neither, or lies in the past, is 0.
func parseRetryAfter(v string, now time.Time) time.Duration {
	v = strings.TrimSpace(v)
	if v == "" {
		return 0
	}
	var wait time.Duration
	if n, err := strconv.ParseUint(v, 10, 32); err == nil {
		wait = time.Duration(n) * time.Second
	} else if at, err := http.ParseTime(v); err == nil {
		wait = at.Sub(now)
	}
	return max(0, min(wait, maxRetryAfter))
}
