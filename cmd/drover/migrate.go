package main

import (
	"context"
	"errors"
	"log/slog"
	"path/filepath"
	"time"

	"drover/internal/store/sqlstore"
)

type migrateCmd struct {
	From string `required:"" help:"Where everything is: the data folder of a server with SQLite, or the URL of a PostgreSQL database." placeholder:"DIR|URL"`
	To   string `required:"" help:"Where it shall be, in the same forms: an empty database, or a data folder without one." placeholder:"DIR|URL"`
}

func (c *migrateCmd) Run(ctx context.Context, s *streams) error {
	began, all := time.Now(), 0
	log := slog.New(slog.NewTextHandler(s.err, &slog.HandlerOptions{Level: slog.LevelWarn}))
	from, err := database(c.From, log)
	if err != nil {
		return err
	}
	to, err := database(c.To, log)
	if err != nil {
		return err
	}
	err = sqlstore.Move(ctx, from, to, func(table string, rows int) {
		if rows > 0 {
			say(s.err, "%10d  %s\n", rows, table)
		}
		all += rows
	})
	if err != nil {
		return err
	}
	say(s.out, "%d rows in %s, compared row by row\n", all, time.Since(began).Round(time.Millisecond))
	return nil
}

// database is what a URL or a data folder means.
func database(place string, log *slog.Logger) (sqlstore.Config, error) {
	cfg := sqlstore.Config{Logger: log}
	switch {
	case isPostgres(place):
		cfg.URL = place
		return cfg, sqlstore.CheckURL(place)
	case place == "":
		return cfg, errors.New("--from, --to: a folder, or a URL that begins with postgres://")
	}
	cfg.Path = filepath.Join(place, databaseFile)
	return cfg, nil
}
