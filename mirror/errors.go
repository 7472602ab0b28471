package mirror

import (
	"context"
	"encoding/json"
	"errors"
	"net"
	"net/http"
	"strconv"
)

// Causes that implementations of [Blobs] report.
var (
	// ErrNotFound: nobody in the mesh and no origin has the digest.
	ErrNotFound = errors.New("not found")
	// ErrBusy: a local limit is reached; the client should come back.
	ErrBusy = errors.New("too many requests")
	// ErrDraining: the node is stopping.
	ErrDraining = errors.New("draining")
	ErrNoSpace  = errors.New("no room on disk")
	// ErrCorrupt: what the origin sent does not match its digest.
	ErrCorrupt = errors.New("origin sent bytes that do not match the digest")
)

// Causes within the request itself.
var (
	errRoute  = errors.New("no such endpoint")
	errMethod = errors.New("method not supported")
	errUpload = errors.New("no such upload")
	errLarge  = errors.New("manifest too large")
	errName   = errors.New("invalid repository name")
	errTag    = errors.New("invalid tag")
	errDigest = errors.New("invalid digest")
	errQuery  = errors.New("invalid query")
	errRange  = errors.New("range not satisfiable")
	errBody   = errors.New("request body on a pull")
	errStall  = errors.New("no byte in time")
	errScope  = errors.New("scopes of more than one registry")
	errLogin  = errors.New("not a name and a password")
	errToken  = errors.New("not a token of this node")
	// errNoToken: /v2/ without any.
	errNoToken = errors.New("no token")
)

// Codes of the specification; the last two are common beyond it.
const (
	codeBlobUnknown     = "BLOB_UNKNOWN"
	codeDigestInvalid   = "DIGEST_INVALID"
	codeManifestInvalid = "MANIFEST_INVALID"
	codeManifestUnknown = "MANIFEST_UNKNOWN"
	codeNameInvalid     = "NAME_INVALID"
	codeNameUnknown     = "NAME_UNKNOWN"
	codeUnauthorized    = "UNAUTHORIZED"
	codeDenied          = "DENIED"
	codeUploadUnknown   = "BLOB_UPLOAD_UNKNOWN"
	codeUnsupported     = "UNSUPPORTED"
	codeTooMany         = "TOOMANYREQUESTS"
	codeRangeInvalid    = "RANGE_INVALID"
	codeUnavailable     = "UNAVAILABLE"
)

// codeUnknown in a row stands for the code of what was asked for.
const codeUnknown = ""

// row maps a cause to what the client is told. The first row whose cause is in
// the error's chain counts.
type row struct {
	cause   error
	status  int
	code    string
	message string
}

// rows is the only table from errors to HTTP. Errors that carry an OriginError
// with a status are answered by passOn before it is looked at.
var rows = []row{
	{errRoute, http.StatusNotFound, codeUnsupported, "no such endpoint on a mirror"},
	{errMethod, http.StatusMethodNotAllowed, codeUnsupported, "nothing here is done by this method"},
	{errUpload, http.StatusNotFound, codeUploadUnknown, "no such upload: begin it anew"},
	{errLarge, http.StatusRequestEntityTooLarge, codeManifestInvalid, "the manifest is larger than registries take"},
	{errName, http.StatusBadRequest, codeNameInvalid, "invalid registry or repository name"},
	{errQuery, http.StatusBadRequest, codeNameInvalid, "invalid query"},
	{errTag, http.StatusNotFound, codeManifestUnknown, "no manifest can have this tag"},
	{errDigest, http.StatusBadRequest, codeDigestInvalid, "invalid or unsupported digest"},
	{errRange, http.StatusRequestedRangeNotSatisfiable, codeRangeInvalid, "the range lies past the end of the blob"},
	{errBody, http.StatusBadRequest, codeUnsupported, "the request body is not wanted here, or did not arrive in time"},
	{errScope, http.StatusBadRequest, codeNameInvalid, "a token is for one registry: ask for one at a time"},
	{errLogin, http.StatusUnauthorized, codeUnauthorized, "a token is given for Basic credentials of at most 12 KiB, or for none"},
	{errToken, http.StatusUnauthorized, codeUnauthorized, "the token has expired or is not this node's: ask for a new one"},
	{errNoToken, http.StatusUnauthorized, codeUnauthorized, "ask for a token first; it is given without a password too"},
	{ErrNotFound, http.StatusNotFound, codeUnknown, "neither the registry nor a peer has it"},
	{ErrBusy, http.StatusTooManyRequests, codeTooMany, "this node has too many requests at once: try again"},
	{ErrNoSpace, http.StatusServiceUnavailable, codeUnavailable, "this node has no room for the blob: free disk space or lower --cache-size"},
	{ErrDraining, http.StatusServiceUnavailable, codeUnavailable, "this node is stopping: try again"},
	{ErrCorrupt, http.StatusBadGateway, codeManifestInvalid, "the registry sent bytes that do not match the digest, and nobody else has them: push the image anew"},
	{errStall, http.StatusGatewayTimeout, codeUnavailable, "no byte arrived in time, from peers or the registry: try again; the log of meshd has the reason"},
	{context.DeadlineExceeded, http.StatusGatewayTimeout, codeUnavailable, "the registry did not answer in time: `meshd doctor` asks it, the log of meshd has the reason"},
}

// unreachable answers what no row names.
var unreachable = row{nil, http.StatusBadGateway, codeUnavailable, "the registry could not be reached: `meshd doctor` asks it, the log of meshd has the reason"}

// retryAfter in seconds goes with 429 and 503 of our own.
const retryAfter = 1

// problem is an error as the client gets it.
type problem struct {
	status int
	header http.Header // Retry-After, WWW-Authenticate
	body   []byte      // OCI error JSON
}

// problemOf finds the answer to an error in a request.
func problemOf(err error, rq request) problem {
	var oe OriginError
	if errors.As(err, &oe) {
		if status, header, body := oe.HTTP(); status >= 400 && status <= 599 {
			return passOn(status, header, body, rq)
		}
	}
	r := rowOf(err)
	p := problem{status: r.status, header: http.Header{}}
	if r.status == http.StatusTooManyRequests || r.status == http.StatusServiceUnavailable {
		p.header.Set("Retry-After", strconv.Itoa(retryAfter))
	}
	code := r.code
	if code == codeUnknown {
		code = notFoundCode(rq.endpoint)
	}
	p.body = errorBody(code, rq.step()+r.message)
	return p
}

func rowOf(err error) row {
	for _, r := range rows {
		if errors.Is(err, r.cause) {
			return r
		}
	}
	var ne net.Error
	if errors.As(err, &ne) && ne.Timeout() {
		return rowOf(context.DeadlineExceeded)
	}
	return unreachable
}

// passOn gives the client the origin's own refusal: status and Retry-After, and its
// body if that is an OCI error. Its challenge is not for the client. A 5xx that tells
// nothing about us becomes 502; 503 and 504 mean to a client what they meant to us.
func passOn(status int, header http.Header, body []byte, rq request) problem {
	p := problem{status: status, header: http.Header{}, body: body}
	if v := header.Get("Retry-After"); v != "" {
		p.header.Set("Retry-After", v)
	}
	if status >= 500 && status != http.StatusServiceUnavailable && status != http.StatusGatewayTimeout {
		p.status = http.StatusBadGateway
	}
	if !isErrorBody(body) {
		p.body = errorBody(statusCode(status, rq.endpoint), rq.step()+statusMessage(status))
	}
	return p
}

// statusCode is the OCI code of an origin's status that came without one.
func statusCode(status int, e endpoint) string {
	switch status {
	case http.StatusUnauthorized:
		return codeUnauthorized
	case http.StatusForbidden:
		return codeDenied
	case http.StatusNotFound:
		return notFoundCode(e)
	case http.StatusTooManyRequests:
		return codeTooMany
	}
	if status >= 500 {
		return codeUnavailable
	}
	return codeUnsupported
}

// statusMessage is for people. 502 and 504 may be the origin's own answer or what
// its client makes of none.
func statusMessage(status int) string {
	switch status {
	case http.StatusUnauthorized:
		return "the registry wants a login for this repository, or does not accept this one: log in for the mirror's name with the registry's user and password"
	case http.StatusForbidden:
		return "the registry refuses this: ask whoever runs it for the right"
	case http.StatusNotFound:
		return "the registry has no such thing, or none for this login"
	case http.StatusTooManyRequests:
		return "the registry takes no more requests for now: come back after Retry-After, or log in"
	case http.StatusBadGateway:
		return unreachable.message
	case http.StatusGatewayTimeout:
		return rowOf(context.DeadlineExceeded).message
	}
	return "the registry answered " + strconv.Itoa(status)
}

// step says which registry was asked for what, "" if that is not known.
func (rq request) step() string {
	if rq.ref.Registry == "" {
		return ""
	}
	what := rq.endpoint.String()
	if subject := rq.subject(); subject != "" {
		what += " " + subject
	}
	return rq.ref.Registry + ", " + what + " of " + rq.ref.Repository + ": "
}

// notFoundCode names a missing thing. Referrers say MANIFEST_UNKNOWN: on
// NAME_UNKNOWN oras gives up instead of trying the referrers tag.
func notFoundCode(e endpoint) string {
	switch e {
	case endpointBlob:
		return codeBlobUnknown
	case endpointUpload:
		return codeUploadUnknown
	case endpointTags:
		return codeNameUnknown
	default:
		return codeManifestUnknown
	}
}

type errorList struct {
	Errors []errorEntry `json:"errors"`
}

type errorEntry struct {
	Code    string `json:"code"`
	Message string `json:"message"`
}

func errorBody(code, message string) []byte {
	body, _ := json.Marshal(errorList{Errors: []errorEntry{{Code: code, Message: message}}}) // strings always marshal
	return append(body, '\n')
}

// isErrorBody reports whether body is an OCI error list with at least one code.
func isErrorBody(body []byte) bool {
	var list errorList
	return json.Unmarshal(body, &list) == nil && len(list.Errors) > 0 && list.Errors[0].Code != ""
}

// write sends the problem. HEAD gets the headers only.
func (p problem) write(w http.ResponseWriter, method string) {
	h := w.Header()
	for name, values := range p.header {
		h[name] = values
	}
	h.Set("Content-Type", "application/json")
	h.Set("Content-Length", strconv.Itoa(len(p.body)))
	w.WriteHeader(p.status)
	if method != http.MethodHead {
		_, _ = w.Write(p.body) // the client has left: nobody to tell
	}
}

// cannotAnswer reports whether err says nothing about the client's rights: the
// origin was not reached, is overloaded or broken.
func cannotAnswer(err error) bool {
	var oe OriginError
	if errors.As(err, &oe) {
		status, _, _ := oe.HTTP()
		return status < 400 || status >= 500 || status == http.StatusTooManyRequests || status == http.StatusRequestTimeout
	}
	return !errors.Is(err, context.Canceled) && !errors.Is(err, ErrCorrupt) && !errors.Is(err, ErrDraining)
}

// refused reports whether err is the origin's no to this client.
func refused(err error) bool {
	switch originStatus(err) {
	case http.StatusUnauthorized, http.StatusForbidden, http.StatusNotFound, http.StatusGone:
		return true
	}
	return false
}

// originStatus is the origin's status within err, 0 if there is none.
func originStatus(err error) int {
	var oe OriginError
	if !errors.As(err, &oe) {
		return 0
	}
	status, _, _ := oe.HTTP()
	return status
}
