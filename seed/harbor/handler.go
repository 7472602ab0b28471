package harbor

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"

	logging "github.com/ipfs/go-log/v2"
	"github.com/opencontainers/go-digest"

	"github.com/meshd-project/meshd/seed/notify"
	"github.com/meshd-project/meshd/seed/preheat"
)

var log = logging.Logger("meshd/harbor")

// Bounds of what is answered.
const (
	maxBody     = 1 << 20 // bytes
	maxRequests = 64      // at once
)

// Jobs runs preheats: *preheat.Manager.
type Jobs interface {
	Create(r preheat.Request) (preheat.Job, error)
	Get(ctx context.Context, id preheat.ID) (preheat.Job, error)
}

// News makes preheats of pushes: *notify.Notifier.
type News interface {
	Notify(ctx context.Context, events []notify.Event) (notify.Result, error)
	NotifyImage(ctx context.Context, i preheat.Image) (notify.Result, error)
}

// Config is what the answers depend on.
type Config struct {
	Auth Auth
	// Platforms of the images that Harbor names; none: the node's own.
	Platforms []string
	// DefaultRegistry is that of images in /v1/notify without a host.
	DefaultRegistry string
	// Registry returns the name of the configured registry that answers at HOST[:PORT]. Callable concurrently.
	Registry func(host string) (string, bool)
}

// server answers.
type server struct {
	cfg  Config
	jobs Jobs
	news News
}

// New returns the handler of all routes.
func New(cfg Config, jobs Jobs, news News) http.Handler {
	s := &server{cfg, jobs, news}
	mux := http.NewServeMux()
	for pattern, handle := range map[string]func(http.ResponseWriter, *http.Request) error{
		"GET /healthy":                 healthy,
		"GET /_ping":                   healthy,
		"GET /health":                  healthy,
		"POST /oapi/v1/jobs":           s.createJob,
		"GET /oapi/v1/jobs/{id}":       s.getJob,
		"POST /preheats":               s.createOld,
		"GET /preheats/{id}":           s.getOld,
		"POST /registry/notifications": s.notifications,
		"POST /harbor/webhook":         s.webhook,
		"POST /v1/notify":              s.notifyImage,
	} {
		mux.HandleFunc(pattern, func(w http.ResponseWriter, r *http.Request) {
			if err := handle(w, r); err != nil {
				refuse(w, err)
			}
		})
	}
	return s.guard(mux)
}

// guard lets those in who may ask, so many at once.
func (s *server) guard(h http.Handler) http.Handler {
	slots := make(chan struct{}, maxRequests)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("X-Content-Type-Options", "nosniff")
		w.Header().Set("Cache-Control", "no-store")
		if !s.cfg.Auth.allows(r.Header) {
			w.Header().Set("WWW-Authenticate", `Basic realm="meshd preheat"`)
			writeError(w, http.StatusUnauthorized, "wrong or missing credentials: see the file of --preheat-auth")
			return
		}
		select {
		case slots <- struct{}{}:
			defer func() { <-slots }()
			h.ServeHTTP(w, r)
		default:
			w.Header().Set("Retry-After", "1")
			writeError(w, http.StatusServiceUnavailable, "too many requests at once")
		}
	})
}

func healthy(w http.ResponseWriter, _ *http.Request) error {
	w.WriteHeader(http.StatusOK)
	return nil
}

// read returns a request's body.
func read(w http.ResponseWriter, r *http.Request) ([]byte, error) {
	data, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxBody))
	if err != nil {
		var large *http.MaxBytesError
		if errors.As(err, &large) {
			return nil, fmt.Errorf("%w: body of more than %d bytes", preheat.ErrInvalid, maxBody)
		}
		return nil, fmt.Errorf("%w: body cut short", preheat.ErrInvalid)
	}
	return data, nil
}

// decode reads a JSON body. Fields that are not known are left out: Harbor adds some with time.
func decode(w http.ResponseWriter, r *http.Request, v any) error {
	data, err := read(w, r)
	if err != nil {
		return err
	}
	if err := json.Unmarshal(data, v); err != nil {
		return fmt.Errorf("%w: body: %w", preheat.ErrInvalid, err)
	}
	return nil
}

// image reads the URL of a manifest, http(s)://HOST/v2/NAME/manifests/REFERENCE; d is the digest that it must have, "" if
// that is not told.
func (s *server) image(text string, d digest.Digest) (preheat.Image, error) {
	u, err := url.Parse(text)
	if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.User != nil || u.RawQuery != "" {
		return preheat.Image{}, fmt.Errorf("%w: url: want http(s)://HOST/v2/NAME/manifests/TAG", preheat.ErrInvalid)
	}
	path, inAPI := strings.CutPrefix(u.Path, "/v2/")
	i := strings.LastIndex(path, "/manifests/")
	if !inAPI || i < 0 {
		return preheat.Image{}, fmt.Errorf("%w: url: want http(s)://HOST/v2/NAME/manifests/TAG", preheat.ErrInvalid)
	}
	registry, ok := s.cfg.Registry(u.Host)
	if !ok {
		return preheat.Image{}, fmt.Errorf("%w: no registry of this node's configuration answers at %.100q: start it with --registry %.100s=%s://%.100s",
			preheat.ErrUnlisted, u.Host, u.Host, u.Scheme, u.Host)
	}
	name, reference := path[:i], path[i+len("/manifests/"):]
	sep := ":"
	if strings.Contains(reference, ":") {
		sep = "@"
	}
	image, err := preheat.ParseImage(registry+"/"+name+sep+reference, registry)
	if err != nil || image.Name != name {
		return preheat.Image{}, fmt.Errorf("%w: url: no image in it", preheat.ErrInvalid)
	}
	if d != "" && image.Digest == "" {
		if err := d.Validate(); err != nil {
			return preheat.Image{}, fmt.Errorf("%w: digest %.100q", preheat.ErrInvalid, d)
		}
		image.Digest = d
	}
	return image, nil
}

// authorization finds the registry's token among the headers that Harbor sends.
func authorization(headers map[string]string) string {
	for name, value := range headers {
		if strings.EqualFold(name, "Authorization") {
			return value
		}
	}
	return ""
}

func write(w http.ResponseWriter, status int, v any) error {
	data, err := json.Marshal(v)
	if err != nil {
		return err
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	w.Write(append(data, '\n')) //nolint:errcheck // the client has gone
	return nil
}

// statuses says which status an error is; the first that matches counts.
var statuses = []struct {
	err    error
	status int
}{
	{preheat.ErrInvalid, http.StatusBadRequest},
	{preheat.ErrUnlisted, http.StatusForbidden},
	{preheat.ErrNotFound, http.StatusNotFound},
	{preheat.ErrBusy, http.StatusServiceUnavailable},
	{preheat.ErrClosed, http.StatusServiceUnavailable},
}

func refuse(w http.ResponseWriter, err error) {
	for _, row := range statuses {
		if errors.Is(err, row.err) {
			if row.status == http.StatusServiceUnavailable {
				w.Header().Set("Retry-After", "5")
			}
			writeError(w, row.status, err.Error())
			return
		}
	}
	log.Errorw("request failed", "err", err)
	writeError(w, http.StatusInternalServerError, "internal error: the node's log says which")
}

func writeError(w http.ResponseWriter, status int, text string) {
	_ = write(w, status, map[string]string{"message": text})
}
