package envtest

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"io"
	"net/url"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
)

// PostgreSQL returns the URL of an empty database of its own, on a server that this process starts
// for the first that asks. The server listens on a Unix socket only, runs as a user without
// privileges, and is gone with all its files when the process ends, however that ends. The test
// is skipped if PostgreSQL is not installed.
func PostgreSQL(t testing.TB) string {
	t.Helper()
	url, err := NewPostgreSQL()
	if errors.Is(err, ErrNoPostgreSQL) {
		t.Skip(err)
	}
	if err != nil {
		t.Fatal(err)
	}
	return url
}

// ErrNoPostgreSQL says that PostgreSQL is not installed.
var ErrNoPostgreSQL = errors.New("needs PostgreSQL: run scripts/setup-tests.sh (no initdb in the path or in " + postgresBins + ")")

// NewPostgreSQL is PostgreSQL for what has no test. ErrNoPostgreSQL.
func NewPostgreSQL() (url string, err error) {
	if postgresBin() == "" {
		return "", ErrNoPostgreSQL
	}
	s, err := postgres()
	if err != nil {
		return "", fmt.Errorf("start PostgreSQL: %w", err)
	}
	return s.NewDatabase()
}

const (
	postgresBins     = "/usr/lib/postgresql/*/bin" // of Debian, by version
	postgresUser     = "drover"
	postgresPassword = "p@ss/word" // which a URL has to encode
)

// postgresBin returns the folder of the server's programs, "" if there is none.
func postgresBin() string {
	if path, err := exec.LookPath("initdb"); err == nil {
		return filepath.Dir(path)
	}
	found, err := filepath.Glob(filepath.Join(postgresBins, "initdb"))
	if err != nil || len(found) == 0 {
		return ""
	}
	return filepath.Dir(found[len(found)-1])
}

// A PostgreSQLServer is a server that a test has for itself and may kill.
type PostgreSQLServer struct {
	// Socket is the Unix socket that it listens on, and on nothing else.
	Socket string

	bin, dir  string
	databases atomic.Int64
	shell     *exec.Cmd
	orders    io.WriteCloser // to the shell; the server ends when this closes, as it does with the process
}

var postgres = sync.OnceValues(func() (*PostgreSQLServer, error) { return startPostgres("", "") })

// StartPostgreSQL starts a server with its files in the folder, or if that is empty in one of its
// own. It ends with the test, which is skipped if PostgreSQL is not installed. Options are flags
// of the server, such as "-c max_wal_size=32MB".
func StartPostgreSQL(t testing.TB, folder, options string) *PostgreSQLServer {
	t.Helper()
	if postgresBin() == "" {
		t.Skip(ErrNoPostgreSQL)
	}
	s, err := startPostgres(folder, options)
	if err != nil {
		t.Fatalf("start PostgreSQL: %v", err)
	}
	t.Cleanup(func() {
		if err := errors.Join(s.orders.Close(), s.shell.Wait()); err != nil {
			t.Errorf("stop PostgreSQL: %v", err)
		}
	})
	return s
}

// NewDatabase makes an empty database and returns its URL.
func (s *PostgreSQLServer) NewDatabase() (url string, err error) {
	name := fmt.Sprintf("test%d", s.databases.Add(1))
	return s.url(name), s.psql("CREATE DATABASE " + name)
}

// Through returns the URL of a database with another address, host:port, instead of the socket.
func Through(databaseURL, addr string) (string, error) {
	u, err := url.Parse(databaseURL)
	if err != nil {
		return "", err
	}
	u.Host, u.RawQuery = addr, "sslmode=disable"
	return u.String(), nil
}

// Kill ends the server as a power cut would.
func (s *PostgreSQLServer) Kill() error {
	pid, err := s.pid()
	if err != nil {
		return err
	}
	return syscall.Kill(pid, syscall.SIGKILL) // the processes of its connections notice, and end
}

func (s *PostgreSQLServer) pid() (int, error) {
	text, err := os.ReadFile(filepath.Join(s.dir, "data", "postmaster.pid"))
	if err != nil {
		return 0, err
	}
	line, _, _ := strings.Cut(string(text), "\n")
	return strconv.Atoi(line)
}

// Start starts the server again that has been killed, or has ended, and returns when it answers.
func (s *PostgreSQLServer) Start() error {
	deadline := time.Now().Add(time.Minute)
	for {
		if _, err := io.WriteString(s.orders, "start\n"); err != nil {
			return err
		}
		// While processes of the old one are left the new one does not start.
		for again := time.Now().Add(time.Second); time.Now().Before(again); <-time.After(50 * time.Millisecond) {
			err := s.psql("SELECT 1")
			if err == nil {
				return nil
			}
			if time.Now().After(deadline) {
				log, _ := os.ReadFile(filepath.Join(s.dir, "log")) // which may not be there
				return fmt.Errorf("%w: %s", err, log)
			}
		}
	}
}

// startPostgres makes a cluster of databases and starts its server. What sorts text there is not
// what sorts it bytewise, so that tests can tell.
func startPostgres(folder, options string) (_ *PostgreSQLServer, err error) {
	s := &PostgreSQLServer{bin: postgresBin()}
	attr, home := new(syscall.SysProcAttr), folder
	if os.Getuid() == 0 { // which PostgreSQL refuses to run as
		home = cmp.Or(folder, "/tmp") // where everybody may look
		nobody, err := user.Lookup("nobody")
		if err != nil {
			return nil, err
		}
		uid, e1 := strconv.ParseUint(nobody.Uid, 10, 32)
		gid, e2 := strconv.ParseUint(nobody.Gid, 10, 32)
		if err := errors.Join(e1, e2); err != nil {
			return nil, err
		}
		attr.Credential = &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}
	}
	if s.dir, err = os.MkdirTemp(home, "drover-pg-"); err != nil {
		return nil, err
	}
	s.Socket = filepath.Join(s.dir, ".s.PGSQL.5432")
	if attr.Credential != nil {
		if err := os.Chown(s.dir, int(attr.Credential.Uid), int(attr.Credential.Gid)); err != nil {
			return nil, err
		}
	}
	attr.Setpgid = true // signals to the tests are not for the server
	// The shell outlives the tests for as long as it takes to stop the server and to clean up.
	const script = `
		umask 077
		cd "$2" && printf %s "$4" >password && : >log &&
		"$1/initdb" -D data -U "$3" --pwfile=password -A scram-sha-256 --no-sync -E UTF8 --locale=C.UTF-8 \
			--locale-provider=icu --icu-locale=en-US >log 2>&1
		while read -r order; do # each is to start it
			"$1/postgres" -D data -k "$2" -c listen_addresses= -c max_connections=300 -c fsync=on $5 >>log 2>&1 &
		done
		kill -QUIT $(head -n 1 data/postmaster.pid) 2>/dev/null
		wait
		rm -rf "$2"`
	cmd := exec.Command("/bin/sh", "-c", script, "sh", s.bin, s.dir, postgresUser, postgresPassword, options)
	cmd.Env = append(os.Environ(), "LC_ALL=C", "HOME="+s.dir)
	cmd.Dir, cmd.SysProcAttr = "/", attr
	if s.orders, err = cmd.StdinPipe(); err != nil {
		return nil, err
	}
	s.shell = cmd
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	if err := s.Start(); err != nil {
		return nil, errors.Join(err, s.orders.Close())
	}
	return s, nil
}

func (s *PostgreSQLServer) url(database string) string {
	return "postgres://" + url.UserPassword(postgresUser, postgresPassword).String() + "@/" + database + "?host=" + url.QueryEscape(s.dir)
}

// PostgreSQLTool returns the path of a program that comes with PostgreSQL, such as pg_dump.
func PostgreSQLTool(name string) string {
	path := filepath.Join(postgresBin(), name)
	if _, err := os.Stat(path); err != nil {
		return name // some packages have it elsewhere
	}
	return path
}

// psql runs a statement.
func (s *PostgreSQLServer) psql(statement string) error {
	_, err := psql(s.url("postgres"), statement)
	return err
}

// Execute runs a statement on a database of PostgreSQL's, which the program under test would not do, and
// returns what it says, without decoration.
func Execute(t testing.TB, url, statement string) string {
	t.Helper()
	text, err := psql(url, statement)
	if err != nil {
		t.Fatal(err)
	}
	return text
}

func psql(url, statement string) (string, error) {
	cmd := exec.Command(PostgreSQLTool("psql"), "-qXAt", "-v", "ON_ERROR_STOP=1", "-c", statement, url)
	var out, problem bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &problem
	if err := cmd.Run(); err != nil {
		return "", fmt.Errorf("psql: %w: %s", err, strings.TrimSpace(problem.String()))
	}
	return strings.TrimSpace(out.String()), nil
}
