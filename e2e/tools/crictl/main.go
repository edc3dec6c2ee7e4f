// Command crictl stands in for the real one, whose module no proxy serves. kind
// and kubeadm ask a node's container runtime for images only, so this speaks
// just that much of the CRI: "inspecti REF", "images", "version" and "info".
package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	cri "k8s.io/cri-api/pkg/apis/runtime/v1"
)

const (
	socket   = "unix:///run/containerd/containerd.sock"
	deadline = 10 * time.Second
)

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "crictl:", err)
		os.Exit(1)
	}
}

func run(args []string) error {
	if len(args) == 0 {
		return errors.New("a command is needed: inspecti REF, images, version or info")
	}
	connection, err := grpc.NewClient(socket, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		return fmt.Errorf("connect to %s: %w", socket, err)
	}
	defer connection.Close()
	ctx, cancel := context.WithTimeout(context.Background(), deadline)
	defer cancel()

	images := cri.NewImageServiceClient(connection)
	runtime := cri.NewRuntimeServiceClient(connection)
	switch command, rest := args[0], args[1:]; {
	case command == "inspecti" && len(rest) == 1:
		return inspectImage(ctx, images, rest[0])
	case command == "images" && len(rest) == 0:
		return listImages(ctx, images)
	case command == "version" && len(rest) == 0:
		version, err := runtime.Version(ctx, &cri.VersionRequest{})
		if err != nil {
			return err
		}
		fmt.Printf("RuntimeName: %s\nRuntimeVersion: %s\n", version.RuntimeName, version.RuntimeVersion)
		return nil
	case command == "info" && len(rest) == 0:
		status, err := runtime.Status(ctx, &cri.StatusRequest{})
		if err != nil {
			return err
		}
		return printJSON(status)
	default:
		return fmt.Errorf("not supported here: %q", strings.Join(args, " "))
	}
}

// inspectImage prints what kind's "load" reads: the id and tags of an image.
func inspectImage(ctx context.Context, images cri.ImageServiceClient, reference string) error {
	response, err := images.ImageStatus(ctx, &cri.ImageStatusRequest{Image: &cri.ImageSpec{Image: reference}})
	if err != nil {
		return err
	}
	if response.Image == nil {
		return fmt.Errorf("no such image %q present", reference)
	}
	return printJSON(map[string]any{"status": map[string]any{
		"id":          response.Image.Id,
		"repoTags":    response.Image.RepoTags,
		"repoDigests": response.Image.RepoDigests,
	}})
}

func listImages(ctx context.Context, images cri.ImageServiceClient) error {
	response, err := images.ListImages(ctx, &cri.ListImagesRequest{})
	if err != nil {
		return err
	}
	for _, image := range response.Images {
		fmt.Println(image.Id, image.Size, strings.Join(image.RepoTags, " "))
	}
	return nil
}

func printJSON(value any) error {
	return json.NewEncoder(os.Stdout).Encode(value)
}
