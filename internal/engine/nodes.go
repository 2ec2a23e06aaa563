package engine

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"time"

	"drover/internal/iot"
	"drover/internal/store"
)

// runNodes takes over what dead nodes have not published, as long as there can be others; else once,
// for a database that was moved here.
func (e *Engine) runNodes(ctx context.Context) error {
	if e.shared {
		return loop{name: "nodes", once: e.nodesOnce, rest: e.poll}.run(ctx, e)
	}
	if _, err := e.nodesOnce(ctx); err != nil && ctx.Err() == nil {
		return err
	}
	return nil
}

// Nodes returns the nodes that share the database, this one among them.
func (e *Engine) Nodes(ctx context.Context) (nodes []store.Node, err error) {
	err = e.view(ctx, func(tx store.Reader) (err error) {
		nodes, err = tx.Nodes()
		return err
	})
	return nodes, err
}

// nodesOnce takes over from all nodes that are dead.
func (e *Engine) nodesOnce(ctx context.Context) (more bool, err error) {
	if e.shared {
		e.publisher.look()
	}
	nodes, err := e.Nodes(ctx)
	if err != nil {
		return false, fmt.Errorf("look for dead nodes: %w", err)
	}
	var failed []error
	for _, n := range nodes {
		if n.ID != e.store.Node() && (n.Dead || n.Owner == e.store.Node()) {
			if err := e.inherit(ctx, n); err != nil {
				failed = append(failed, fmt.Errorf("take over from node %d: %w", n.ID, err))
			}
		}
	}
	return false, errors.Join(failed...)
}

// inherit publishes what a dead node has not, and forgets it. What it has published since it last
// saved its position is published again.
func (e *Engine) inherit(ctx context.Context, n store.Node) error {
	told := make(map[noticeKey]bool)
	position, count := n.Published, 0
	published := make(chan struct{})
	for {
		var records []iot.Record
		var noticed map[noticeKey]bool
		mine, last := false, false
		err := e.update(ctx, serviceActor, func(w *work) (err error) {
			if mine, err = w.tx.TakeOver(n.ID); err != nil || !mine {
				return err
			}
			// Here nobody writes: what comes after is told after it.
			if records, err = w.tx.Records(n.ID, position, page); err != nil {
				return err
			}
			noticed = maps.Clone(told)
			if err := currentQueues(w.tx, records, noticed); err != nil {
				return err
			}
			inherited := item{records: records, foreign: true}
			if last = len(records) < page; last {
				inherited.published = published
			}
			w.tx.AfterCommit(func() { e.publisher.put(inherited) })
			return nil
		})
		if err != nil || !mine {
			return err
		}
		count += len(records)
		if last {
			break
		}
		told, position = noticed, records[len(records)-1].ID
	}
	select {
	case <-published:
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	select {
	case <-e.settled():
	case <-time.After(settlePatience):
		return errors.New("what was published is not safe yet; it will be published again")
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	if err := e.update(ctx, serviceActor, func(w *work) error { return w.tx.RemoveNode(n.ID) }); err != nil {
		return err
	}
	if count > 0 || e.shared && n.ID != store.FirstNode {
		e.log.InfoContext(ctx, "took over from a dead node", "node", n.ID, "name", n.Name, "records", count)
	}
	return nil
}

// LastRecord returns the position of the last record of all nodes.
func (e *Engine) LastRecord(ctx context.Context) (last int64, err error) {
	err = e.view(ctx, func(tx store.Reader) (err error) {
		last, err = tx.LastRecord()
		return err
	})
	return last, err
}

// Recall hands publish the records that other nodes, or if own is set all, have committed after a
// position, with the lists of devices as they are now, for clients of this node that may not have
// heard of them. It returns how far it has come, also with an error.
func (e *Engine) Recall(ctx context.Context, after int64, own bool, publish func(context.Context, []iot.Record) error) (int64, error) {
	for {
		var records []iot.Record
		last, more := after, false
		err := e.view(ctx, func(tx store.Reader) error {
			all, err := tx.Records(0, after, page)
			if err != nil {
				return err
			}
			mine := make(map[int64]bool)
			if !own {
				ours, err := tx.Records(e.store.Node(), after, page)
				if err != nil {
					return err
				}
				for _, r := range ours {
					mine[r.ID] = true
				}
			}
			for _, r := range all {
				if last = r.ID; !mine[r.ID] {
					records = append(records, r)
				}
			}
			more = len(all) == page
			return currentQueues(tx, records, map[noticeKey]bool{})
		})
		if err != nil {
			return after, err
		}
		if err := publish(ctx, records); err != nil {
			return after, err
		}
		if after = last; !more {
			return after, nil
		}
	}
}
