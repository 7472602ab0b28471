package node

import (
	"context"
	"net/http"
	"time"

	"github.com/libp2p/go-libp2p/core/metrics"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/protocol"

	"github.com/meshd-project/meshd/exchange/pace"
	"github.com/meshd-project/meshd/node/admin"
)

// Limits is what GET /v1/limits shows: the rates in effect.
type Limits struct {
	Download Rate `json:"download"`
	Upload   Rate `json:"upload"`
	Origin   Rate `json:"origin"`
}

// LimitsChange is the body of PUT /v1/limits. What is not named stays as it is.
type LimitsChange struct {
	Download *Rate `json:"download,omitempty"`
	Upload   *Rate `json:"upload,omitempty"`
	Origin   *Rate `json:"origin,omitempty"`
}

func (n *node) showLimits(context.Context) any {
	l := n.limits
	return Limits{Download: Rate(l.Download.Rate()), Upload: Rate(l.Upload.Rate()), Origin: Rate(l.Origin.Rate())}
}

// putLimits changes rates until the process ends; the configuration is what it starts with again.
func (n *node) putLimits(w http.ResponseWriter, r *http.Request) error {
	var c LimitsChange
	if err := admin.Decode(r, &c); err != nil {
		return err
	}
	for _, f := range []struct {
		to *pace.Limiter
		r  *Rate
	}{{n.limits.Download, c.Download}, {n.limits.Upload, c.Upload}, {n.limits.Origin, c.Origin}} {
		if f.r != nil {
			f.to.SetRate(int64(*f.r))
		}
	}
	now := n.showLimits(r.Context())
	log.Infow("limits changed", "limits", now)
	return admin.WriteJSON(w, http.StatusOK, now)
}

func newLimits(c Config) *pace.Limits {
	return pace.NewLimits(int64(c.Exchange.DownloadLimit), int64(c.Exchange.UploadLimit), int64(c.Origin.Limit))
}

// controlBytes has control messages count within the rates of the node, ahead of pieces: they never wait, pieces make room
// for them. It is libp2p's metrics.Reporter, of which it keeps no figures.
type controlBytes struct{ limits *pace.Limits }

func (c controlBytes) LogSentMessage(n int64) { c.limits.Upload.Charge(int(n)) }
func (c controlBytes) LogRecvMessage(n int64) { c.limits.Download.Charge(int(n)) }

func (controlBytes) LogSentMessageStream(int64, protocol.ID, peer.ID)      {}
func (controlBytes) LogRecvMessageStream(int64, protocol.ID, peer.ID)      {}
func (controlBytes) GetBandwidthForPeer(peer.ID) (s metrics.Stats)         { return s }
func (controlBytes) GetBandwidthForProtocol(protocol.ID) (s metrics.Stats) { return s }
func (controlBytes) GetBandwidthTotals() (s metrics.Stats)                 { return s }
func (controlBytes) GetBandwidthByPeer() map[peer.ID]metrics.Stats         { return nil }
func (controlBytes) GetBandwidthByProtocol() map[protocol.ID]metrics.Stats { return nil }
func (controlBytes) Reset()                                                {}
func (controlBytes) TrimIdle(time.Time)                                    {}

var _ metrics.Reporter = controlBytes{}
