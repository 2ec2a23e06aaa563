package conformance

import (
	"cmp"
	"errors"
	"flag"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"drover/internal/envtest"
	"drover/internal/faulttest"
)

// What goes wrong around servers, and what must be true afterwards (faulttest.Check): docs/operations.md has the list.

var faultsFlag = flag.Bool("faults", false, "all scenarios of TestFaults, one after another, instead of a few short ones (make faults)")

// enough is how many answers to devices are some seconds of load.
func enough() int {
	if *faultsFlag {
		return 1500
	}
	return 300
}

func TestFaults(t *testing.T) {
	if !*faultsFlag {
		t.Parallel()
	}
	store := cmp.Or(*storeFlag, "sqlite")
	for _, s := range []struct {
		name  string
		quick string // the store with which it runs among all other tests, short; "" for none
		run   func(*testing.T)
	}{
		{"power cut, SQLite", "sqlite", func(t *testing.T) { powerCut(t, sqlite) }},
		{"power cut, PostgreSQL", "postgres", func(t *testing.T) { powerCut(t, newDatabase(t)) }},
		{"database killed", "", databaseKilled},
		{"connections cut", "postgres", connectionsCut},
		{"database slow", "", databaseSlow},
		{"database silent", "", databaseSilent},
		{"disk full, SQLite", "", func(t *testing.T) {
			disk := newDisk(t, 64)
			diskFull(t, disk, sqlite, &site{data: filepath.Join(disk.path, "data"), flags: sqlite.flags})
		}},
		{"disk full, PostgreSQL", "", func(t *testing.T) {
			disk := newDisk(t, 256)
			d := databaseIn(t, disk.path, "-c min_wal_size=32MB -c max_wal_size=64MB")
			diskFull(t, disk, d, &site{flags: d.flags})
		}},
		{"clock stepped", "sqlite", clockStepped},
		{"planted", "postgres", planted},
		{"node killed", "postgres", nodeKilled},
		{"node frozen", "", nodeFrozen},
		{"node without database", "", nodeWithoutDatabase},
		{"node apart", "", nodeApart},
		{"node's clock stepped", "", nodeClockStepped},
		{"rolling restart", "", rollingRestart},
	} {
		if !*faultsFlag && s.quick != store {
			continue
		}
		t.Run(s.name, func(t *testing.T) {
			if !*faultsFlag {
				t.Parallel()
			}
			s.run(t)
		})
	}
}

// The server is killed, and started again.
func powerCut(t *testing.T, d *database) {
	s := newSite(t, d.flags...)
	l := newLoad(t, d.url, s)
	for range 3 {
		l.busy(enough())
		s.kill(t)
		s.start(t)
	}
	l.busy(enough())
	l.settle()
}

// The database is killed, and started again.
func databaseKilled(t *testing.T) {
	d := newDatabase(t)
	l := newLoad(t, d.url, newSite(t, d.flags...))
	for range 2 {
		l.busy(enough())
		must(t, d.server.Kill())
		must(t, d.server.Start())
	}
	l.busy(enough())
	l.settle()
}

// Connections to the database are cut: all at once, each at a random moment, and by the database itself.
func connectionsCut(t *testing.T) {
	d := newDatabase(t)
	l := newLoad(t, d.url, newSite(t, d.flags...))
	for range 5 {
		l.busy(enough() / 5)
		d.proxy.Cut()
	}
	d.proxy.Chance(0.01)
	l.busy(enough())
	d.proxy.Chance(0)
	for range 5 {
		l.busy(enough() / 5)
		envtest.Execute(t, d.url, "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()")
	}
	l.busy(enough())
	l.settle()
}

// What goes to the database and what comes from there is 25 ms late: a statement takes 50 more.
func databaseSlow(t *testing.T) {
	d := newDatabase(t)
	l := newLoad(t, d.url, newSite(t, d.flags...))
	l.busy(enough())
	d.proxy.Delay(25 * time.Millisecond)
	began := time.Now()
	l.busy(enough() / 15)
	t.Logf("%d answers took %s", enough()/15, time.Since(began).Round(time.Millisecond))
	d.proxy.Delay(0)
	l.busy(enough())
	l.settle()
}

// Nothing comes from the database, and nothing says that it is gone.
func databaseSilent(t *testing.T) {
	d := newDatabase(t)
	l := newLoad(t, d.url, newSite(t, d.flags...))
	l.busy(enough())
	d.proxy.Silence(true)
	l.unanswered(loadDevices / 3)
	d.proxy.Silence(false)
	l.busy(enough())
	l.settle()
}

// No space is left where the database is, and then there is again. An operator starts a database
// that has ended.
func diskFull(t *testing.T, disk *disk, d *database, s *site) {
	l := newLoad(t, d.url, openSite(t, s))
	for range 2 {
		l.busy(enough())
		disk.fill(t)
		l.unanswered(loadDevices / 3)
		disk.free(t)
		if d.server != nil {
			must(t, d.server.Start())
		}
	}
	l.busy(enough())
	l.settle()
}

// Nothing goes wrong, and then somebody spoils the database: Check has to find what was done to each
// of some jobs.
func planted(t *testing.T) {
	d := newDatabase(t)
	l := newLoad(t, d.url, newSite(t, d.flags...))
	l.busy(enough())
	l.settle()
	const lastRow, end = `(SELECT max(id) FROM journal WHERE job_id = '$JOB' AND kind = 'execution.changed')`, ` WHERE job = (SELECT id FROM jobs WHERE job_id = '$JOB')`
	damage := []struct{ statement, want string }{
		{`DELETE FROM journal WHERE id = ` + lastRow, "acknowledged and lost: step"},
		{`INSERT INTO journal (id, at, kind, actor, job_id, flags, body, node)
			SELECT (SELECT max(id) + 1 FROM journal), at, kind, actor, job_id, flags, body, node FROM journal WHERE id = ` + lastRow, "ran twice: step"},
		{`UPDATE journal SET id = (SELECT max(id) + 1 FROM journal) WHERE id = (SELECT min(id) FROM journal WHERE job_id = '$JOB' AND kind = 'execution.changed')`, "where 1 comes"},
		{`DELETE FROM journal WHERE job_id = '$JOB' AND kind = 'job.completed'`, "event of nothing: COMPLETED of $JOB"},
		{`UPDATE job_counts SET queued = queued + 1` + end, "counts of $JOB"},
		{`UPDATE jobs SET status = 2, completed_at = 0 WHERE job_id = '$JOB'`, "$JOB is SCHEDULED with 0 executions"},
		{`DELETE FROM jobs WHERE job_id = '$JOB'`, "acknowledged and lost: job $JOB"},
		{`DELETE FROM executions` + end, "has no execution of $JOB"},
		{`UPDATE executions SET version = version + 1` + end, "journal: $JOB on "},
	}
	var jobs []string
	for _, o := range l.history.Orders {
		if o.Created == faulttest.Done && !o.Asked {
			jobs = append(jobs, o.Job)
		}
	}
	if len(jobs) < len(damage) {
		t.Fatalf("%d jobs are too few", len(jobs))
	}
	for i, d := range damage {
		envtest.Execute(t, l.store, strings.ReplaceAll(d.statement, "$JOB", jobs[i]))
	}
	found := faulttest.Check(l.history, l.state(fleetOn(t, l.sites[0].at.Load())))
	for i, d := range damage {
		want := strings.ReplaceAll(d.want, "$JOB", jobs[i])
		if !slices.ContainsFunc(found, func(f string) bool { return strings.Contains(f, want) }) {
			t.Errorf("nothing says %q, which is what this does: %s", want, d.statement)
		}
	}
	if t.Failed() {
		t.Log(strings.Join(found, "\n"))
	}
}

// The clock of the server's machine is set an hour ahead, back, an hour behind, and right.
func clockStepped(t *testing.T) {
	clock := filepath.Join(t.TempDir(), "clock")
	set := func(wrong time.Duration) { must(t, replace(clock, wrong.String())) }
	set(0)
	s := openSite(t, &site{build: steppedBinary, env: []string{"DROVER_FAULT_CLOCK=" + clock}, flags: sqlite.flags})
	l := newLoad(t, "", s)
	for _, wrong := range []time.Duration{time.Hour, 0, -time.Hour, 0} {
		l.busy(enough())
		t.Logf("the clock is set to be wrong by %s", wrong)
		s.at.Load().skew.Store(int64(wrong))
		set(wrong)
	}
	l.busy(enough())
	l.settle()
}

// steppedBinary is drover with a clock that tests can set.
var steppedBinary = sync.OnceValues(func() (string, error) { return build("drover-faults", "faults") })

// replace writes a file so that nobody ever reads half of it.
func replace(path, text string) error {
	return errors.Join(os.WriteFile(path+".new", []byte(text), 0o600), os.Rename(path+".new", path))
}

// database is what servers keep things in.
type database struct {
	url    string   // "" for SQLite
	flags  []string // for servers
	server *envtest.PostgreSQLServer
	proxy  *faulttest.Proxy // between servers and database
}

var sqlite = &database{flags: []string{"--store", "sqlite"}}

// newDatabase starts a PostgreSQL server with a proxy before it.
func newDatabase(t *testing.T) *database { t.Helper(); return databaseIn(t, "", "") }

func databaseIn(t *testing.T, folder, options string) *database {
	t.Helper()
	d := &database{server: envtest.StartPostgreSQL(t, folder, options)}
	var err error
	d.url, err = d.server.NewDatabase()
	must(t, err)
	d.proxy = faulttest.NewProxy(t, "unix", d.server.Socket)
	through, err := envtest.Through(d.url, d.proxy.Addr)
	must(t, err)
	d.flags = []string{"--store", through}
	return d
}

// disk is a small one, in memory.
type disk struct{ path string }

// newDisk mounts a disk. It is gone with the test, which is skipped for those who may not mount.
func newDisk(t *testing.T, megabytes int) *disk {
	t.Helper()
	path, err := os.MkdirTemp("", "drover-disk-") // not t.TempDir: a socket on it has a short name
	must(t, err)
	d := &disk{path}
	t.Cleanup(func() { must(t, os.Remove(path)) })
	if err := syscall.Mount("tmpfs", d.path, "tmpfs", 0, "mode=1777,size="+itoa(megabytes)+"m"); err != nil {
		t.Skipf("needs the right to mount a small disk, as root has it: %v", err)
	}
	t.Cleanup(func() { must(t, syscall.Unmount(d.path, 0)) })
	return d
}

func (d *disk) ballast() string { return filepath.Join(d.path, "ballast") }

// fill leaves no space.
func (d *disk) fill(t *testing.T) {
	t.Helper()
	f, err := os.Create(d.ballast())
	must(t, err)
	for piece := make([]byte, 64<<10); len(piece) > 0; {
		if _, err := f.Write(piece); errors.Is(err, syscall.ENOSPC) {
			piece = piece[:len(piece)/2]
		} else {
			must(t, err)
		}
	}
	must(t, f.Close())
}

func (d *disk) free(t *testing.T) { t.Helper(); must(t, os.Remove(d.ballast())) }

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
