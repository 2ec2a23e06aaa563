package sqlstore

import (
	"embed"
	"errors"
	"fmt"
	"slices"
	"strings"

	"zombiezen.com/go/sqlite"
	"zombiezen.com/go/sqlite/sqlitex"
)

//go:embed migrations/*.sql
var migrationFiles embed.FS

// application marks our files in their headers (PRAGMA application_id): "drvr".
const application = 0x64727672

// migrations returns the scripts, in order: the n-th takes a database from version n to n+1.
func migrations() ([]string, error) {
	files, err := migrationFiles.ReadDir("migrations")
	if err != nil {
		return nil, err
	}
	var scripts []string
	for i, f := range files { // sorted by name
		// Two with one number would come in the order of what they are called.
		if !strings.HasPrefix(f.Name(), fmt.Sprintf("%04d_", i+1)) {
			return nil, fmt.Errorf("migration %s is number %d", f.Name(), i+1)
		}
		text, err := migrationFiles.ReadFile("migrations/" + f.Name())
		if err != nil {
			return nil, err
		}
		scripts = append(scripts, string(text))
	}
	return scripts, nil
}

// migrate brings the database to the version of this program, each step in a
// transaction. It refuses a file that is not ours, and one of a newer program.
func migrate(c *sqlite.Conn) error {
	scripts, err := migrations()
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
		return fmt.Errorf("the database has version %d, this program knows versions up to %d: it was used by a newer drover", version, len(scripts))
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
