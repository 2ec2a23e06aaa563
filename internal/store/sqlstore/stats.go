package sqlstore

import "os"

// Stats is what a DB takes up now.
type Stats struct {
	Bytes, WALBytes int64 // of the SQLite file and its write-ahead log; 0 on PostgreSQL
	Readers, Busy   int   // connections for View, and those in use
}

// Stats asks the file system, and no database.
func (d *DB) Stats() Stats {
	s := Stats{Readers: d.count, Busy: d.count - len(d.readers)}
	if d.path != "" {
		s.Bytes, s.WALBytes = size(d.path), size(d.path+"-wal")
	}
	return s
}

// size returns how many bytes a file has, 0 if it is not there.
func size(path string) int64 {
	info, err := os.Stat(path)
	if err != nil {
		return 0
	}
	return info.Size()
}
