package auth

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// at is a Failures with a clock.
type at struct {
	*Failures
	time time.Time
}

func newAt(perSecond int) *at {
	a := &at{time: time.Unix(1_700_000_000, 0)}
	a.Failures = NewFailures(perSecond, func() time.Time { return a.time }, prometheus.NewRegistry())
	return a
}

// looked makes n attempts that fail, and returns how many were looked at.
func (a *at) looked(n int, from netip.Addr, credential string) (looked int) {
	for range n {
		if a.May(BySignature, from, credential) {
			looked++
			a.Failed(BySignature, from)
		}
	}
	return looked
}

var attacker = netip.MustParseAddr("192.0.2.1")

func TestFailuresAreBounded(t *testing.T) {
	t.Parallel()
	a := newAt(10)
	if n := a.looked(1000, attacker, ""); n != 100 {
		t.Errorf("%d at once", n)
	}
	for i := range 50 {
		a.time = a.time.Add(time.Second)
		if n := a.looked(1000, attacker, ""); n != 10 {
			t.Errorf("%d in second %d", n, i)
		}
	}
	// Neither other addresses nor other ways are concerned, and time heals.
	if n := a.looked(1, netip.MustParseAddr("192.0.2.2"), ""); n != 1 || !a.May(ByCertificate, attacker, "") {
		t.Error("somebody else is turned away")
	}
	a.time = a.time.Add(time.Minute)
	if n := a.looked(1000, attacker, ""); n != 100 {
		t.Errorf("%d after a minute", n)
	}
}

// Many attempts that are looked at together, and fail later, do not shut their source out for longer
// than it takes to grow one failure's credit.
func TestFailuresTogether(t *testing.T) {
	t.Parallel()
	a := newAt(10)
	for range 100_000 {
		a.Failed(BySignature, attacker)
	}
	if a.May(BySignature, attacker, "") {
		t.Error("not bounded")
	}
	a.time = a.time.Add(100 * time.Millisecond)
	if !a.May(BySignature, attacker, "") {
		t.Error("shut out")
	}
}

// Who shares an address with somebody that fails all the time gets in: at once with what he has shown
// from there before, and otherwise when he comes again.
func TestFailuresBehindOneAddress(t *testing.T) {
	t.Parallel()
	a := newAt(10)
	a.Succeeded(BySignature, attacker, "mine")
	a.looked(1000, attacker, "")
	if !a.May(BySignature, attacker, "mine") || a.May(BySignature, attacker, "other") {
		t.Error("what has been proven does not count")
	}
	seed := rand.Uint64()
	random := rand.New(rand.NewPCG(seed, 0))
	in := 0
	for range 600 { // a minute, in which an attacker fails 100 times a second
		a.time = a.time.Add(100 * time.Millisecond)
		mine := random.IntN(10)
		for i := range 10 {
			if i == mine && a.May(BySignature, attacker, "new") {
				in++
			}
			a.looked(1, attacker, "")
		}
	}
	if in < 20 || in > 120 { // every tenth of 600 is expected
		t.Errorf("%d of 600 attempts got in, seed %d", in, seed)
	}
}

func TestFailuresOfSources(t *testing.T) {
	t.Parallel()
	a := newAt(1)
	address := func(text string) netip.Addr { return netip.MustParseAddr(text) }
	for _, from := range []netip.Addr{address("127.0.0.1"), address("::1"), address("::ffff:127.0.0.1"), {}} {
		if n := a.looked(50, from, ""); n != 50 {
			t.Errorf("%s: %d", from, n)
		}
	}
	a.looked(50, address("2001:db8::1"), "")
	if a.May(BySignature, address("2001:db8::2"), "") {
		t.Error("another address of one network")
	}
	if !a.May(BySignature, address("2001:db8:0:1::1"), "") {
		t.Error("another network")
	}
	a.looked(50, address("::ffff:192.0.2.9"), "")
	if a.May(BySignature, address("192.0.2.9"), "") {
		t.Error("one address in two forms")
	}
	if f := NewFailures(0, time.Now, nil); !f.May(BySignature, attacker, "") {
		t.Error("nobody is bounded, and somebody is")
	} else {
		f.Failed(BySignature, attacker)
		f.Succeeded(BySignature, attacker, "x")
	}
}

// However many sources fail, the tables keep their size.
func TestFailuresAreForgotten(t *testing.T) {
	t.Parallel()
	a := newAt(10)
	var ip [4]byte
	for i := range maxSources + 5_000 {
		ip[0], ip[1], ip[2], ip[3] = 10, byte(i>>16), byte(i>>8), byte(i)
		a.Failed(BySignature, netip.AddrFrom4(ip))
		a.Succeeded(BySignature, netip.AddrFrom4(ip), fmt.Sprint(i))
	}
	if len(a.owed) > maxSources || len(a.proven) > maxProven {
		t.Errorf("%d sources, %d proofs", len(a.owed), len(a.proven))
	}
	a.looked(200, attacker, "")
	if a.May(BySignature, attacker, "") {
		t.Error("no room for one more")
	}
}

func BenchmarkFailures(b *testing.B) {
	a := newAt(10)
	a.looked(1000, attacker, "")
	b.Run("turned_away", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			a.May(BySignature, attacker, "x")
		}
	})
	b.Run("innocent", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			a.May(BySignature, netip.AddrFrom4([4]byte{192, 0, 2, 77}), "x")
			a.Succeeded(BySignature, netip.AddrFrom4([4]byte{192, 0, 2, 77}), "x")
		}
	})
}
