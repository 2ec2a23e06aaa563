package sqlstore_test

import (
	"fmt"
	"net/url"
	"path/filepath"
	"sync"
	"testing"

	"github.com/jackc/pgx/v5/pgconn"

	"drover/internal/envtest"
	"drover/internal/store"
	"drover/internal/store/sqlstore"
	"drover/internal/store/storetest"
)

func open(t testing.TB, dir string) *sqlstore.DB {
	t.Helper()
	return openConfig(t, sqlstore.Config{Path: filepath.Join(dir, "drover.db")})
}

func openConfig(t testing.TB, cfg sqlstore.Config) *sqlstore.DB {
	t.Helper()
	d, err := sqlstore.Open(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

func TestSQLite(t *testing.T) {
	t.Parallel()
	storetest.Run(t, func(t *testing.T, dir string) store.Store { return open(t, dir) })
}

func TestPostgreSQL(t *testing.T) {
	t.Parallel()
	schemas := newSchemas(t)
	storetest.Run(t, func(t *testing.T, dir string) store.Store {
		return openConfig(t, sqlstore.Config{URL: schemas.url(t, dir)})
	})
}

// schemas are empty places in one PostgreSQL database: each costs less than a database.
type schemas struct {
	base string

	mu    sync.Mutex
	known map[string]string // URL by folder: a case may open its own again
}

func newSchemas(t testing.TB) *schemas {
	t.Helper()
	return &schemas{base: envtest.PostgreSQL(t), known: make(map[string]string)}
}

func (s *schemas) url(t testing.TB, dir string) string {
	t.Helper()
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.known[dir] == "" {
		name := fmt.Sprintf("schema%d", len(s.known))
		execute(t, s.base, "CREATE SCHEMA "+name)
		u, err := url.Parse(s.base)
		if err != nil {
			t.Fatal(err)
		}
		query := u.Query()
		query.Set("search_path", name)
		u.RawQuery = query.Encode()
		s.known[dir] = u.String()
	}
	return s.known[dir]
}

// execute runs a script on a connection of its own.
func execute(t testing.TB, url, script string) {
	t.Helper()
	c, err := pgconn.Connect(t.Context(), url)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.Exec(t.Context(), script).ReadAll(); err != nil {
		t.Fatal(err)
	}
	if err := c.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
}
