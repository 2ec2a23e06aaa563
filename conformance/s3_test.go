package conformance

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"

	"drover/internal/envtest"
)

// s3Store is where an S3 store is and how to sign for it.
type s3Store struct {
	url, key, secret, region string
}

// client is the AWS SDK's client of the store.
func (s s3Store) client() *s3.Client {
	return s3.New(s3.Options{
		Region: s.region, BaseEndpoint: aws.String(s.url), UsePathStyle: true, RetryMaxAttempts: 1,
		Credentials: aws.CredentialsProviderFunc(func(context.Context) (aws.Credentials, error) {
			return aws.Credentials{AccessKeyID: s.key, SecretAccessKey: s.secret}, nil
		}),
	})
}

// foreign is an S3 store that we have not written, VersityGW, and a drover that works with
// it: both made when they are first needed.
var foreign struct {
	once   sync.Once
	server *server
	store  s3Store
	stop   []func() error
	err    error
}

func foreignServer(t *testing.T) (*server, s3Store) {
	t.Helper()
	if *endpointFlag != "" {
		t.Skip("needs a server of its own; not against a foreign endpoint")
	}
	gateway := envtest.VersityGW(t)
	f := &foreign
	f.once.Do(func() { f.err = startForeign(gateway) })
	if f.err != nil {
		t.Fatal(f.err)
	}
	return f.server, f.store
}

func startForeign(gateway string) error {
	f := &foreign
	dir, err := temporary()
	if err != nil {
		return err
	}
	dir = filepath.Join(dir, "foreign")
	for _, name := range []string{"objects", "versions", "meta"} {
		if err := os.MkdirAll(filepath.Join(dir, name), 0o700); err != nil {
			return err
		}
	}
	// It does not tell which port it has got, so it listens on a socket in the folder.
	socket := filepath.Join(dir, "s3.sock")
	f.store = s3Store{key: "AKIAFOREIGN", secret: "secret-of-the-foreign-store", region: "eu-central-1"}
	cmd := exec.Command(gateway, "--quiet", "--port", socket, "--access", f.store.key, "--secret", f.store.secret, "--region", f.store.region,
		"posix", "--versioning-dir", filepath.Join(dir, "versions"), "--sidecar", filepath.Join(dir, "meta"), filepath.Join(dir, "objects"))
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := cmd.Start(); err != nil {
		return err
	}
	f.stop = append(f.stop, func() error { return errors.Join(cmd.Process.Kill(), waitKilled(cmd)) })
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	f.stop = append(f.stop, l.Close)
	go forward(l, socket)
	f.store.url = "http://" + l.Addr().String()
	if err := awaitStore(f.store); err != nil {
		return err
	}
	f.server, err = start(filepath.Join(dir, "drover"), "--s3", f.store.url, "--s3-region", f.store.region, "--s3-access-key", f.store.key, "--s3-secret-key", f.store.secret)
	if err == nil {
		f.stop = append(f.stop, f.server.terminate)
	}
	return err
}

// waitKilled waits for a process that was killed, which is what Wait complains of.
func waitKilled(cmd *exec.Cmd) error {
	if err := cmd.Wait(); err != nil && cmd.ProcessState == nil {
		return err
	}
	return nil
}

// awaitStore waits until a store answers.
func awaitStore(s s3Store) error {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		_, err := s.client().ListBuckets(ctx, &s3.ListBucketsInput{})
		if err == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("the foreign store does not answer: %w", err)
		case <-tick.C:
		}
	}
}

// forward passes connections on to a socket.
func forward(l net.Listener, socket string) {
	for {
		in, err := l.Accept()
		if err != nil {
			return
		}
		go func() {
			defer func() { _ = in.Close() }()
			out, err := net.Dial("unix", socket)
			if err != nil {
				return
			}
			defer func() { _ = out.Close() }()
			go func() {
				_, _ = io.Copy(out, in) // either end may have gone
				_ = out.(*net.UnixConn).CloseWrite()
			}()
			_, _ = io.Copy(in, out)
		}()
	}
}
