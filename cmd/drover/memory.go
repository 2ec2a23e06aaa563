package main

import (
	"context"
	"runtime/debug"
	"runtime/metrics"
	"time"
)

// A storm of connections leaves garbage, and the runtime keeps as much memory again as lives, in case it comes back. A server
// that has nothing to do gives that back to the machine.

const (
	memoryPeriod = 5 * time.Second
	// spareBytes is how much must be to gain: a collection is not free.
	spareBytes = 16 << 20
)

// giveMemoryBack returns memory to the operating system while the server is quiet, until ctx ends.
func giveMemoryBack(ctx context.Context) {
	ticker := time.NewTicker(memoryPeriod)
	defer ticker.Stop()
	before := readMemory()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
		now := readMemory()
		if now.idle(before) {
			debug.FreeOSMemory()
			now = readMemory()
		}
		before = now
	}
}

// memory is what the runtime says of its heap, in bytes.
type memory struct {
	allocated uint64 // ever
	objects   uint64 // in use, garbage included
	live      uint64 // of those, at the end of the last collection
	free      uint64 // kept from the operating system for nothing
}

func readMemory() memory {
	samples := []metrics.Sample{
		{Name: "/gc/heap/allocs:bytes"}, {Name: "/memory/classes/heap/objects:bytes"}, {Name: "/gc/heap/live:bytes"}, {Name: "/memory/classes/heap/free:bytes"},
	}
	metrics.Read(samples)
	return memory{samples[0].Value.Uint64(), samples[1].Value.Uint64(), samples[2].Value.Uint64(), samples[3].Value.Uint64()}
}

// idle reports whether little has been allocated since before, and there is something to give back.
func (m memory) idle(before memory) bool {
	spare := m.free
	if m.objects > m.live {
		spare += m.objects - m.live
	}
	return m.allocated-before.allocated < m.live/20 && spare > max(spareBytes, m.live/4)
}
