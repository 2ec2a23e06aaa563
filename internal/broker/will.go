package broker

import "time"

// will is what is published when a connection ends other than by its client's
// leave (spec §2.5).
type will struct {
	stored StoredWill
	timer  *time.Timer // while it is delayed
}

// keepWill makes the client's will outlive the process, until sendWill or
// forgetWill. It reports whether there is anything to wait for.
func (c *Client) keepWill() bool {
	if c.will == nil {
		return false
	}
	w := StoredWill{Key: c.broker.keeper.key(), Client: c.id, Message: *c.will, Delay: c.willDelay}
	if c.willProps.has(propMessageExpiry) {
		w.Life = messageLife(c.willProps.messageExpiry)
	}
	c.willProps.attach(&w.Message, time.Time{})
	w.Message.Expires = time.Time{}
	c.stored = w
	c.broker.keeper.putWill(w)
	return true
}

// sendWill publishes the will, if the Handler lets it, now or after its delay;
// never later than the end of the session.
func (c *Client) sendWill(over bool) {
	b, w := c.broker, c.stored
	if w.Key == 0 {
		return
	}
	if c.will == nil || c.noWill.Load() || !c.maySend(&w.Message) || b.cfg.Handler.Publish(c, w.message(b.cfg.Now())) != Route {
		b.keeper.endWill(w.Key)
		return
	}
	delay := min(w.Delay, c.session.keptFor())
	if over || delay == 0 {
		w.Due = b.cfg.Now()
		b.publishWill(w)
		return
	}
	w.Due = b.cfg.Now().Add(delay)
	b.keeper.putWill(w)
	b.delayWill(w)
}

// message is the will as it is published at the end of the connection.
func (w *StoredWill) message(end time.Time) Message {
	m := w.Message
	if w.Life > 0 {
		m.Expires = end.Add(w.Life)
	}
	return m
}

// delayWill publishes a will when it is due, unless its client comes back first.
func (b *Broker) delayWill(stored StoredWill) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.closing() {
		return
	}
	w := &will{stored: stored}
	w.timer = time.AfterFunc(stored.Due.Sub(b.cfg.Now()), func() {
		b.mu.Lock()
		due := b.wills[stored.Client] == w
		if due {
			delete(b.wills, stored.Client)
		}
		b.mu.Unlock()
		if due {
			b.publishWill(stored)
		}
	})
	b.wills[stored.Client] = w
}

// publishWill publishes a will whose delay has run. It is kept until the message
// is safe.
func (b *Broker) publishWill(w StoredWill) {
	// The message's life counts from the end of the connection (spec §2.5).
	m := w.message(w.Due.Add(-w.Delay))
	b.publish(m, w.Client, func() { b.keeper.endWill(w.Key) })
}

// forgetWill drops the delayed will of a client. It is called with the lock held.
func (b *Broker) forgetWill(client string) {
	if w := b.wills[client]; w != nil {
		w.timer.Stop()
		delete(b.wills, client)
		b.keeper.endWill(w.stored.Key)
	}
}
