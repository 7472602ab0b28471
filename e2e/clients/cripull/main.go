// Cripull pulls an image as a kubelet does: PullImage of the container runtime interface, at a runtime's socket.
//
//	cripull SOCKET IMAGE [USER PASSWORD]
//
// It prints what the runtime then has under that name: the image's id (the digest of its configuration) and its digests.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	cri "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// patience bounds the whole run.
const patience = 2 * time.Minute

func main() {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	if err := run(ctx, os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "cripull:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string) error {
	var auth *cri.AuthConfig
	switch len(args) {
	case 2:
	case 4:
		auth = &cri.AuthConfig{Username: args[2], Password: args[3]}
	default:
		return errors.New("usage: cripull SOCKET IMAGE [USER PASSWORD]")
	}
	conn, err := grpc.NewClient("unix://"+args[0], grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		return err
	}
	defer conn.Close()
	images := cri.NewImageServiceClient(conn)
	spec := &cri.ImageSpec{Image: args[1]}
	if _, err := images.PullImage(ctx, &cri.PullImageRequest{Image: spec, Auth: auth}); err != nil {
		return fmt.Errorf("pull %s: %w", args[1], err)
	}
	got, err := images.ImageStatus(ctx, &cri.ImageStatusRequest{Image: spec})
	if err != nil {
		return fmt.Errorf("status of %s: %w", args[1], err)
	}
	if got.Image == nil {
		return fmt.Errorf("the runtime pulled %s and does not have it", args[1])
	}
	fmt.Println(got.Image.Id, strings.Join(got.Image.RepoDigests, " "))
	return nil
}
