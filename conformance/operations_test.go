package conformance

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

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
		t.Skip("is about a file")
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
		if fields["request"] == id {
			about[fmt.Sprint(fields["msg"])] = true
		}
	}
	if id == "" || !about["request refused"] || !about["audit"] {
		t.Errorf("about the request %q there are only %v", id, about)
	}
}
