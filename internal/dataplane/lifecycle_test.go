package dataplane

import (
	"fmt"
	"testing"
	"time"
)

func TestLifecycleEvents(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.at += 123
	c := Connection{ClientID: "dev/1", Session: "s1", Principal: "p", Address: "192.0.2.7"}
	r.p.Connected(c)
	r.event("presence/connected/dev/1", `{"clientId":"dev/1","timestamp":1700000000123,"eventType":"connected","sessionIdentifier":"s1","principalIdentifier":"p","ipAddress":"192.0.2.7","versionNumber":0}`)
	r.p.Subscribed(c, []string{"a/#", "b"})
	r.event("subscriptions/subscribed/dev/1", `{"clientId":"dev/1","timestamp":1700000000123,"eventType":"subscribed","sessionIdentifier":"s1","principalIdentifier":"p","topics":["a/#","b"]}`)
	r.p.Unsubscribed(c, []string{"b"})
	r.event("subscriptions/unsubscribed/dev/1", `{"clientId":"dev/1","timestamp":1700000000123,"eventType":"unsubscribed","sessionIdentifier":"s1","principalIdentifier":"p","topics":["b"]}`)
	r.p.Disconnected(c, "CONNECTION_LOST")
	r.event("presence/disconnected/dev/1", `{"clientId":"dev/1","timestamp":1700000000123,"eventType":"disconnected","sessionIdentifier":"s1","principalIdentifier":"p","clientInitiatedDisconnect":false,"disconnectReason":"CONNECTION_LOST","versionNumber":0}`)

	c.Session = "s2"
	r.p.Connected(c)
	r.take()
	r.p.Disconnected(c, ClientInitiated)
	r.event("presence/disconnected/dev/1", `{"clientId":"dev/1","timestamp":1700000000123,"eventType":"disconnected","sessionIdentifier":"s2","principalIdentifier":"p","clientInitiatedDisconnect":true,"disconnectReason":"CLIENT_INITIATED_DISCONNECT","versionNumber":1}`)
}

func TestNoLifecycleEvents(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	for _, id := range []string{"a#", "+", ""} {
		c := Connection{ClientID: id, Session: "s"}
		r.p.Connected(c)
		r.p.Subscribed(c, []string{"a"})
		r.p.Unsubscribed(c, []string{"a"})
		r.p.Disconnected(c, ClientInitiated)
	}
	r.p.Subscribed(Connection{ClientID: "c"}, nil)
	r.p.Unsubscribed(Connection{ClientID: "c"}, nil)
	r.want()
}

func TestConnectionsAreNumbered(t *testing.T) {
	t.Parallel()
	var p presence
	now := newRig(t).at
	a, b := Connection{ClientID: "c", Session: "a"}, Connection{ClientID: "c", Session: "b"}
	check := func(what string, got, want int64) {
		t.Helper()
		if got != want {
			t.Errorf("%s: version %d, want %d", what, got, want)
		}
	}
	check("first", p.connected(a, now), 0)
	check("displaces the first", p.connected(b, now), 1)
	check("the first ends later", p.disconnected(a, now), 0)
	check("the second ends", p.disconnected(b, now), 1)
	check("back within the hour", p.connected(a, now.Add(time.Hour-1e6)), 2)
	check("leaves again", p.disconnected(a, now.Add(time.Hour)), 2)
	check("back after the hour", p.connected(a, now.Add(2*time.Hour)), 0)
	// An hour counts from the end of the last connection, not of a displaced one.
	check("displaced", p.connected(b, now.Add(3*time.Hour)), 1)
	check("the displaced one ends", p.disconnected(a, now.Add(3*time.Hour)), 0)
	check("displaced while connected", p.connected(a, now.Add(5*time.Hour)), 2)
}

func TestPresenceForgets(t *testing.T) {
	t.Parallel()
	var p presence
	now := newRig(t).at
	for i := range 20_000 {
		c := Connection{ClientID: fmt.Sprint("c", i), Session: fmt.Sprint("s", i)}
		p.connected(c, now)
		p.disconnected(c, now)
		now = now.Add(time.Minute)
	}
	if len(p.last) > 2000 || len(p.live) != 0 {
		t.Errorf("%d clients and %d connections are kept, want about 1000 and 0", len(p.last), len(p.live))
	}
}
