package broker

import "time"

// sendWill publishes the will, if the Handler lets it, now or after its delay;
// never later than the end of the session (spec §2.5).
func (c *Client) sendWill(over bool) {
	b := c.broker
	m := *c.will
	c.willProps.attach(&m, b.cfg.Now())
	if b.cfg.Handler.Publish(c, m) != Route {
		return
	}
	send := func() {
		if !m.Retain || b.retain(m) {
			b.route(m, c.id)
		}
	}
	delay := min(c.willDelay, c.session.keptFor())
	if over || delay == 0 {
		send()
		return
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.closing() {
		return
	}
	var timer *time.Timer
	timer = time.AfterFunc(delay, func() {
		b.mu.Lock()
		due := b.wills[c.id] == timer
		if due {
			delete(b.wills, c.id)
		}
		b.mu.Unlock()
		if due {
			send()
		}
	})
	b.wills[c.id] = timer
}
