//go:build !linux

package lab

import (
	"context"
	"errors"

	"github.com/meshd-project/meshd/netsim"
)

// Run says that the lab needs Linux.
func Run(_ context.Context, s *netsim.Scenario, _ Options) (*Result, error) {
	if err := Check(s); err != nil {
		return nil, err
	}
	return nil, errors.New("the lab needs Linux, for its network namespaces")
}
