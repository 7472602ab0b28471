package admin

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
)

// MaxBody bounds the body of a request in bytes.
const MaxBody = 1 << 20

// Decode reads a request's body, one JSON value with known fields only, into v. It fails with an *Error.
func Decode(r *http.Request, v any) error {
	if kind, _, err := mime.ParseMediaType(r.Header.Get("Content-Type")); err != nil || kind != "application/json" {
		return Errorf(http.StatusUnsupportedMediaType, "the body has to be JSON: Content-Type: application/json")
	}
	dec := json.NewDecoder(http.MaxBytesReader(nil, r.Body, MaxBody))
	dec.DisallowUnknownFields()
	err := dec.Decode(v)
	if err == nil {
		if _, more := dec.Token(); more == nil {
			return Errorf(http.StatusBadRequest, "body: something follows the JSON value")
		} else if !errors.Is(more, io.EOF) {
			err = more
		}
	}
	var large *http.MaxBytesError
	var kind *json.UnmarshalTypeError
	switch {
	case err == nil:
		return nil
	case errors.As(err, &kind) && kind.Field != "":
		return Errorf(http.StatusBadRequest, "body: %s may not be a %s", kind.Field, kind.Value)
	case errors.As(err, &large):
		return Errorf(http.StatusRequestEntityTooLarge, "body: more than %d bytes", MaxBody)
	case errors.Is(err, io.EOF):
		return Errorf(http.StatusBadRequest, "body: empty")
	}
	return Errorf(http.StatusBadRequest, "body: %v", err)
}

// WriteJSON answers with a value.
func WriteJSON(w http.ResponseWriter, status int, value any) error {
	body, err := json.MarshalIndent(value, "", "  ")
	if err != nil {
		return fmt.Errorf("show %T: %w", value, err)
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	w.Write(append(body, '\n')) //nolint:errcheck // the client has gone
	return nil
}
