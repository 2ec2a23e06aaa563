package sqlstore

import (
	"cmp"
	"encoding/binary"
	"fmt"
	"slices"
	"time"

	"drover/internal/store"
)

// The subscriptions of a session are one column, since nothing but the whole is ever read
// or written:
//
//	subscriptions = (flags length filter)…
//
// The length is a varint; the flags are the QoS and the two below.
const (
	flagNoLocal           = 1 << 1
	flagRetainAsPublished = 1 << 2
)

func appendSubscriptions(b []byte, list []store.MQTTSubscription) []byte {
	for _, s := range list {
		flags := s.QoS
		if s.NoLocal {
			flags |= flagNoLocal
		}
		if s.RetainAsPublished {
			flags |= flagRetainAsPublished
		}
		b = binary.AppendUvarint(append(b, flags), uint64(len(s.Filter)))
		b = append(b, s.Filter...)
	}
	return b
}

func decodeSubscriptions(body string) (list []store.MQTTSubscription, err error) {
	for len(body) > 0 {
		flags := body[0]
		n, size := binary.Uvarint([]byte(body[1:min(len(body), 1+binary.MaxVarintLen64)]))
		if size <= 0 || n > uint64(len(body)-1-size) || flags > 1|flagNoLocal|flagRetainAsPublished {
			return nil, errCorrupt
		}
		body = body[1+size:]
		list = append(list, store.MQTTSubscription{
			Filter: body[:n], QoS: flags & 1, NoLocal: flags&flagNoLocal != 0, RetainAsPublished: flags&flagRetainAsPublished != 0,
		})
		body = body[n:]
	}
	return list, nil
}

// bytes returns a column of bytes, nil if it is empty.
func (r *row) bytes() []byte {
	if b := r.blob(); b != "" {
		return []byte(b)
	}
	return nil
}

func (r *row) duration() time.Duration { return time.Duration(r.int()) * time.Millisecond }

func (a *args) duration(v time.Duration) { a.int(v.Milliseconds()) }

// MQTT implements store.MQTTReader.
func (r reader) MQTT() (*store.MQTTKept, error) {
	k := &kept{messages: map[int64]bool{}}
	for _, q := range []struct {
		query string
		scan  func(row *row) error
	}{
		{selectSessions, k.session},
		{selectShares, k.group},
		{`SELECT id, topic, payload, qos, retain, expires_at, properties FROM mqtt_messages`, k.message},
		{`SELECT seq, owner_id, message_id, retain, until_at FROM mqtt_entries ORDER BY seq`, k.entry},
		{selectRetained, k.retained},
		{selectWills, k.will},
	} {
		if err := r.c.list(q.query, q.scan); err != nil {
			return nil, err
		}
	}
	return &k.MQTTKept, nil
}

const (
	selectSessions = `SELECT id, client, version, expiry, expires_at, subscriptions FROM mqtt_sessions`
	selectShares   = `SELECT id, filter FROM mqtt_groups`
	selectRetained = `SELECT topic, payload, qos, expires_at, properties, modified_at FROM mqtt_retained`
	selectWills    = `SELECT id, client, topic, payload, qos, retain, properties, life, delay, due_at FROM mqtt_wills`

	sessionElsewhere = selectSessions + ` WHERE client = $1 AND node <> $2`
	willsElsewhere   = selectWills + ` WHERE client = $1 AND node <> $2`
	sessionsOfNode   = selectSessions + ` WHERE node = $1`
	groupsOfNode     = selectShares + ` WHERE node = $1`
	willsOfNode      = selectWills + ` WHERE node = $1`
	entriesOf        = `SELECT seq, owner_id, message_id, retain, until_at FROM mqtt_entries WHERE owner_id = $1 ORDER BY seq`
	messagesOf       = `SELECT m.id, m.topic, m.payload, m.qos, m.retain, m.expires_at, m.properties FROM mqtt_entries e
		JOIN mqtt_messages m ON m.id = e.message_id WHERE e.owner_id = $1`
	mqttNodes = `SELECT DISTINCT node FROM mqtt_sessions UNION SELECT DISTINCT node FROM mqtt_groups UNION SELECT DISTINCT node FROM mqtt_wills`
)

// kept gathers rows.
type kept struct {
	store.MQTTKept
	messages map[int64]bool // by key: one may be found more than once
}

func (k *kept) session(row *row) (err error) {
	s := store.MQTTSession{Key: row.int(), Client: row.text(), Version: byte(row.int()), Expiry: row.duration(), Expires: row.time()}
	if s.Subscriptions, err = decodeSubscriptions(row.blob()); err != nil {
		return fmt.Errorf("sqlstore: subscriptions of client %q: %w", s.Client, err)
	}
	k.Sessions = append(k.Sessions, s)
	return nil
}

func (k *kept) group(row *row) error {
	k.Groups = append(k.Groups, store.MQTTGroup{Key: row.int(), Filter: row.text()})
	return nil
}

func (k *kept) message(row *row) error {
	m := store.MQTTMessage{Key: row.int(), Topic: row.text(), Payload: row.bytes(),
		QoS: byte(row.int()), Retain: row.bool(), Expires: row.time(), Properties: row.text()}
	if !k.messages[m.Key] {
		k.messages[m.Key] = true
		k.Messages = append(k.Messages, m)
	}
	return nil
}

func (k *kept) entry(row *row) error {
	k.Entries = append(k.Entries, store.MQTTEntry{Seq: row.int(), Owner: row.int(), Message: row.int(), Retain: row.bool(), Until: row.time()})
	return nil
}

func (k *kept) retained(row *row) error {
	m := store.MQTTMessage{Topic: row.text(), Payload: row.bytes(), QoS: byte(row.int()), Retain: true, Expires: row.time(), Properties: row.text()}
	k.Retained = append(k.Retained, store.MQTTRetained{Message: m, Modified: row.time()})
	return nil
}

func (k *kept) will(row *row) error {
	w := store.MQTTWill{Key: row.int(), Client: row.text()}
	w.Message = store.MQTTMessage{Topic: row.text(), Payload: row.bytes(), QoS: byte(row.int()), Retain: row.bool(), Properties: row.text()}
	w.Life, w.Delay, w.Due = row.duration(), row.duration(), row.time()
	k.Wills = append(k.Wills, w)
	return nil
}

// MQTTRetained implements store.MQTTReader.
func (r reader) MQTTRetained() ([]store.MQTTRetained, error) {
	k := new(kept)
	err := r.c.list(selectRetained, k.retained)
	return k.Retained, err
}

// MQTTNodes implements store.MQTTReader.
func (r reader) MQTTNodes() (nodes []int64, err error) {
	err = r.c.list(mqttNodes, func(row *row) error {
		nodes = append(nodes, row.int())
		return nil
	})
	slices.Sort(nodes)
	return nodes, err
}

// MQTTElsewhere implements store.MQTTReader.
func (r reader) MQTTElsewhere(node int64, client string) (found bool, err error) {
	k := new(kept)
	err = r.c.list(sessionElsewhere, k.session, client, node)
	if err == nil && len(k.Sessions) == 0 {
		err = r.c.list(willsElsewhere, k.will, client, node)
	}
	return len(k.Sessions)+len(k.Wills) > 0, err
}

// AdoptMQTT implements store.MQTTWriter.
func (t *tx) AdoptMQTT(node int64, client string) (*store.MQTTKept, error) {
	k := &kept{messages: map[int64]bool{}}
	if err := t.c.list(sessionElsewhere, k.session, client, node); err != nil {
		return nil, err
	}
	if err := t.c.list(willsElsewhere, k.will, client, node); err != nil {
		return nil, err
	}
	return &k.MQTTKept, t.adopt(node, k)
}

// ReleaseMQTT implements store.MQTTWriter.
func (t *tx) ReleaseMQTT(node int64) error {
	for _, query := range releaseNode {
		if _, err := t.exec(query, node); err != nil {
			return err
		}
	}
	return nil
}

var releaseNode = []string{
	`UPDATE mqtt_sessions SET node = 0 WHERE node = $1`,
	`UPDATE mqtt_groups SET node = 0 WHERE node = $1`,
	`UPDATE mqtt_wills SET node = 0 WHERE node = $1`,
}

// AdoptMQTTOf implements store.MQTTWriter.
func (t *tx) AdoptMQTTOf(node, former int64) (*store.MQTTKept, error) {
	k := &kept{messages: map[int64]bool{}}
	if err := t.c.list(sessionsOfNode, k.session, former); err != nil {
		return nil, err
	}
	if err := t.c.list(groupsOfNode, k.group, former); err != nil {
		return nil, err
	}
	if err := t.c.list(willsOfNode, k.will, former); err != nil {
		return nil, err
	}
	return &k.MQTTKept, t.adopt(node, k)
}

// adopt makes what has been found the node's, and finds the messages.
func (t *tx) adopt(node int64, k *kept) error {
	var sessions, groups, wills []int64
	for _, s := range k.Sessions {
		sessions = append(sessions, s.Key)
	}
	for _, g := range k.Groups {
		groups = append(groups, g.Key)
	}
	for _, w := range k.Wills {
		wills = append(wills, w.Key)
	}
	owners := slices.Concat(sessions, groups)
	bind := func(i int, a *args) { a.int(owners[i]) }
	if err := t.c.read(entriesOf, len(owners), bind, func(_ int, row *row) error { return k.entry(row) }); err != nil {
		return err
	}
	slices.SortFunc(k.Entries, func(x, y store.MQTTEntry) int { return cmp.Compare(x.Seq, y.Seq) })
	if err := t.c.read(messagesOf, len(owners), bind, func(_ int, row *row) error { return k.message(row) }); err != nil {
		return err
	}
	for _, u := range []struct {
		query string
		keys  []int64
	}{
		{`UPDATE mqtt_sessions SET node = $1 WHERE id = $2`, sessions},
		{`UPDATE mqtt_groups SET node = $1 WHERE id = $2`, groups},
		{`UPDATE mqtt_wills SET node = $1 WHERE id = $2`, wills},
	} {
		err := t.later(u.query, len(u.keys), func(i int, a *args) {
			a.int(node)
			a.int(u.keys[i])
		})
		if err != nil {
			return err
		}
	}
	return t.failing(t.c.flush())
}

// SaveMQTT implements store.MQTTWriter.
func (t *tx) SaveMQTT(c *store.MQTTChanges) error {
	for _, d := range []struct {
		query string
		keys  []int64
		owned bool // by a node, and left alone if that is another
	}{
		{`DELETE FROM mqtt_sessions WHERE id = $1 AND node = $2`, c.EndedSessions, true},
		{`DELETE FROM mqtt_groups WHERE id = $1`, c.EndedGroups, false},
		{`DELETE FROM mqtt_entries WHERE seq = $1`, c.EndedEntries, false},
		{`DELETE FROM mqtt_messages WHERE id = $1`, c.EndedMessages, false},
		{`DELETE FROM mqtt_wills WHERE id = $1 AND node = $2`, c.EndedWills, true},
	} {
		err := t.later(d.query, len(d.keys), func(i int, a *args) {
			if a.int(d.keys[i]); d.owned {
				a.int(c.Node)
			}
		})
		if err != nil {
			return err
		}
	}
	err := t.later(`DELETE FROM mqtt_retained WHERE topic = $1`, len(c.EndedRetained), func(i int, a *args) { a.text(c.EndedRetained[i]) })
	if err != nil {
		return err
	}
	for _, s := range []struct {
		query string
		rows  int
		bind  func(i int, a *args)
	}{
		{`INSERT INTO mqtt_sessions (id, client, version, expiry, expires_at, subscriptions, node) VALUES ($1, $2, $3, $4, $5, $6, $7)
			ON CONFLICT (client) DO UPDATE SET expiry = excluded.expiry, expires_at = excluded.expires_at, subscriptions = excluded.subscriptions
			WHERE mqtt_sessions.id = excluded.id AND mqtt_sessions.node = excluded.node`,
			len(c.Sessions), func(i int, a *args) {
				s := &c.Sessions[i]
				t.buf = appendSubscriptions(t.buf[:0], s.Subscriptions)
				a.int(s.Key)
				a.text(s.Client)
				a.int(int64(s.Version))
				a.duration(s.Expiry)
				a.time(s.Expires)
				a.blob(t.buf)
				a.int(c.Node)
			}},
		{`INSERT INTO mqtt_groups (id, filter, node) VALUES ($1, $2, $3) ON CONFLICT (id) DO UPDATE SET filter = excluded.filter`,
			len(c.Groups), func(i int, a *args) {
				a.int(c.Groups[i].Key)
				a.text(c.Groups[i].Filter)
				a.int(c.Node)
			}},
		{`INSERT INTO mqtt_messages (id, topic, payload, qos, retain, expires_at, properties) VALUES ($1, $2, $3, $4, $5, $6, $7)
			ON CONFLICT (id) DO NOTHING`,
			len(c.Messages), func(i int, a *args) {
				m := &c.Messages[i]
				a.int(m.Key)
				a.text(m.Topic)
				a.blob(m.Payload)
				a.int(int64(m.QoS))
				a.bool(m.Retain)
				a.time(m.Expires)
				a.text(m.Properties)
			}},
		{`INSERT INTO mqtt_entries (seq, owner_id, message_id, retain, until_at) VALUES ($1, $2, $3, $4, $5) ON CONFLICT (seq) DO NOTHING`,
			len(c.Entries), func(i int, a *args) {
				e := &c.Entries[i]
				a.int(e.Seq)
				a.int(e.Owner)
				a.int(e.Message)
				a.bool(e.Retain)
				a.time(e.Until)
			}},
		{`INSERT INTO mqtt_retained (topic, payload, qos, expires_at, properties, modified_at) VALUES ($1, $2, $3, $4, $5, $6)
			ON CONFLICT (topic) DO UPDATE SET payload = excluded.payload, qos = excluded.qos, expires_at = excluded.expires_at,
				properties = excluded.properties, modified_at = excluded.modified_at
			WHERE mqtt_retained.modified_at <= excluded.modified_at`,
			len(c.Retained), func(i int, a *args) {
				r := &c.Retained[i]
				a.text(r.Message.Topic)
				a.blob(r.Message.Payload)
				a.int(int64(r.Message.QoS))
				a.time(r.Message.Expires)
				a.text(r.Message.Properties)
				a.time(r.Modified)
			}},
		{`INSERT INTO mqtt_wills (id, client, topic, payload, qos, retain, properties, life, delay, due_at, node)
			VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11) ON CONFLICT (id) DO UPDATE SET due_at = excluded.due_at, delay = excluded.delay
			WHERE mqtt_wills.node = excluded.node`,
			len(c.Wills), func(i int, a *args) {
				w := &c.Wills[i]
				a.int(w.Key)
				a.text(w.Client)
				a.text(w.Message.Topic)
				a.blob(w.Message.Payload)
				a.int(int64(w.Message.QoS))
				a.bool(w.Message.Retain)
				a.text(w.Message.Properties)
				a.duration(w.Life)
				a.duration(w.Delay)
				a.time(w.Due)
				a.int(c.Node)
			}},
	} {
		if err := t.insertLater(s.query, s.rows, s.bind); err != nil {
			return err
		}
	}
	for _, u := range []struct {
		query string
		keys  []int64
	}{
		{`UPDATE mqtt_sessions SET node = 0 WHERE id = $1 AND node = $2`, c.ReleasedSessions},
		{`UPDATE mqtt_wills SET node = 0 WHERE id = $1 AND node = $2`, c.ReleasedWills},
	} {
		err := t.later(u.query, len(u.keys), func(i int, a *args) {
			a.int(u.keys[i])
			a.int(c.Node)
		})
		if err != nil {
			return err
		}
	}
	return t.failing(t.c.flush())
}
