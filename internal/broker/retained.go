package broker

import (
	"cmp"
	"context"
	"slices"
	"time"
)

// retained is the message for those who will subscribe to its topic.
type retained struct {
	message  *Message
	modified time.Time
}

// retain stores a message for those who will subscribe to its topic, or forgets
// the stored one if the payload is empty. ok is false if there is no room.
// e is done only when that is durable. modified is later than that of what was there.
func (b *Broker) retain(m *Message, e *copies) (modified time.Time, ok bool) {
	b.retainedMu.Lock()
	defer b.retainedMu.Unlock()
	old, have := b.retained[m.Topic]
	modified = b.cfg.Now().Truncate(time.Millisecond)
	if have && !modified.After(old.modified) {
		modified = old.modified.Add(time.Millisecond)
	}
	if len(m.Payload) == 0 {
		if have {
			b.retainedBytes -= old.message.size()
			delete(b.retained, m.Topic)
			b.keeper.putRetained(m.Topic, nil, e.waiting())
		}
		return modified, true
	}
	grows, fits := b.retainable(m)
	if !fits {
		b.sweepRetained()
		if grows, fits = b.retainable(m); !fits {
			return modified, false
		}
	}
	b.retainedBytes += grows
	b.retained[m.Topic] = retained{m, modified}
	b.keeper.putRetained(m.Topic, &StoredRetained{*m, modified}, e.waiting())
	return modified, true
}

// retainedElsewhere notes what another node has retained, and has the store keep. Of two the later
// one stands, at all nodes.
func (b *Broker) retainedElsewhere(m *Message, modified time.Time) {
	b.retainedMu.Lock()
	defer b.retainedMu.Unlock()
	old, have := b.retained[m.Topic]
	if have && modified.Before(old.modified) {
		return
	}
	if have {
		b.retainedBytes -= old.message.size()
		delete(b.retained, m.Topic)
	}
	if len(m.Payload) > 0 {
		b.retainedBytes += m.size()
		b.retained[m.Topic] = retained{m, modified}
	}
}

// reloadRetained reads what other nodes may have retained unheard.
func (b *Broker) reloadRetained(ctx context.Context, store SharedStore) error {
	b.keeper.sync(ctx.Done()) // ours is there, too
	began := b.cfg.Now()
	list, err := store.Retained(ctx)
	if err != nil {
		return err
	}
	b.retainedMu.Lock()
	defer b.retainedMu.Unlock()
	kept, bytes := make(map[string]retained, len(list)), 0
	for i := range list {
		v := &list[i]
		kept[v.Message.Topic] = retained{&v.Message, v.Modified}
	}
	for topic, r := range b.retained { // what has come meanwhile
		if !r.modified.Before(began) {
			kept[topic] = r
		}
	}
	for _, r := range kept {
		bytes += r.message.size()
	}
	b.retained, b.retainedBytes = kept, bytes
	return nil
}

// retainable returns by how many bytes the retained messages grow with m, and
// whether there is room for that.
func (b *Broker) retainable(m *Message) (grows int, fits bool) {
	grows = m.size()
	old, have := b.retained[m.Topic]
	if have {
		grows -= old.message.size()
	}
	return grows, (have || len(b.retained) < b.cfg.MaxRetained) && (grows <= 0 || b.retainedBytes+grows <= b.cfg.MaxRetainedBytes)
}

// sweepRetained makes room: it deletes what has expired and nobody has asked for
// since. It looks at most once a second, with the lock held.
func (b *Broker) sweepRetained() {
	now := b.cfg.Now()
	if now.Sub(b.retainedSwept) < time.Second {
		return
	}
	b.retainedSwept = now
	for topic, r := range b.retained {
		if r.message.expired(now) {
			b.retainedBytes -= r.message.size()
			delete(b.retained, topic)
			b.keeper.putRetained(topic, nil, nil)
		}
	}
}

// retainedAt returns the message stored for a topic, or nil.
func (b *Broker) retainedAt(topic string) *retained {
	b.retainedMu.RLock()
	r, have := b.retained[topic]
	b.retainedMu.RUnlock()
	if !have {
		return nil
	}
	if !r.message.expired(b.cfg.Now()) {
		return &r
	}
	b.retainedMu.Lock()
	defer b.retainedMu.Unlock()
	if b.retained[topic] == r {
		b.retainedBytes -= r.message.size()
		delete(b.retained, topic)
		b.keeper.putRetained(topic, nil, nil)
	}
	return nil
}

// Retained is a retained message.
type Retained struct {
	Message  Message
	Modified time.Time // when it was published
}

// RetainedAt returns the retained message of a topic; ok is false if there is none.
func (b *Broker) RetainedAt(topic string) (_ Retained, ok bool) {
	r := b.retainedAt(topic)
	if r == nil {
		return Retained{}, false
	}
	return Retained{*r.message, r.modified}, true
}

// RetainedTopics lists retained messages by topic, at most limit of those after
// a topic ("": from the first). Messages share their payloads with the broker.
func (b *Broker) RetainedTopics(after string, limit int) []Retained {
	now := b.cfg.Now()
	var list []Retained
	b.retainedMu.RLock()
	for topic, r := range b.retained {
		if topic > after && !r.message.expired(now) {
			list = append(list, Retained{*r.message, r.modified})
		}
	}
	b.retainedMu.RUnlock()
	slices.SortFunc(list, func(x, y Retained) int { return cmp.Compare(x.Message.Topic, y.Message.Topic) })
	return list[:min(limit, len(list))]
}
