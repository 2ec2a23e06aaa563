package envtest

import (
	"bytes"
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
	name := fmt.Sprintf("test%d", s.databases.Add(1))
	return s.url(name), s.psql("CREATE DATABASE " + name)
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

type postgresServer struct {
	bin, dir  string
	databases atomic.Int64
	alive     io.Closer // the server ends when this closes, as it does with the process
}

var postgres = sync.OnceValues(startPostgres)

// startPostgres makes a cluster of databases and starts its server. What sorts text there is not
// what sorts it bytewise, so that tests can tell.
func startPostgres() (_ *postgresServer, err error) {
	s := &postgresServer{bin: postgresBin()}
	attr, home := new(syscall.SysProcAttr), ""
	if os.Getuid() == 0 { // which PostgreSQL refuses to run as
		home = "/tmp" // where everybody may look
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
	if attr.Credential != nil {
		if err := os.Chown(s.dir, int(attr.Credential.Uid), int(attr.Credential.Gid)); err != nil {
			return nil, err
		}
	}
	attr.Setpgid = true // signals to the tests are not for the server
	// The shell outlives the tests for as long as it takes to stop the server and to clean up.
	const script = `
		umask 077
		cd "$2" && printf %s "$4" >password &&
		"$1/initdb" -D data -U "$3" --pwfile=password -A scram-sha-256 --no-sync -E UTF8 --locale=C.UTF-8 \
			--locale-provider=icu --icu-locale=en-US >log 2>&1 &&
		{ "$1/postgres" -D data -k "$2" -c listen_addresses= -c max_connections=300 -c fsync=on >>log 2>&1 & } &&
		server=$! && cat >/dev/null
		kill -QUIT $server 2>/dev/null && wait $server
		rm -rf "$2"`
	cmd := exec.Command("/bin/sh", "-c", script, "sh", s.bin, s.dir, postgresUser, postgresPassword)
	cmd.Env = append(os.Environ(), "LC_ALL=C", "HOME="+s.dir)
	cmd.Dir, cmd.SysProcAttr = "/", attr
	stdin, err := cmd.StdinPipe()
	if err != nil {
		return nil, err
	}
	s.alive = stdin
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	go func() { _ = cmd.Wait() }() // it is there until this process ends, or the next call says what is wrong
	deadline := time.Now().Add(time.Minute)
	for {
		if err = s.psql("SELECT 1"); err == nil {
			return s, nil
		}
		if time.Now().After(deadline) {
			log, _ := os.ReadFile(filepath.Join(s.dir, "log")) // which may not be there
			return nil, errors.Join(fmt.Errorf("%w: %s", err, log), s.alive.Close())
		}
		<-time.After(50 * time.Millisecond)
	}
}

func (s *postgresServer) url(database string) string {
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
func (s *postgresServer) psql(statement string) error { return psql(s.url("postgres"), statement) }

// Execute runs a statement on a database of PostgreSQL's: what the program under test would not do.
func Execute(t testing.TB, url, statement string) {
	t.Helper()
	if err := psql(url, statement); err != nil {
		t.Fatal(err)
	}
}

func psql(url, statement string) error {
	cmd := exec.Command(PostgreSQLTool("psql"), "-qX", "-v", "ON_ERROR_STOP=1", "-c", statement, url)
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = io.Discard, &out
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("psql: %w: %s", err, strings.TrimSpace(out.String()))
	}
	return nil
}
