package sqlstore_test

import (
	"path/filepath"
	"testing"

	"drover/internal/store"
	"drover/internal/store/sqlstore"
	"drover/internal/store/storetest"
)

func open(t testing.TB, dir string) *sqlstore.DB {
	t.Helper()
	d, err := sqlstore.Open(t.Context(), sqlstore.Config{Path: filepath.Join(dir, "drover.db")})
	if err != nil {
		t.Fatal(err)
	}
	return d
}

func TestSQLite(t *testing.T) {
	t.Parallel()
	storetest.Run(t, func(t *testing.T, dir string) store.Store { return open(t, dir) })
}
