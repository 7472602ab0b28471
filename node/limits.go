package node

import (
	"time"

	"github.com/libp2p/go-libp2p/core/metrics"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/protocol"

	"github.com/meshd-project/meshd/exchange/pace"
)

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
