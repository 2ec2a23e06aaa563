package sqlstore

import (
	"context"
	"embed"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/jackc/pgx/v5/pgconn"
	"zombiezen.com/go/sqlite"
	"zombiezen.com/go/sqlite/sqlitex"
)

// A migration is a file for both databases: NNNN_name.sql, in the SQL that both take, with the
// types INTEGER, TEXT and BLOB, and WITHOUT ROWID where a table has no use for one. Where they
// need different statements it is two files, NNNN_name.sqlite.sql and NNNN_name.postgres.sql.
// A migration is never edited once it has been released.

//go:embed migrations/*.sql
var migrationFiles embed.FS

// application marks our files in their headers (PRAGMA application_id): "drvr".
const application = 0x64727672

// migrations returns the scripts for "sqlite" or "postgres", in order: the n-th takes a database
// from version n to n+1.
func migrations(database string) ([]string, error) {
	files, err := migrationFiles.ReadDir("migrations")
	if err != nil {
		return nil, err
	}
	var scripts []string
	for _, f := range files { // sorted by name
		if only := strings.Split(f.Name(), "."); len(only) == 3 && only[1] != database {
			continue
		}
		// Two with one number would come in the order of what they are called.
		if !strings.HasPrefix(f.Name(), fmt.Sprintf("%04d_", len(scripts)+1)) {
			return nil, fmt.Errorf("migration %s is number %d", f.Name(), len(scripts)+1)
		}
		text, err := migrationFiles.ReadFile("migrations/" + f.Name())
		if err != nil {
			return nil, err
		}
		scripts = append(scripts, string(text))
	}
	return scripts, nil
}

func newer(version, known int64) error {
	return fmt.Errorf("the database has version %d, this program knows versions up to %d: it was used by a newer drover", version, known)
}

// migrate brings a SQLite database to the version of this program, each step in a
// transaction. It refuses a file that is not ours, and one of a newer program.
func migrate(c *sqlite.Conn) error {
	scripts, err := migrations("sqlite")
	if err != nil {
		return err
	}
	version, err := first(c, "PRAGMA user_version")
	if err != nil {
		return err
	}
	id, err := first(c, "PRAGMA application_id")
	if err != nil {
		return err
	}
	tables, err := first(c, "SELECT count(*) FROM sqlite_schema")
	if err != nil {
		return err
	}
	switch {
	case id != application && (id != 0 || version != 0 || tables != 0):
		return errors.New("not a database of drover")
	case version > int64(len(scripts)):
		return newer(version, int64(len(scripts)))
	}
	for i, script := range slices.All(scripts[version:]) {
		n := version + int64(i) + 1
		if err := step(c, n, script); err != nil {
			return fmt.Errorf("migrate to version %d: %w", n, err)
		}
	}
	return nil
}

func step(c *sqlite.Conn, version int64, script string) (err error) {
	end, err := sqlitex.ImmediateTransaction(c)
	if err != nil {
		return err
	}
	defer end(&err)
	script += fmt.Sprintf("\nPRAGMA application_id = %d;\nPRAGMA user_version = %d;", application, version)
	return sqlitex.ExecuteScript(c, script, nil)
}

// words are what PostgreSQL calls otherwise. Numbers have 64 bits, and text is ordered bytewise,
// as everywhere. On CockroachDB it always is, and a column cannot ask for it.
var words = regexp.MustCompile(`\b(INTEGER|BLOB|TEXT)\b| WITHOUT ROWID`)

func postgresScript(script string, cockroach bool) string {
	return words.ReplaceAllStringFunc(script, func(word string) string {
		switch word {
		case "INTEGER":
			return "BIGINT"
		case "BLOB":
			return "BYTEA"
		case "TEXT":
			if cockroach {
				return word
			}
			return `TEXT COLLATE "C"`
		}
		return ""
	})
}

// schemaVersion has one row, which is also the lock that one process migrates under.
const schemaVersion = `CREATE TABLE IF NOT EXISTS schema_version (id BIGINT PRIMARY KEY CHECK (id = 1), version BIGINT NOT NULL);
INSERT INTO schema_version (id, version) VALUES (1, 0) ON CONFLICT (id) DO NOTHING`

// migrateServer brings a PostgreSQL database to the version of this program, each step in a
// transaction, under a lock. Others may work on it meanwhile, and migrate it as well: then there
// is nothing left to do. It refuses one that holds something else, and one of a newer program.
func migrateServer(ctx context.Context, s *server) (err error) {
	scripts, err := migrations("postgres")
	if err != nil {
		return err
	}
	s.version = int64(len(scripts))
	c, err := s.connect(ctx)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, c.Close(ctx)) }()
	if encoding := c.ParameterStatus("server_encoding"); encoding != "" && encoding != "UTF8" {
		return fmt.Errorf("the encoding of the database is %s, and must be UTF8", encoding)
	}
	tables, err := ask(ctx, c, `SELECT count(*) FROM information_schema.tables WHERE table_schema = current_schema() AND table_type = 'BASE TABLE'`)
	if err != nil {
		return err
	}
	ours, err := ask(ctx, c, `SELECT count(*) FROM information_schema.tables WHERE table_schema = current_schema() AND table_name = 'schema_version'`)
	if err != nil {
		return err
	}
	switch {
	case ours == 0 && tables > 0:
		return errors.New("not a database of drover, and not an empty one")
	case ours == 0:
		// Two at a time may both find it absent: the second try of the later one does.
		if err = run(ctx, c, schemaVersion); err != nil {
			err = run(ctx, c, schemaVersion)
		}
		if err != nil {
			return err
		}
	}
	for {
		more, err := stepServer(ctx, c, scripts)
		if err != nil || !more {
			return err
		}
	}
}

// stepServer carries out the next migration and reports whether there was one.
func stepServer(ctx context.Context, c *pgconn.PgConn, scripts []string) (more bool, err error) {
	if err := run(ctx, c, "BEGIN ISOLATION LEVEL READ COMMITTED"); err != nil {
		return false, err
	}
	end := "ROLLBACK"
	defer func() { err = errors.Join(err, run(ctx, c, end)) }()
	version, err := ask(ctx, c, `SELECT version FROM schema_version WHERE id = 1 FOR UPDATE`)
	switch {
	case err != nil:
		return false, err
	case version > int64(len(scripts)):
		return false, newer(version, int64(len(scripts)))
	case version == int64(len(scripts)):
		return false, nil
	}
	script := postgresScript(scripts[version], c.ParameterStatus("crdb_version") != "") + fmt.Sprintf(";\nUPDATE schema_version SET version = %d WHERE id = 1", version+1)
	if err := run(ctx, c, script); err != nil {
		return false, fmt.Errorf("migrate to version %d: %w", version+1, err)
	}
	end = "COMMIT"
	return true, nil
}

// ask reads one number.
func ask(ctx context.Context, c *pgconn.PgConn, query string) (int64, error) {
	results, err := c.Exec(ctx, query).ReadAll()
	if err != nil {
		return 0, err
	}
	if len(results) != 1 || len(results[0].Rows) != 1 {
		return 0, fmt.Errorf("no answer to %s", query)
	}
	return strconv.ParseInt(string(results[0].Rows[0][0]), 10, 64)
}
