package admin

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"time"
)

// Error is a refusal as the client gets it.
type Error struct {
	Status     int           // 4xx or 5xx
	Message    string        // what is wrong and what to do; shown to whoever asks
	RetryAfter time.Duration // rounded up to seconds; 0: not said
}

func (e *Error) Error() string { return e.Message }

// Errorf returns an Error with a status.
func Errorf(status int, format string, args ...any) *Error {
	return &Error{Status: status, Message: fmt.Sprintf(format, args...)}
}

// ErrorBody is the body of every refusal.
type ErrorBody struct {
	Error string `json:"error"`
}

// refuse tells a client why not.
func refuse(w http.ResponseWriter, err error) {
	var e *Error
	if !errors.As(err, &e) {
		log.Errorw("request failed", "err", err)
		e = Errorf(http.StatusInternalServerError, "internal error: the node's log says which")
	}
	if e.RetryAfter > 0 {
		w.Header().Set("Retry-After", strconv.Itoa(int((e.RetryAfter+time.Second-1)/time.Second)))
	}
	body, _ := json.Marshal(ErrorBody{e.Message}) // a string cannot fail
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(e.Status)
	w.Write(append(body, '\n')) //nolint:errcheck // the client has gone
}
