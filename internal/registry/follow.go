package registry

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"drover/internal/store"
)

// Elsewhere is an Identities that also learns of what changes on other nodes. There it may take its time.
type Elsewhere interface {
	Identities
	// KeysChanged is called when another node has changed the API keys or the users of the
	// console. After an error it is called again.
	KeysChanged(ctx context.Context) error
	// EventsChanged is called when another node has changed the event configuration.
	EventsChanged()
}

const (
	followPeriod = time.Second // how late others are told at most
	forgetPeriod = time.Minute
)

// Follow tells to what other nodes change, until ctx ends: within a second, and at once when hurry
// says that there is something; what comes from hurry is called when all that was announced before
// has been told. Follow may be called when nothing is remembered yet, and returns at once if there
// can be no other nodes.
func (r *Registry) Follow(ctx context.Context, to Elsewhere, hurry <-chan func()) {
	if !r.shared {
		return
	}
	ticker := time.NewTicker(followPeriod)
	defer ticker.Stop()
	after, old := r.store.Node(), r.now() // numbers of nodes are from the same sequence
	var waiting []func()
	for {
		select {
		case <-ctx.Done():
			return
		case told := <-hurry:
			waiting = append(waiting, told)
		case <-ticker.C:
		}
		last, err := r.hear(ctx, to, after)
		if err == nil {
			for _, told := range waiting {
				told()
			}
			waiting = nil
		}
		if last > after && r.now().Sub(old) >= forgetPeriod {
			old = r.now()
			err = errors.Join(err, r.store.Update(ctx, store.Tx.ForgetAnnouncements))
		}
		after = last
		if err != nil && ctx.Err() == nil {
			r.log.WarnContext(ctx, "hear what other nodes have changed", "err", err)
		}
	}
}

// hear tells to what was announced after an ID, and returns the last one that needs not be told again.
func (r *Registry) hear(ctx context.Context, to Elsewhere, after int64) (last int64, err error) {
	const page = 1000
	for {
		list, err := view(ctx, r, func(rd store.Reader) ([]store.Announcement, error) { return rd.Announcements(after, page) })
		if err != nil {
			return after, err
		}
		var all news // keys and events once
		last = after
		for _, a := range list {
			last = a.ID
			if a.Node == r.store.Node() {
				continue
			}
			var n news
			if err := json.Unmarshal([]byte(a.Text), &n); err != nil {
				return last, fmt.Errorf("announcement %d of node %d: %w", a.ID, a.Node, err)
			}
			n.tell(to)
			all.Keys, all.Events = all.Keys || n.Keys, all.Events || n.Events
		}
		if all.Events {
			to.EventsChanged()
		}
		if all.Keys {
			if err := to.KeysChanged(ctx); err != nil {
				return after, err
			}
		}
		if after = last; len(list) < page {
			return last, nil
		}
	}
}
