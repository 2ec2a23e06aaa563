package registry

import (
	"cmp"
	"context"
	"maps"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"drover/internal/iot"
	"drover/internal/store"
)

// Connections in the fleet index (registry spec §5.4): of clients that have the names of things. What
// the broker tells is written down a moment later, many at a time; that devices come and go waits
// for nothing.

const (
	connectionsPause  = 100 * time.Millisecond // between two transactions, so that they have something to write
	connectionsPeriod = 5 * time.Second        // between two looks for nodes that have gone
	connectionsChunk  = 250
)

// endOfNode is why a connection ended whose node has.
const endOfNode = "SERVER_INITIATED_DISCONNECT"

// Clients knows who is connected to this node.
type Clients interface {
	// Present gives every client to f: its id, the session, which no other connection has, and since when.
	Present(f func(clientID, session string, since iot.Time))
	// PresentClient returns the same of one; false if it is not connected.
	PresentClient(clientID string) (session string, since iot.Time, ok bool)
}

// connections are those of this node that are to be written down.
type connections struct {
	on      atomic.Bool // connections are indexed
	mu      sync.Mutex
	clients Clients
	pending map[string]iot.Connection // by client id, the latest of each
	hint    chan struct{}
}

// ClientConnected tells that a client has connected to this node.
func (r *Registry) ClientConnected(clientID, session string) {
	if r.connections.on.Load() {
		r.connections.note(clientID, iot.Connection{Session: session, Connected: true, At: iot.At(r.now())})
	}
}

// ClientDisconnected tells that a connection of a client to this node has ended.
func (r *Registry) ClientDisconnected(clientID, session, reason string) {
	if r.connections.on.Load() {
		r.connections.note(clientID, iot.Connection{Session: session, At: iot.At(r.now()), Reason: reason})
	}
}

func (c *connections) note(clientID string, now iot.Connection) {
	c.mu.Lock()
	defer c.mu.Unlock()
	// A connection that was displaced ends after its successor has begun.
	if last, ok := c.pending[clientID]; ok && !now.Connected && last.Connected && last.Session != now.Session {
		return
	}
	if c.pending == nil {
		c.pending = make(map[string]iot.Connection)
	}
	c.pending[clientID] = now
	hintTo(c.hint)
}

// lookFor notes the connections of things that have got their names while the clients were connected. It is
// called after a commit.
func (c *connections) lookFor(names []iot.ThingName) {
	c.mu.Lock()
	clients := c.clients
	c.mu.Unlock()
	for _, name := range names {
		if session, since, ok := clients.PresentClient(string(name)); ok {
			c.note(string(name), iot.Connection{Session: session, Connected: true, At: since})
		}
	}
}

// take returns some of what is pending.
func (c *connections) take() map[string]iot.Connection {
	c.mu.Lock()
	defer c.mu.Unlock()
	some := make(map[string]iot.Connection, min(len(c.pending), connectionsChunk))
	for id, change := range c.pending {
		if len(some) == connectionsChunk {
			break
		}
		some[id] = change
		delete(c.pending, id)
	}
	return some
}

// KeepConnections writes down who connects and disconnects, as long as that is indexed, until ctx
// ends.
func (r *Registry) KeepConnections(ctx context.Context, clients Clients) {
	r.connections.mu.Lock()
	r.connections.clients = clients
	r.connections.mu.Unlock()
	ticker := time.NewTicker(connectionsPeriod)
	defer ticker.Stop()
	for {
		if err := r.keepConnections(ctx, clients); err != nil && ctx.Err() == nil {
			r.log.WarnContext(ctx, "note who is connected", "err", err)
		}
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		case <-r.connections.hint:
			select {
			case <-ctx.Done():
				return
			case <-time.After(connectionsPause):
			}
		}
	}
}

func (r *Registry) keepConnections(ctx context.Context, clients Clients) error {
	state, err := r.Indexing(ctx)
	if err != nil {
		return err
	}
	if !state.Things.Connectivity {
		r.connections.on.Store(false)
		for len(r.connections.take()) > 0 {
		}
		return nil
	}
	// What is said of this node was said by a former process, or before connections were not indexed for a while.
	begins := !r.connections.on.Load()
	if err := r.endStale(ctx, begins); err != nil {
		return err
	}
	if begins {
		r.connections.on.Store(true) // from here on nothing is missed
		clients.Present(func(clientID, session string, since iot.Time) {
			r.connections.note(clientID, iot.Connection{Session: session, Connected: true, At: since})
		})
	}
	for {
		some := r.connections.take()
		if len(some) == 0 {
			return nil
		}
		if err := r.saveConnections(ctx, some); err != nil {
			for id, change := range some { // again, unless there is news
				r.connections.mu.Lock()
				if _, newer := r.connections.pending[id]; !newer {
					r.connections.pending[id] = change
				}
				r.connections.mu.Unlock()
			}
			return err
		}
	}
}

// saveConnections writes connections down, of those clients that have the name of a thing.
func (r *Registry) saveConnections(ctx context.Context, changes map[string]iot.Connection) error {
	return r.update(ctx, keeper, func(c *change) error {
		names := make([]iot.ThingName, 0, len(changes))
		for _, id := range slices.Sorted(maps.Keys(changes)) {
			if name := iot.ThingName(id); name.Valid() {
				names = append(names, name)
			}
		}
		things, err := c.ThingsByName(names)
		if err != nil {
			return err
		}
		ids := make([]int64, 0, len(things))
		for _, t := range things {
			ids = append(ids, t.ID)
		}
		before, err := c.Connections(ids)
		if err != nil {
			return err
		}
		var list []iot.Connection
		for name, t := range things {
			now := changes[string(name)]
			now.ThingID, now.Node = t.ID, r.store.Node()
			if was, ok := before[t.ID]; ok && outdated(was, now) {
				continue
			}
			list = append(list, now)
			c.touched.things = append(c.touched.things, name)
		}
		slices.SortFunc(list, func(a, b iot.Connection) int { return cmp.Compare(a.ThingID, b.ThingID) })
		return c.SaveConnections(list)
	})
}

// outdated reports whether another connection, perhaps to another node, has come after now.
func outdated(was, now iot.Connection) bool {
	switch {
	case was.Session == now.Session: // of one node, which tells in order
		return false
	case now.Connected:
		return was.Connected && was.At > now.At
	}
	return true // the end of one that has a successor
}

// endStale ends the connections to nodes that are no more, and to this one if it begins.
func (r *Registry) endStale(ctx context.Context, begins bool) error {
	var gone []int64
	err := r.store.View(ctx, func(rd store.Reader) error {
		nodes, err := rd.ConnectedNodes()
		if err != nil || len(nodes) == 0 {
			return err
		}
		alive, err := rd.Nodes()
		if err != nil {
			return err
		}
		for _, id := range nodes {
			living := slices.ContainsFunc(alive, func(n store.Node) bool { return n.ID == id && n.Owner == id && !n.Dead })
			if !living || begins && id == r.store.Node() {
				gone = append(gone, id)
			}
		}
		return nil
	})
	if err != nil {
		return err
	}
	for _, node := range gone {
		for more := true; more; {
			err := r.update(ctx, keeper, func(c *change) error {
				list, err := c.ConnectedTo(node, connectionsChunk)
				if err != nil {
					return err
				}
				more = len(list) == connectionsChunk
				ids := make([]int64, len(list))
				for i := range list {
					ids[i] = list[i].ThingID
					list[i].Connected, list[i].At, list[i].Reason = false, c.now, endOfNode
				}
				things, err := c.ThingsByID(ids)
				if err != nil {
					return err
				}
				for _, t := range things {
					c.touched.things = append(c.touched.things, t.Name)
				}
				return c.SaveConnections(list)
			})
			if err != nil {
				return err
			}
		}
	}
	return nil
}

// Connection returns the last connection of the client that has the name of a thing; false if it has
// never connected. NotFound for an unknown thing; IndexNotReady if connections are not indexed.
func (r *Registry) Connection(ctx context.Context, name iot.ThingName) (last iot.Connection, ever bool, err error) {
	err = r.store.View(ctx, func(rd store.Reader) error {
		thing, err := thingByName(rd, name)
		if err != nil {
			return err
		}
		state, err := rd.IndexState()
		if err != nil {
			return err
		}
		if !state.Things.Connectivity {
			return iot.Errorf(iot.IndexNotReady, "The connectivity of things is not indexed")
		}
		found, err := rd.Connections([]int64{thing.ID})
		last, ever = found[thing.ID]
		return err
	})
	return last, ever, err
}
