package conformance

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/iot"

	"drover/internal/envtest"
)

// What those see who run a server.

// holdDatabase is a program that keeps everybody from writing to a SQLite file until its input ends.
const holdDatabase = `
import sqlite3, sys
c = sqlite3.connect(sys.argv[1], isolation_level=None)
c.execute("BEGIN IMMEDIATE")
print("held", flush=True)
sys.stdin.read()
`

// TestReadyWhileTheDatabaseIsHeld: a server whose database takes no changes says so, and that it does again.
func TestReadyWhileTheDatabaseIsHeld(t *testing.T) {
	t.Parallel()
	if *storeFlag == "postgres" {
		return // it is about a file
	}
	python := envtest.Python(t, "sqlite3")
	f := fleetOn(t, ownServer(t))
	if status, text := f.fetch("GET", f.http+"/readyz", ""); status != 200 || text != "ok\n" {
		t.Errorf("/readyz: %d %q", status, text)
	}
	holder := exec.CommandContext(f.ctx, python, "-c", holdDatabase, filepath.Join(f.data, "drover.db"))
	release, err := holder.StdinPipe()
	f.must(err)
	held, err := holder.StdoutPipe()
	f.must(err)
	f.must(holder.Start())
	_, err = bufio.NewReader(held).ReadString('\n')
	f.must(err)
	f.eventually("it says that it cannot write", func() bool { // what it wrote last does not count any more
		status, text := f.fetch("GET", f.http+"/readyz", "")
		return status == 503 && text == "not ready: the database takes no changes\n"
	})
	if status, _ := f.fetch("GET", f.http+"/healthz", ""); status != 200 {
		t.Errorf("/healthz: %d", status)
	}
	f.must(release.Close())
	f.must(holder.Wait())
	f.eventually("it is ready again", func() bool {
		status, _ := f.fetch("GET", f.http+"/readyz", "")
		return status == 200
	})
	f.thing("t")
}

// TestShutdownDelay: a server that is told to stop first says so, and serves on.
func TestShutdownDelay(t *testing.T) {
	t.Parallel()
	f := fleetOn(t, ownServer(t, "--shutdown-delay", "3s"))
	f.must(f.process.Process.Signal(syscall.SIGTERM))
	f.eventually("it says that it stops", func() bool {
		status, text := f.fetch("GET", f.http+"/readyz", "")
		return status == 503 && text == "not ready: stopping\n"
	})
	f.thing("t")
	if status, _ := f.fetch("GET", f.http+"/healthz", ""); status != 200 {
		t.Errorf("/healthz: %d", status)
	}
	f.must(f.process.Wait())
}

// TestProfiles are there when asked for, and at that address alone.
func TestProfiles(t *testing.T) {
	t.Parallel()
	f := fleetOn(t, ownServer(t, "--pprof", "127.0.0.1:0"))
	text, err := os.ReadFile(filepath.Join(f.data, "endpoints.json"))
	f.must(err)
	var at struct{ PProf string }
	f.must(json.Unmarshal(text, &at))
	if status, text := f.fetch("GET", at.PProf+"heap?debug=1", ""); status != 200 || !strings.Contains(text, "heap profile") {
		t.Errorf("%s: %d %.100s", at.PProf, status, text)
	}
	if status, _ := f.fetch("GET", f.http+"/debug/pprof/heap", ""); status == 200 {
		t.Error("profiles are at the address of the API")
	}
}

// TestLogLines: lines are JSON if that is asked for, and name the request that they are about by the id
// that its caller has.
func TestLogLines(t *testing.T) {
	t.Parallel()
	if *endpointFlag != "" {
		t.Skip("needs a server of its own; not against a foreign endpoint")
	}
	path, err := binary()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), path, "serve", "--data", t.TempDir(), "--http", "127.0.0.1:0", "--mqtt", "", "--log-format", "json", "--log-level", "debug")
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	lines, err := cmd.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	var at struct{ HTTP string }
	if err := json.NewDecoder(out).Decode(&at); err != nil {
		t.Fatal(err)
	}
	resp, err := http.Get(at.HTTP + "/jobs")
	if err != nil {
		t.Fatal(err)
	}
	id := resp.Header.Get("X-Amzn-Requestid")
	if err := resp.Body.Close(); err != nil {
		t.Fatal(err)
	}
	if err := cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	text, err := io.ReadAll(lines)
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Wait(); err != nil {
		t.Error(err)
	}
	about := make(map[string]bool)
	for line := range strings.Lines(string(text)) {
		var fields map[string]any
		if err := json.Unmarshal([]byte(line), &fields); err != nil {
			t.Fatalf("%q: %v", line, err)
		}
		for _, key := range []string{"time", "level", "msg"} {
			if fields[key] == nil {
				t.Errorf("no %s in %s", key, line)
			}
		}
		if fields["msg"] == "stopping" && fields["delay"] != "0s" {
			t.Errorf("a time without its unit: %s", line)
		}
		if fields["request"] == id {
			about[fmt.Sprint(fields["msg"])] = true
		}
	}
	if id == "" || !about["request refused"] || !about["audit"] {
		t.Errorf("about the request %q there are only %v", id, about)
	}
}

// TestSharedKeys: nodes with the keys of one folder, which they do not change, let the same people in and vouch for the
// same devices; tools find the keys there, and a backup has them.
func TestSharedKeys(t *testing.T) {
	t.Parallel()
	a := t.TempDir()
	keys := filepath.Join(a, "keys")
	f := fleetOn(t, sharedServer(t))
	for range 2 {
		_, err := f.drover("init", keys)
		f.must(err)
	}
	before := contents(t, keys)
	one := fleetOn(t, ownServer(t, "--keys", keys))
	two := fleetOn(t, ownServer(t, "--keys", keys))
	if one.key != two.key || one.secret != two.secret {
		t.Error("two nodes with one folder of keys have two keys")
	}
	for _, node := range []*fleet{one, two} {
		node.thing("t")
		_, err := node.api.CreateKeysAndCertificate(node.ctx, &iot.CreateKeysAndCertificateInput{SetAsActive: true})
		node.must(err)
		for _, private := range []string{"credentials", "secrets.key", "function-secret", "ca-key.pem"} {
			if _, err := os.Stat(filepath.Join(node.data, private)); !errors.Is(err, fs.ErrNotExist) {
				t.Errorf("%s is in the data folder, too: %v", private, err)
			}
		}
	}
	if out, err := one.drover("env", "--data", one.data); err != nil || !strings.Contains(out, one.key) {
		t.Errorf("env: %s, %v", out, err)
	}
	if after := contents(t, keys); !maps.Equal(before, after) {
		t.Error("the keys have changed")
	}
	if *storeFlag == "postgres" {
		return // whose backup is the database's own
	}
	copied, again := filepath.Join(a, "backup"), filepath.Join(a, "again")
	_, err := one.drover("backup", "--data", one.data, "--keys", keys, copied)
	one.must(err)
	_, err = one.drover("restore", "--data", again, copied)
	one.must(err)
	if restored := contents(t, filepath.Join(again, "settings")); !maps.Equal(before, restored) {
		t.Errorf("the backup has other keys: %d files", len(restored))
	}
}

// contents returns the files of a folder.
func contents(t *testing.T, dir string) map[string]string {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	files := make(map[string]string)
	for _, e := range entries {
		text, err := os.ReadFile(filepath.Join(dir, e.Name()))
		if err != nil {
			t.Fatal(err)
		}
		files[e.Name()] = string(text)
	}
	return files
}

// TestServiceManager: a manager such as systemd is told when the server is ready and when it stops, and
// "drover ready" says it to scripts.
func TestServiceManager(t *testing.T) {
	t.Parallel()
	if *endpointFlag != "" {
		t.Skip("needs a server of its own; not against a foreign endpoint")
	}
	path, err := binary()
	if err != nil {
		t.Fatal(err)
	}
	socket := filepath.Join(t.TempDir(), "notify")
	manager, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: socket, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := manager.Close(); err != nil {
			t.Error(err)
		}
	}()
	hears := func(want string) {
		t.Helper()
		if err := manager.SetReadDeadline(time.Now().Add(10 * time.Second)); err != nil {
			t.Fatal(err)
		}
		buf := make([]byte, 100)
		n, err := manager.Read(buf)
		if err != nil || string(buf[:n]) != want {
			t.Errorf("the manager hears %q, %v; want %q", buf[:n], err, want)
		}
	}
	cmd := exec.Command(path)
	cmd.Env = append(os.Environ(), "NOTIFY_SOCKET="+socket)
	cmd.Stderr = os.Stderr
	s, err := launch(cmd, t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	f := fleetOn(t, s)
	hears("READY=1")
	if out, err := f.drover("ready", "--data", f.data); err != nil || out != "ok\n" {
		t.Errorf("ready: %q, %v", out, err)
	}
	f.must(f.terminate())
	hears("STOPPING=1")
	if _, err := f.drover("ready", "--data", f.data); err == nil {
		t.Error("a server that has stopped is ready")
	}
	if _, err := f.drover("ready", "--endpoint-url", f.http); err == nil {
		t.Error("a server that is not there is ready")
	}
}
