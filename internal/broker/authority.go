package broker

import (
	"context"
	"errors"
	"net"
	"net/http"
	"strings"
	"sync"
)

// Authenticator decides who may connect. A broker without one takes everybody.
type Authenticator interface {
	// Authenticate is called with every CONNECT that keeps the rules, on a goroutine of its
	// connection, before an older connection of the client id is touched. It may wait, for
	// at most Config.ConnectTimeout, when ctx ends.
	//
	// The error says how the client is refused: ErrBadCredentials, ErrUnavailable, and any
	// other one, which is kept from the client, as not authorized.
	Authenticate(ctx context.Context, l Login) (Identity, error)
}

type anybody struct{}

func (anybody) Authenticate(context.Context, Login) (Identity, error) { return Identity{}, nil }

// Refusals of an Authenticator.
var (
	// ErrBadCredentials: user name and password are wrong (CONNACK 4, 0x86).
	ErrBadCredentials = errors.New("broker: bad user name or password")
	// ErrUnavailable: nobody can tell now (CONNACK 3, 0x88).
	ErrUnavailable = errors.New("broker: authentication is not available")
)

// Login is what a client says of itself in its CONNECT.
type Login struct {
	ClientID   string // generated, if the client gave none
	Version    byte   // 4 or 5
	Username   string
	Password   []byte // nil if there is none
	Will       *Message
	Persistent bool     // the client asks for a session that outlives the connection
	Conn       net.Conn // as its listener accepted it
	// Request is the handshake of a WebSocket, with its URL, headers and TLS state; nil
	// for any other connection.
	Request *http.Request
}

// Identity is who a client is, in its owner's words.
type Identity struct {
	Principal string // for events and logs
	Value     any    // what the owner wants to find again
}

// Action is what a client wants to do with a topic.
type Action byte

const (
	MayPublish   Action = iota
	MayRetain           // besides MayPublish
	MaySubscribe        // to a filter, as the client says it
	MayReceive
)

// Authorizer decides what a client may do. A broker without one allows everything that
// its Handler does.
//
// An answer is kept for the connection, for a second at most, because it may depend on the
// time, or until it is taken back with Client.Reconsider or Broker.Reconsider.
type Authorizer interface {
	// Authorize may be called from any goroutine, for MayReceive from those that publish
	// and with the client's session locked: it must neither block for long nor use the
	// broker.
	Authorize(c *Client, a Action, topic string) bool
}

// permissions are the answers of the Authorizer that a client has got.
type permissions struct {
	mu    sync.Mutex
	at    moment // when they were given
	turn  uint64
	known map[permission]bool
}

// moment tells whether answers have been taken back since, or have grown old.
type moment struct {
	broker, client uint64
	tick           int64 // of the wheel
}

func (c *Client) moment() moment {
	return moment{c.broker.reconsidered.Load(), c.permissions.turn, c.broker.wheel.tick.Load()}
}

type permission struct {
	action Action
	topic  string
}

// maxPermissions bounds what is kept for one client; a device has a handful.
const maxPermissions = 64

// may asks the Authorizer, or remembers what it has said.
func (c *Client) may(a Action, topic string) bool {
	judge := c.broker.cfg.Authorizer
	if judge == nil {
		return true
	}
	p, key := &c.permissions, permission{a, topic}
	p.mu.Lock()
	at := c.moment()
	if p.at != at {
		p.at, p.known = at, nil
	}
	allowed, ok := p.known[key]
	p.mu.Unlock()
	if ok {
		return allowed
	}
	allowed = judge.Authorize(c, a, topic)
	p.mu.Lock()
	defer p.mu.Unlock()
	if c.moment() != at {
		return allowed // an answer to be used once
	}
	if p.known == nil || len(p.known) >= maxPermissions {
		p.known = make(map[permission]bool)
	}
	key.topic = strings.Clone(topic)
	p.known[key] = allowed
	return allowed
}

// maySend asks for all that publishing a message takes.
func (c *Client) maySend(m *Message) bool {
	return c.may(MayPublish, m.Topic) && (!m.Retain || c.may(MayRetain, m.Topic))
}

// Reconsider takes back what the Authorizer has said about every client: it is asked
// again for all that begins after Reconsider has returned.
func (b *Broker) Reconsider() { b.reconsidered.Add(1) }

// Reconsider takes back what the Authorizer has said about this client.
func (c *Client) Reconsider() {
	c.permissions.mu.Lock()
	defer c.permissions.mu.Unlock()
	c.permissions.turn++
}

// Identity returns what the Authenticator said of the client, zero without one.
func (c *Client) Identity() Identity { return c.identity }

// authenticate has the Authenticator decide about a CONNECT, and the Authorizer about
// its will.
func (c *Client) authenticate(hello *connect) error {
	judge := c.broker.cfg.Authenticator
	if judge == nil {
		judge = anybody{}
	}
	ctx, cancel := context.WithTimeout(context.Background(), c.broker.cfg.ConnectTimeout)
	defer cancel()
	var request *http.Request
	if ws, ok := c.conn.(*webSocket); ok {
		request, ws.request = ws.request, nil
	}
	var err error
	c.identity, err = judge.Authenticate(ctx, Login{
		ClientID: c.id, Version: c.version, Username: hello.username, Password: hello.password, Will: hello.will,
		Persistent: hello.version == 4 && !hello.clean || hello.props.sessionExpiry > 0, Conn: c.conn, Request: request,
	})
	switch {
	case err == nil && hello.will != nil && !c.maySend(hello.will):
		return &protocolError{codeNotAuthorized, AuthError, "will denied"} // spec §2.5
	case err == nil:
		return nil
	case errors.Is(err, ErrBadCredentials):
		return &protocolError{codeBadCredentials, AuthError, err.Error()}
	case errors.Is(err, ErrUnavailable):
		return &protocolError{codeUnavailable, AuthError, err.Error()}
	}
	return &protocolError{codeNotAuthorized, AuthError, err.Error()}
}

// End ends the connection by decision of the server, for a reason of the lifecycle
// events. An MQTT 5 client learns it as DISCONNECT. It does not wait.
func (c *Client) End(reason DisconnectReason) {
	code := byte(codeAdministrative)
	switch reason {
	case AuthError, ForbiddenAccess:
		code = codeNotAuthorized
	case AuthorizerExpired, WebSocketExpired:
		code = codeMaximumTime
	case Throttled:
		code = codeQuotaExceeded
	}
	c.end(reason, code)
}
