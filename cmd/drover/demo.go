package main

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"

	"drover/internal/fleetsim"
)

type demoCmd struct {
	Things  int           `help:"How many simulated devices." default:"25"`
	Success float64       `help:"Probability that a device carries out the job with success." default:"0.92"`
	Timeout time.Duration `help:"Give up after so long." default:"1m"`
	Stay    bool          `help:"Keep the server running afterwards, until interrupted."`
}

const (
	demoJob   = "demo-update"
	demoGroup = "demo-fleet"

	demoBucket   = "firmware"
	demoFile     = "update-2.0.1.bin"
	demoFileSize = 1 << 20
)

// Run shows the main job from end to end: a server, devices, a job, its completion.
func (c *demoCmd) Run(ctx context.Context, s *streams) (err error) {
	if c.Things < 1 {
		return errors.New("--things: at least one")
	}
	if c.Success <= 0 || c.Success > 1 {
		return errors.New("--success: more than 0, at most 1")
	}
	dir, err := os.MkdirTemp("", "drover-demo-")
	if err != nil {
		return err
	}
	cfg := serveConfig{
		Data: filepath.Join(dir, "data"), HTTP: "127.0.0.1:0", MQTT: "127.0.0.1:0", Store: "sqlite", Objects: true,
		Account: "123456789012", Region: "us-east-1", LogLevel: "warn", Retention: 24 * time.Hour, JournalRetention: 24 * time.Hour,
	}
	srv, err := startServer(ctx, cfg, cfg.logger(s.err))
	if err != nil {
		return err
	}
	stopped := false
	stop := func() error {
		if stopped {
			return nil
		}
		stopped = true
		return srv.stop()
	}
	defer func() { err = errors.Join(err, stop()) }()
	say(s.err, "A server listens on %s and %s; it keeps its data in %s\n", srv.endpoints.HTTP, srv.endpoints.MQTT, cfg.Data)

	work, cancel := context.WithTimeout(ctx, c.Timeout)
	defer cancel()
	a := api{url: srv.endpoints.HTTP, mqtt: srv.endpoints.MQTT, key: srv.key, region: cfg.Region}
	names := fleetsim.Names("device", c.Things)
	if err := a.register(work, names, demoGroup); err != nil {
		return fmt.Errorf("register the devices: %w", err)
	}
	say(s.err, "%d things are registered in the group %s\n", c.Things, demoGroup)

	document, err := a.uploadFirmware(work)
	if err != nil {
		return fmt.Errorf("put the firmware into the box: %w", err)
	}
	say(s.err, "A file of %d bytes is in the box, s3://%s/%s\n", demoFileSize, demoBucket, demoFile)

	job := map[string]any{
		"targets":            []string{"arn:aws:iot:" + cfg.Region + ":" + cfg.Account + ":thinggroup/" + demoGroup},
		"document":           document,
		"presignedUrlConfig": map[string]any{"roleArn": "arn:aws:iam::" + cfg.Account + ":role/demo"},
	}
	if err := a.call(work, http.MethodPut, "/jobs/"+demoJob, job, nil); err != nil {
		return fmt.Errorf("create the job: %w", err)
	}
	say(s.err, "Job %s is created; the devices come online and download the file\n\n", demoJob)

	fleet, err := fleetsim.New(fleetsim.Config{
		Endpoint: a.mqtt, Things: names, Success: c.Success, Duration: 2 * time.Second, Executions: c.Things, ConnectRate: 25,
	})
	if err != nil {
		return err
	}
	summary, err := show(work, s, fleet, c.Things)
	if err != nil {
		return fmt.Errorf("the devices: %w", err)
	}
	status, counts, err := a.awaitCompletion(work)
	if err != nil {
		return err
	}
	say(s.out, "\n%s\nJob %s is %s: %d succeeded, %d failed.\n", summary, demoJob, status, counts.Succeeded, counts.Failed)

	data := cfg.Data
	if c.Stay {
		say(s.out, "\nLook at it in another terminal:\n\n  eval \"$(drover env --data %s)\"\n", data)
	} else {
		say(s.out, "\nLook at it with the AWS CLI:\n\n  drover serve --data %s &\n  eval \"$(drover env --data %s)\"\n", data, data)
	}
	say(s.out, `  aws iot describe-job --job-id %[1]s
  aws iot list-job-executions-for-job --job-id %[1]s --status FAILED
  aws iot describe-job-execution --job-id %[1]s --thing-name %[2]s
  aws iot get-job-document --job-id %[1]s
  aws s3 ls --human-readable s3://%[3]s
`, demoJob, names[0], demoBucket)
	if c.Stay {
		say(s.out, "\nThe server runs until you press Ctrl-C.\n")
		<-ctx.Done()
	}
	return stop()
}

// uploadFirmware puts a file into the box and returns a document that points to it.
func (a *api) uploadFirmware(ctx context.Context) (document string, err error) {
	firmware := make([]byte, demoFileSize)
	rand.Read(firmware) // never fails
	if err := a.send(ctx, "s3", http.MethodPut, "/"+demoBucket, nil, nil); err != nil {
		return "", err
	}
	if err := a.send(ctx, "s3", http.MethodPut, "/"+demoBucket+"/"+demoFile, firmware, nil); err != nil {
		return "", err
	}
	text, err := json.Marshal(map[string]any{
		"operation": "update", "version": "2.0.1", "files": []any{map[string]any{
			"url":    "${aws:iot:s3-presigned-url:s3://" + demoBucket + "/" + demoFile + "}",
			"sha256": fmt.Sprintf("%x", sha256.Sum256(firmware)),
			"size":   demoFileSize,
		}},
	})
	return string(text), err
}

// awaitCompletion asks for the job until it is COMPLETED.
func (a *api) awaitCompletion(ctx context.Context) (string, jobCounts, error) {
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for {
		var out struct {
			Job struct {
				Status           string    `json:"status"`
				JobProcessDetail jobCounts `json:"jobProcessDetails"`
			} `json:"job"`
		}
		if err := a.call(ctx, http.MethodGet, "/jobs/"+demoJob, nil, &out); err != nil {
			return "", jobCounts{}, fmt.Errorf("describe the job: %w", err)
		}
		if out.Job.Status == "COMPLETED" {
			return out.Job.Status, out.Job.JobProcessDetail, nil
		}
		select {
		case <-ctx.Done():
			return "", jobCounts{}, fmt.Errorf("the job is still %s: %w", out.Job.Status, context.Cause(ctx))
		case <-tick.C:
		}
	}
}

type jobCounts struct {
	Succeeded int64 `json:"numberOfSucceededThings"`
	Failed    int64 `json:"numberOfFailedThings"`
}

// call makes one signed request of the control plane, as any AWS client would.
func (a *api) call(ctx context.Context, method, path string, in, out any) error {
	var body []byte
	if in != nil {
		var err error
		if body, err = json.Marshal(in); err != nil {
			return err
		}
	}
	return a.send(ctx, "iot", method, path, body, out)
}

// send makes one signed request of a service and decodes its answer into out, unless it is nil.
func (a *api) send(ctx context.Context, service, method, path string, body []byte, out any) error {
	r, err := http.NewRequestWithContext(ctx, method, a.url+path, bytes.NewReader(body))
	if err != nil {
		return err
	}
	hash := sha256.Sum256(body)
	sum := hex.EncodeToString(hash[:])
	if service == "s3" {
		r.Header.Set("X-Amz-Content-Sha256", sum)
	} else if body != nil {
		r.Header.Set("Content-Type", "application/json")
	}
	creds := aws.Credentials{AccessKeyID: a.key.AccessKeyID, SecretAccessKey: a.key.SecretAccessKey}
	if err := v4.NewSigner().SignHTTP(ctx, creds, r, sum, service, a.region, time.Now()); err != nil {
		return err
	}
	resp, err := http.DefaultClient.Do(r)
	if err != nil {
		return err
	}
	text, err := io.ReadAll(resp.Body)
	if err := errors.Join(err, resp.Body.Close()); err != nil {
		return err
	}
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("%s %s: %s: %s", method, path, resp.Status, text)
	}
	if out == nil {
		return nil
	}
	return json.Unmarshal(text, out)
}
