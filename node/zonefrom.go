package node

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/meshd-project/meshd/dht/gossip"
	"github.com/meshd-project/meshd/node/topology"
)

// zoneLabel is the well-known label of Kubernetes that names a node's zone.
const zoneLabel = "topology.kubernetes.io/zone"

const (
	metadataURL     = "http://169.254.169.254" // of all three clouds
	metadataTimeout = time.Second              // of one question
	metadataTries   = 3
	maxZoneText     = 64 << 10 // bytes of a file of labels or of an answer
)

// checkZoneFrom takes aws, gcp, azure and file:PATH.
func checkZoneFrom(s string) error {
	if path, ok := strings.CutPrefix(s, "file:"); ok && path != "" {
		return nil
	}
	if clouds[s] != nil {
		return nil
	}
	return fmt.Errorf("%q: want aws, gcp, azure or file:PATH", s)
}

// zoneFrom asks the source that --zone-from names; m is where clouds answer.
func zoneFrom(ctx context.Context, spec string, m *metadata) (string, error) {
	path, isFile := strings.CutPrefix(spec, "file:")
	if isFile {
		f, _, err := openFile(path)
		if err != nil {
			return "", err
		}
		defer f.Close()
		text, err := io.ReadAll(io.LimitReader(f, maxZoneText))
		if err != nil {
			return "", err
		}
		zone, err := zoneInLabels(string(text))
		if err != nil {
			return "", fmt.Errorf("%s: %w", path, err)
		}
		return zone, nil
	}
	ask := clouds[spec]
	if ask == nil {
		return "", checkZoneFrom(spec)
	}
	defer m.client.CloseIdleConnections()
	var err error
	for range metadataTries {
		var raw string
		if raw, err = ask(ctx, m); err == nil {
			return zoneName(raw)
		}
	}
	return "", fmt.Errorf("metadata service at %s: %w", m.url, err)
}

// zoneName makes a zone's name of what others call it: in lower case, the last part of a path.
func zoneName(raw string) (string, error) {
	name := strings.ToLower(strings.TrimSpace(raw))
	name = name[strings.LastIndexByte(name, '/')+1:]
	if name == topology.Undecided {
		return "", fmt.Errorf("%q is where nodes of all places are until they have found theirs", name)
	}
	if !gossip.ValidZone(name) {
		return "", fmt.Errorf("%.80q names no zone: want 1 to 63 of a-z, 0-9, '.', '-', '_'", raw)
	}
	return name, nil
}

// zoneInLabels finds the zone in a file: a JSON object of labels, or lines KEY=VALUE with VALUE plain or quoted as
// the downward API of Kubernetes writes it; the label is zoneLabel. A file of one word is that name.
func zoneInLabels(text string) (string, error) {
	text = strings.TrimSpace(text)
	if strings.HasPrefix(text, "{") {
		var labels map[string]any
		if err := json.Unmarshal([]byte(text), &labels); err != nil {
			return "", fmt.Errorf("not a JSON object: %w", err)
		}
		if zone, ok := labels[zoneLabel].(string); ok {
			return zoneName(zone)
		}
		return "", fmt.Errorf("no label %s", zoneLabel)
	}
	lines := bufio.NewScanner(strings.NewReader(text))
	lines.Buffer(nil, maxZoneText)
	for lines.Scan() {
		key, value, ok := strings.Cut(strings.TrimSpace(lines.Text()), "=")
		if !ok || strings.TrimSpace(key) != zoneLabel {
			continue
		}
		value = strings.TrimSpace(value)
		if unquoted, err := strconv.Unquote(value); err == nil {
			value = unquoted
		}
		return zoneName(value)
	}
	if err := lines.Err(); err != nil {
		return "", err
	}
	if text != "" && !strings.ContainsAny(text, "= \t\r\n") {
		return zoneName(text)
	}
	return "", fmt.Errorf("no label %s", zoneLabel)
}

// clouds are the questions to each cloud's metadata service.
var clouds = map[string]func(context.Context, *metadata) (string, error){
	"aws": func(ctx context.Context, m *metadata) (string, error) { // IMDSv2
		token, err := m.ask(ctx, http.MethodPut, "/latest/api/token", "X-aws-ec2-metadata-token-ttl-seconds", "60")
		if err != nil {
			return "", err
		}
		return m.ask(ctx, http.MethodGet, "/latest/meta-data/placement/availability-zone", "X-aws-ec2-metadata-token", token)
	},
	"gcp": func(ctx context.Context, m *metadata) (string, error) {
		return m.ask(ctx, http.MethodGet, "/computeMetadata/v1/instance/zone", "Metadata-Flavor", "Google")
	},
	"azure": func(ctx context.Context, m *metadata) (string, error) { // zones are numbers within a region
		body, err := m.ask(ctx, http.MethodGet, "/metadata/instance/compute?api-version=2021-02-01&format=json", "Metadata", "true")
		if err != nil {
			return "", err
		}
		var at struct{ Location, Zone string }
		if err := json.Unmarshal([]byte(body), &at); err != nil {
			return "", err
		}
		if at.Location == "" {
			return "", errors.New("the answer names no location")
		}
		if at.Zone == "" {
			return at.Location, nil
		}
		return at.Location + "-" + at.Zone, nil
	},
}

// metadata is a client of a cloud's metadata service: no proxy, no redirects, short waits.
type metadata struct {
	url    string
	client *http.Client
}

func newMetadata(url string, timeout time.Duration) *metadata {
	return &metadata{url, &http.Client{
		Transport:     &http.Transport{},
		Timeout:       timeout,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}}
}

// ask returns the body of a 200. Errors do not repeat header or body: the token of AWS is a secret.
func (m *metadata) ask(ctx context.Context, method, path, header, value string) (string, error) {
	req, err := http.NewRequestWithContext(ctx, method, m.url+path, nil)
	if err != nil {
		return "", err
	}
	req.Header.Set(header, value)
	resp, err := m.client.Do(req)
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return "", fmt.Errorf("%s: %s", path, resp.Status)
	}
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxZoneText))
	return strings.TrimSpace(string(body)), err
}
