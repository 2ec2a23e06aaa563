package broker

import "time"

// will is what is published when a connection ends other than by its client's
// leave (spec §2.5).
type will struct {
	stored StoredWill
	timer  *time.Timer // while it is delayed
}

func newWill(client string, hello *connect) *StoredWill {
	w := &StoredWill{Client: client, Message: *hello.will, Delay: hello.willDelay}
	hello.willProps.attach(&w.Message, time.Time{})
	w.Message.Expires = time.Time{}
	if hello.willProps.has(propMessageExpiry) {
		w.Life = messageLife(hello.willProps.messageExpiry)
	}
	return w
}

// keepWill makes the client's will outlive the process, until sendWill or
// forgetWill, and returns when it does.
func (c *Client) keepWill() {
	if c.will == nil {
		return
	}
	k := c.broker.keeper
	c.will.Key = k.key()
	k.putWill(*c.will)
	k.sync(c.broker.closed)
}

func (c *Client) forgetWill() {
	if c.will != nil {
		c.broker.keeper.endWill(c.will.Key)
	}
}

// sendWill publishes the will, if the Handler lets it, now or after its delay;
// never later than the end of the session.
func (c *Client) sendWill(over bool) {
	if c.will == nil {
		return
	}
	b, w := c.broker, *c.will
	if c.noWill.Load() || !c.maySend(&w.Message) || b.cfg.Handler.Publish(c, w.message(b.cfg.Now())) != Route {
		c.forgetWill()
		return
	}
	w.Delay = min(w.Delay, c.session.keptFor())
	if over {
		w.Delay = 0
	}
	w.Due = b.cfg.Now().Add(w.Delay)
	if w.Delay == 0 {
		b.publishWill(w)
		return
	}
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

// delayWill publishes a will when it is due, unless its client comes back first: to its
// session, when it is not published, or to another, with which that ends, and it is at once.
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
	b.publish(m, w.Client, b.keeper.tellWill(w.Client, w.Key))
}

// takeWill returns the delayed will of a client, nil if there is none; it is not going to be
// published by itself any more. It is called with the lock held.
func (b *Broker) takeWill(client string) *StoredWill {
	w := b.wills[client]
	if w == nil {
		return nil
	}
	w.timer.Stop()
	delete(b.wills, client)
	return &w.stored
}

// forgetWill drops the delayed will of a client. It is called with the lock held.
func (b *Broker) forgetWill(client string) {
	if w := b.takeWill(client); w != nil {
		b.keeper.endWill(w.Key)
	}
}
