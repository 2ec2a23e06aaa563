package main

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"drover/internal/auth"
	"drover/internal/pki"
)

// Tools for whoever runs nodes: scripts, containers, systemd.

// initCmd makes the keys of nodes before any of them runs, so that all have the same.
type initCmd struct {
	Keys string `arg:"" help:"Folder for the keys; what is there stays as it is." type:"path"`
}

func (c *initCmd) Run(s *streams) error {
	if err := os.MkdirAll(c.Keys, 0o700); err != nil {
		return err
	}
	if _, err := auth.LoadOrCreateKey(c.Keys); err != nil {
		return err
	}
	if _, err := auth.LoadOrCreateSeal(filepath.Join(c.Keys, auth.SealFile)); err != nil {
		return err
	}
	if _, err := loadOrCreateSecret(filepath.Join(c.Keys, functionSecretFile)); err != nil {
		return err
	}
	_, err := pki.Open(c.Keys).Roots(true, time.Now())
	return err
}

// readyCmd is for those who cannot ask by HTTP, such as an image without a shell.
type readyCmd struct {
	Data        string        `help:"Data folder of a server on this machine." default:"./drover-data" type:"path" placeholder:"DIR"`
	EndpointURL string        `name:"endpoint-url" help:"URL of the API of another server." placeholder:"URL"`
	Timeout     time.Duration `help:"How long to wait for the answer." default:"5s"`
}

func (c *readyCmd) Run(ctx context.Context, s *streams) error {
	ctx, cancel := context.WithTimeout(ctx, c.Timeout)
	defer cancel()
	client, url := http.DefaultClient, c.EndpointURL
	if url == "" {
		at, err := readEndpoints(c.Data)
		if err != nil {
			return err
		}
		url = at.api()
		// Nothing secret is said, and the certificate has the names that others know this machine by.
		client = &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}}}
	}
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, strings.TrimSuffix(url, "/")+"/readyz", nil)
	if err != nil {
		return err
	}
	resp, err := client.Do(r)
	if err != nil {
		return err
	}
	text, err := io.ReadAll(io.LimitReader(resp.Body, 1<<16))
	if err := errors.Join(err, resp.Body.Close()); err != nil {
		return err
	}
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("%s: %s", url, strings.TrimSpace(string(text)))
	}
	_, err = s.out.Write(text)
	return err
}

// readOnly reports whether a file could not be changed because nothing can be there, as with what
// Kubernetes mounts of a secret.
func readOnly(err error) bool {
	return errors.Is(err, fs.ErrPermission) || errors.Is(err, syscall.EROFS)
}

// notify tells the service manager that started this process how it is, such as READY=1: a message
// to the socket that NOTIFY_SOCKET names (sd_notify(3)). Without one, nobody wants to know.
func notify(state string) error {
	path := os.Getenv("NOTIFY_SOCKET")
	if path == "" {
		return nil
	}
	conn, err := net.DialUnix("unixgram", nil, &net.UnixAddr{Name: path, Net: "unixgram"})
	if err != nil {
		return fmt.Errorf("NOTIFY_SOCKET: %w", err)
	}
	_, err = conn.Write([]byte(state))
	return errors.Join(err, conn.Close())
}
