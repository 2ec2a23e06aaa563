package engine

import (
	"testing"
	"testing/synctest"
)

// What is put with more to come waits for the rest, but not for ever: a full inbox does
// not wait for somebody to ring.
func TestInboxGathers(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := newInbox(10, 3)
		sizes := make(chan int, 9)
		go func() {
			for batch := b.take(); batch != nil; batch = b.take() {
				sizes <- len(batch)
			}
			close(sizes)
		}()
		synctest.Wait()
		b.put(new(ask), true)
		b.put(new(ask), true)
		synctest.Wait()
		if len(sizes) > 0 {
			t.Error("a batch began before ring")
		}
		b.ring()
		if got := <-sizes; got != 2 {
			t.Errorf("a batch of %d, want 2", got)
		}
		for range 4 {
			b.put(new(ask), true) // the fourth finds no room
		}
		if got := <-sizes; got != 3 {
			t.Errorf("a batch of %d, want 3", got)
		}
		b.close()
		if got := <-sizes; got != 1 {
			t.Errorf("a batch of %d at the end, want 1", got)
		}
	})
}
