package main

import (
	"bytes"
	"context"
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
	demoDoc   = `{"operation":"update","version":"2.0.1","url":"https://firmware.example/2.0.1.bin"}`
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
		Data: filepath.Join(dir, "data"), HTTP: "127.0.0.1:0", MQTT: "127.0.0.1:0", Store: "sqlite",
		Account: "123456789012", Region: "us-east-1", LogLevel: "warn", Retention: 24 * time.Hour,
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

	target := "arn:aws:iot:" + cfg.Region + ":" + cfg.Account + ":thinggroup/" + demoGroup
	if err := a.call(work, http.MethodPut, "/jobs/"+demoJob, map[string]any{"targets": []string{target}, "document": demoDoc}, nil); err != nil {
		return fmt.Errorf("create the job: %w", err)
	}
	say(s.err, "Job %s is created; the devices come online\n\n", demoJob)

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
`, demoJob, names[0])
	if c.Stay {
		say(s.out, "\nThe server runs until you press Ctrl-C.\n")
		<-ctx.Done()
	}
	return stop()
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
	r, err := http.NewRequestWithContext(ctx, method, a.url+path, bytes.NewReader(body))
	if err != nil {
		return err
	}
	if body != nil {
		r.Header.Set("Content-Type", "application/json")
	}
	hash := sha256.Sum256(body)
	creds := aws.Credentials{AccessKeyID: a.key.AccessKeyID, SecretAccessKey: a.key.SecretAccessKey}
	if err := v4.NewSigner().SignHTTP(ctx, creds, r, hex.EncodeToString(hash[:]), "iot", a.region, time.Now()); err != nil {
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
