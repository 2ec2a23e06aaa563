package main

import "testing"

func TestMemoryIsGivenBackByQuietServers(t *testing.T) {
	const mb = 1 << 20
	quiet := memory{allocated: 1000 * mb, objects: 100 * mb, live: 100 * mb}
	for _, test := range []struct {
		name string
		now  memory
		want bool
	}{
		{"nothing to gain", quiet, false},
		{"garbage", memory{1001 * mb, 180 * mb, 100 * mb, 0}, true},
		{"kept for nothing", memory{1001 * mb, 100 * mb, 100 * mb, 60 * mb}, true},
		{"busy", memory{1100 * mb, 180 * mb, 100 * mb, 60 * mb}, false},
		{"little", memory{1001 * mb, 110 * mb, 100 * mb, 5 * mb}, false},
		{"little of much", memory{1001 * mb, 1100 * mb, 1000 * mb, 50 * mb}, false},
		{"collected since", memory{1001 * mb, 90 * mb, 100 * mb, 0}, false},
	} {
		if got := test.now.idle(quiet); got != test.want {
			t.Errorf("%s: %v", test.name, got)
		}
	}
}
