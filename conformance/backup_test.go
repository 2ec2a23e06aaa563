package conformance

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/iot"
	"github.com/aws/aws-sdk-go-v2/service/iot/types"
	"github.com/aws/aws-sdk-go-v2/service/s3"

	"drover/internal/envtest"
)

// drover runs the program under test as a tool and returns what it printed; a failure is an error.
func (f *fleet) drover(args ...string) (string, error) {
	f.t.Helper()
	path, err := binary()
	f.must(err)
	out, err := exec.CommandContext(f.ctx, path, args...).CombinedOutput()
	if err != nil {
		err = fmt.Errorf("drover %s: %w: %s", args[0], err, out)
	}
	return string(out), err
}

// A backup of a server under load has everything that was answered before it began, and a server
// that starts on it is one that works.
func TestBackupUnderLoad(t *testing.T) {
	t.Parallel()
	flags := append([]string{"--store", "sqlite"}, tlsFlags...)
	f := fleetOn(t, ownServer(t, flags...))
	roots := f.roots()
	key := f.newKey("reader", `{"Effect":"Allow","Action":"iot:ListJobs","Resource":"*"}`)
	bucket, object := f.newBucket(), bytes.Repeat([]byte("firmware"), 100_000)
	f.putObject(bucket, "fw/v1", object)
	cert := f.newCertificate(true)

	// Devices that report progress all the time, and a rollout in the middle.
	var devices []*device
	var targets []string
	for i := range 8 {
		thing := f.thing("t" + itoa(i))
		devices, targets = append(devices, f.connectAs(thing, thing, 4+i%2)), append(targets, f.thingARN(thing))
	}
	id := f.job("job", targets)
	group := f.bulk("g", 20_000)
	answered := make([]atomic.Int64, len(devices)) // versions
	stop, busy := make(chan struct{}), make(chan struct{})
	var load sync.WaitGroup
	for i, d := range devices {
		load.Go(func() {
			for n := 0; ; n++ {
				select {
				case <-stop:
					return
				default:
				}
				result, answer, err := d.ask(id+"/update", fmt.Sprintf(`{"status":"IN_PROGRESS","statusDetails":{"step":"%d"},"includeJobExecutionState":true}`, n))
				if err != nil || result != "accepted" {
					t.Errorf("%s: %s %v %v", d.thing, result, answer, err)
					return
				}
				v, _ := path(answer["executionState"], "versionNumber").(float64)
				answered[i].Store(int64(v))
				if n == 100 && i == 0 {
					close(busy)
				}
			}
		})
	}
	finish := sync.OnceFunc(func() { close(stop); load.Wait() })
	defer finish()
	<-busy
	roll := f.name("roll")
	_, err := f.api.CreateJob(f.ctx, &iot.CreateJobInput{JobId: &roll, Document: aws.String(document), Targets: []string{f.groupARN(group)}})
	f.must(err)
	before := make([]int64, len(devices))
	for i := range before {
		before[i] = answered[i].Load()
	}
	backup := filepath.Join(t.TempDir(), "backup")
	out, err := f.drover("backup", "--data", f.data, backup)
	f.must(err)
	during := int64(0)
	for i := range before {
		during += answered[i].Load() - before[i]
	}
	finish()
	t.Logf("%s%d updates answered while it was taken", out, during)
	if during == 0 {
		t.Error("nothing was answered while the backup was taken")
	}

	_, err = f.drover("backup", "--verify", backup)
	f.must(err)
	if _, err = f.drover("backup", "--data", f.data, backup); err == nil || !strings.Contains(err.Error(), "is there already") {
		t.Errorf("a second backup at the same place: %v", err)
	}
	if _, err = f.drover("restore", "--data", f.data, backup); err == nil || !strings.Contains(err.Error(), "is not empty") {
		t.Errorf("restored over a server that runs: %v", err)
	}
	f.must(f.terminate())
	data := filepath.Join(t.TempDir(), "new", "data")
	_, err = f.drover("restore", "--data", data, backup)
	f.must(err)
	for _, name := range []string{"drover.db", "credentials", "secrets.key", "ca-key.pem", "function-secret"} {
		info, err := os.Stat(filepath.Join(data, name))
		if err != nil && name == "function-secret" {
			continue // made when a function is first called
		}
		f.must(err)
		if info.Mode().Perm() != 0o600 {
			t.Errorf("%s has mode %v", name, info.Mode())
		}
	}

	s, err := start(data, flags...)
	f.must(err)
	defer func() { f.must(s.terminate()) }()
	if s.key != f.key || s.secret != f.secret {
		t.Error("another root key")
	}
	f.server, f.api = s, s.client()
	key.server.http = s.http
	key.api = key.server.client()
	_, err = key.api.ListJobs(f.ctx, &iot.ListJobsInput{})
	f.must(err)
	if !roots.Equal(f.roots()) {
		t.Error("another certificate authority")
	}
	if got := f.certificate(cert.id).Status; got != types.CertificateStatusActive {
		t.Errorf("the certificate is %s", got)
	}
	got, err := f.box().GetObject(f.ctx, &s3.GetObjectInput{Bucket: &bucket, Key: aws.String("fw/v1")})
	f.must(err)
	var content bytes.Buffer
	_, err = content.ReadFrom(got.Body)
	f.must(err)
	f.must(got.Body.Close())
	if !bytes.Equal(content.Bytes(), object) {
		t.Errorf("the object has %d bytes, or others", content.Len())
	}
	if len(f.audit("--operation", "CreateJob")) < 2 {
		t.Error("the audit log does not know of the jobs")
	}
	for i, d := range devices {
		if e := f.execution(d.thing, id); e.VersionNumber < before[i] || e.VersionNumber > answered[i].Load()+1 {
			t.Errorf("%s has version %d; %d was answered before the backup, %d at the end", d.thing, e.VersionNumber, before[i], answered[i].Load())
		}
	}
	c := &chaos{fleet: f}
	c.checkCounters(id, len(devices))
	if counts := c.checkCounters(roll, 20_000); counts[types.JobExecutionStatusQueued] != 20_000 {
		t.Errorf("the rollout ended with %v", counts)
	}
	for _, d := range devices {
		d := f.connectAs(d.thing, d.thing, 4)
		if result, answer, err := d.ask(id+"/update", `{"status":"SUCCEEDED"}`); err != nil || result != "accepted" {
			t.Errorf("%s: %s %v %v", d.thing, result, answer, err)
		}
	}
	f.jobStatus(id, types.JobStatusCompleted)
}

// What a restore was interrupted in is no data folder.
func TestServeRefusesHalfARestore(t *testing.T) {
	t.Parallel()
	data := t.TempDir()
	if err := os.Mkdir(filepath.Join(data, ".restoring"), 0o700); err != nil {
		t.Fatal(err)
	}
	path, err := binary()
	if err != nil {
		t.Fatal(err)
	}
	out, err := exec.Command(path, "serve", "--data", data, "--http", "127.0.0.1:0", "--mqtt", "").CombinedOutput()
	if err == nil || !strings.Contains(string(out), "interrupted") {
		t.Errorf("%v %s", err, out)
	}
	if entries, err := os.ReadDir(data); err != nil || len(entries) != 1 {
		t.Errorf("something was made: %v %v", entries, err)
	}
}

// A server moves from SQLite to PostgreSQL, from there to another PostgreSQL by pg_dump while it
// works, and back to SQLite. Nothing that was answered is lost on the way, and work goes on.
func TestMoveToPostgreSQL(t *testing.T) {
	t.Parallel()
	f := fleetOn(t, ownServer(t, "--store", "sqlite"))
	urls := []string{envtest.PostgreSQL(t), envtest.PostgreSQL(t)}
	var things, targets []string
	for i := range 6 {
		thing := f.thing("t" + itoa(i))
		things, targets = append(things, thing), append(targets, f.thingARN(thing))
	}
	id := f.job("job", targets)
	group := f.bulk("g", 3000)
	roll := f.job("roll", []string{f.groupARN(group)})
	versions := make([]atomic.Int64, len(things))
	for i := range versions {
		versions[i].Store(1)
	}
	// update makes device i report that it is at work, or done.
	update := func(d *device, i int, status string) bool {
		result, answer, err := d.ask(id+"/update", `{"status":"`+status+`","includeJobExecutionState":true}`)
		v, _ := path(answer["executionState"], "versionNumber").(float64)
		if err != nil || result != "accepted" || int64(v) != versions[i].Load()+1 {
			t.Errorf("%s: %s %v %v after version %d", d.thing, result, answer, err, versions[i].Load())
			return false
		}
		versions[i].Add(1)
		return true
	}
	check := func(where string) {
		t.Helper()
		c := &chaos{fleet: f}
		c.checkCounters(id, len(things))
		if counts := c.checkCounters(roll, 3000); counts[types.JobExecutionStatusQueued] != 3000 {
			t.Errorf("%s: the rollout has %v", where, counts)
		}
		for i, thing := range things {
			if e := f.execution(thing, id); e.VersionNumber != versions[i].Load() {
				t.Errorf("%s: %s has version %d, answered %d", where, thing, e.VersionNumber, versions[i].Load())
			}
		}
		for i, thing := range things {
			d := f.connectAs(thing, thing, 4)
			update(d, i, "IN_PROGRESS")
			d.disconnect()
		}
		// Numbers are not used again.
		f.job("job-"+where, targets[:1])
	}
	again := func(data string, flags ...string) {
		t.Helper()
		s, err := start(data, flags...)
		f.must(err)
		t.Cleanup(func() {
			if s.process.ProcessState == nil {
				f.must(s.terminate())
			}
		})
		f.server, f.api = s, s.client()
	}
	check("sqlite")
	data := f.data
	if _, err := f.drover("migrate-store", "--from", data, "--to", urls[0]); err == nil || !strings.Contains(err.Error(), "in use by another server") {
		t.Errorf("moved from under a server: %v", err)
	}
	f.must(f.terminate())
	out, err := f.drover("migrate-store", "--from", data, "--to", urls[0])
	f.must(err)
	t.Log(out)
	if _, err := f.drover("migrate-store", "--from", data, "--to", urls[0]); err == nil || !strings.Contains(err.Error(), "not empty") {
		t.Errorf("moved over something: %v", err)
	}
	again(data, "--store", urls[0])
	check("postgres")

	// pg_dump first, then the rest, while devices go on.
	stop := make(chan struct{})
	var load sync.WaitGroup
	for i, thing := range things {
		d := f.connectAs(thing, thing, 4)
		load.Go(func() {
			for update(d, i, "IN_PROGRESS") {
				select {
				case <-stop:
					return
				default:
				}
			}
		})
	}
	before := make([]int64, len(things))
	for i := range things {
		before[i] = versions[i].Load()
	}
	dump, backup := filepath.Join(t.TempDir(), "drover.dump"), filepath.Join(t.TempDir(), "backup")
	tool := func(name string, args ...string) {
		t.Helper()
		if out, err := exec.CommandContext(f.ctx, envtest.PostgreSQLTool(name), args...).CombinedOutput(); err != nil {
			t.Fatalf("%s: %v: %s", name, err, out)
		}
	}
	tool("pg_dump", "--format=custom", "--no-owner", "--file="+dump, urls[0])
	_, err = f.drover("backup", "--store", urls[0], "--data", data, backup)
	f.must(err)
	close(stop)
	load.Wait()
	f.must(f.terminate())
	restored := filepath.Join(t.TempDir(), "restored")
	_, err = f.drover("restore", "--data", restored, backup)
	f.must(err)
	tool("pg_restore", "--exit-on-error", "--no-owner", "--dbname="+urls[1], dump)
	again(restored, "--store", urls[1])
	for i, thing := range things {
		v := f.execution(thing, id).VersionNumber
		if v < before[i] || v > versions[i].Load() {
			t.Errorf("pg_restore: %s has version %d; %d was answered before, %d at the end", thing, v, before[i], versions[i].Load())
		}
		versions[i].Store(v)
	}
	check("restored")

	f.must(f.terminate())
	_, err = f.drover("migrate-store", "--from", urls[1], "--to", restored)
	f.must(err)
	again(restored, "--store", "sqlite")
	check("back")
	for i, thing := range things {
		update(f.connectAs(thing, thing, 5), i, "SUCCEEDED")
	}
	f.jobStatus(id, types.JobStatusCompleted)
}
