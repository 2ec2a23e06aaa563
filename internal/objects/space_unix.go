//go:build linux || darwin || freebsd

package objects

import "golang.org/x/sys/unix"

// freeSpace returns how many bytes of the disk that holds a folder are free for us.
func freeSpace(dir string) (int64, error) {
	var s unix.Statfs_t
	if err := unix.Statfs(dir, &s); err != nil {
		return 0, err
	}
	return int64(s.Bavail) * int64(s.Bsize), nil
}
