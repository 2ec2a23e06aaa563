// Package iotdata is the HTTP data plane of AWS IoT: publishing, retained messages and
// connections, for those who are no MQTT clients. It is the broker in other words.
package iotdata

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"drover/internal/auth"
	"drover/internal/broker"
	"drover/internal/iot"
	"drover/internal/wire"
)

// Config is what a Server needs. Broker is required.
type Config struct {
	Broker *broker.Broker
	// Shadows keeps the shadows of things; nil: there are none.
	Shadows Shadows
	// Permit returns nil if who sent a request may do the action on a resource, "topic" or "client"
	// with its name, or on everything if the kind is "", and otherwise an error, an *auth.Error for a
	// refusal. nil: that has been decided before.
	Permit func(ctx context.Context, action, kind, name string) error
	Logger *slog.Logger     // default slog.Default()
	Now    func() time.Time // default time.Now
	// Observe is called once for each request that has been answered, with the operation's name
	// and the error, if any. It may be nil.
	Observe func(operation string, e *wire.Error, took time.Duration)
}

// Server serves the operations of the signing name iotdata, but for SendDirectMessage, and shadows
// other than $package. It expects requests that have been authenticated.
type Server struct {
	broker  *broker.Broker
	shadows Shadows
	permit  func(ctx context.Context, action, kind, name string) error
	now     func() time.Time
	wire    *wire.Service
}

// New returns a Server.
func New(cfg Config) *Server {
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	if cfg.Permit == nil {
		cfg.Permit = func(context.Context, string, string, string) error { return nil }
	}
	s := &Server{broker: cfg.Broker, shadows: cfg.Shadows, permit: cfg.Permit, now: cfg.Now}
	s.wire = wire.NewIoTData(wire.Config{Logger: cfg.Logger, MaxBody: maxPayload, MapError: s.exception, Observe: cfg.Observe})
	wire.Handle(s.wire, "Publish", s.publish)
	wire.Handle(s.wire, "GetRetainedMessage", s.getRetained)
	wire.Handle(s.wire, "ListRetainedMessages", s.listRetained)
	wire.Handle(s.wire, "GetConnection", s.getConnection)
	wire.Handle(s.wire, "ListSubscriptions", s.listSubscriptions)
	wire.Handle(s.wire, "DeleteConnection", s.deleteConnection)
	if s.shadows != nil {
		wire.Handle(s.wire, "GetThingShadow", s.getShadow)
		wire.Handle(s.wire, "UpdateThingShadow", s.updateShadow)
		wire.Handle(s.wire, "DeleteThingShadow", s.deleteShadow)
		wire.Handle(s.wire, "ListNamedShadowsForThing", s.listShadows)
	}
	return s
}

// ServeHTTP implements http.Handler.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) { s.wire.ServeHTTP(w, r) }

// exception renders the broker's refusals.
func (s *Server) exception(err error) *wire.Error {
	if refused, ok := errors.AsType[*auth.Error](err); ok {
		return &wire.Error{Code: refused.Code, Status: refused.Status, Message: refused.Message}
	}
	if e, ok := errors.AsType[*iot.Error](err); ok && shadowExceptions[e.Code] != "" {
		return s.wire.NewError(shadowExceptions[e.Code], e.Message)
	}
	switch {
	case errors.Is(err, broker.ErrTopic):
		return s.wire.NewError("InvalidRequestException", "The topic is reserved, malformed, longer than 256 bytes or deeper than 7 slashes")
	case errors.Is(err, broker.ErrPayload):
		return s.wire.NewError("RequestEntityTooLargeException", "The payload is too large")
	case errors.Is(err, broker.ErrRetainedFull):
		return s.wire.NewError("ThrottlingException", "There is no room for another retained message")
	}
	return nil
}

func (s *Server) invalid(message string) error {
	return s.wire.NewError("InvalidRequestException", message)
}

const (
	maxPayload = 128 << 10   // bytes (spec identity-and-broker §2.20)
	maxExpiry  = 7 * 86_400  // seconds
	formatUTF8 = "UTF8_DATA" // of x-amz-mqtt5-payload-format-indicator
)

type publishRequest struct {
	Topic           string  `json:"topic" in:"label"`
	QoS             *int64  `json:"qos" in:"query" range:"0,1"`
	Retain          bool    `json:"retain" in:"query"`
	ContentType     string  `json:"contentType" in:"query" bytes:",65535"`
	ResponseTopic   string  `json:"responseTopic" in:"query" bytes:",65535"`
	MessageExpiry   *int64  `json:"messageExpiry" in:"query" range:"0,"`
	UserProperties  *string `json:"userProperties" in:"header" header:"x-amz-mqtt5-user-properties"`
	PayloadFormat   string  `json:"payloadFormatIndicator" in:"header" header:"x-amz-mqtt5-payload-format-indicator" enum:"UNSPECIFIED_BYTES,UTF8_DATA"`
	CorrelationData *string `json:"correlationData" in:"header" header:"x-amz-mqtt5-correlation-data"`
	Payload         []byte  `json:"payload" in:"payload"`
}

type publishResponse struct {
	Message string `json:"message"`
	TraceID string `json:"traceId"`
}

func (s *Server) publish(ctx context.Context, in *publishRequest) (*publishResponse, error) {
	if err := s.permit(ctx, "iot:Publish", "topic", in.Topic); err != nil {
		return nil, err
	}
	if in.Retain {
		if err := s.permit(ctx, "iot:RetainPublish", "topic", in.Topic); err != nil {
			return nil, err
		}
	}
	m := broker.Message{Topic: in.Topic, Payload: in.Payload, Retain: in.Retain}
	if in.QoS != nil {
		m.QoS = byte(*in.QoS)
	}
	if in.MessageExpiry != nil && *in.MessageExpiry > 0 { // the SDKs may send 0, the model's default
		m.Expires = s.now().Add(time.Duration(min(*in.MessageExpiry, maxExpiry)) * time.Second)
	}
	if strings.ContainsAny(in.ResponseTopic, "+#\x00") || strings.ContainsRune(in.ContentType, 0) {
		return nil, s.invalid("responseTopic and contentType are text without NUL, and a topic has no wildcards")
	}
	p := broker.Properties{UTF8: in.PayloadFormat == formatUTF8, ContentType: in.ContentType, ResponseTopic: in.ResponseTopic}
	if in.CorrelationData != nil {
		data, err := base64.StdEncoding.DecodeString(*in.CorrelationData)
		if err != nil {
			return nil, s.invalid("correlationData must be in base64")
		}
		p.CorrelationData = data
	}
	if in.UserProperties != nil {
		user, ok := decodeUserProperties(*in.UserProperties)
		if !ok {
			return nil, s.invalid("userProperties must be a JSON array of objects with one text each, in base64")
		}
		p.User = user
	}
	if p.UTF8 || p.ContentType != "" || p.ResponseTopic != "" || p.CorrelationData != nil || p.User != nil {
		m.Properties = &p
	}
	if err := s.broker.Accept(ctx, m); err != nil {
		return nil, err
	}
	return &publishResponse{Message: "OK", TraceID: wire.RequestID(ctx)}, nil
}

// decodeUserProperties decodes [{"name":"value"},…] in base64.
func decodeUserProperties(text string) (list []broker.UserProperty, ok bool) {
	data, err := base64.StdEncoding.DecodeString(text)
	if err != nil {
		return nil, false
	}
	var pairs []map[string]string
	if err := json.Unmarshal(data, &pairs); err != nil {
		return nil, false
	}
	for _, pair := range pairs {
		if len(pair) != 1 {
			return nil, false
		}
		for key, value := range pair {
			if len(key) > 65_535 || len(value) > 65_535 {
				return nil, false
			}
			list = append(list, broker.UserProperty{Key: key, Value: value})
		}
	}
	return list, true
}

func encodeUserProperties(list []broker.UserProperty) []byte {
	if len(list) == 0 {
		return nil
	}
	pairs := make([]map[string]string, len(list))
	for i, u := range list {
		pairs[i] = map[string]string{u.Key: u.Value}
	}
	text, err := json.Marshal(pairs)
	if err != nil {
		panic("iotdata: texts cannot be encoded: " + err.Error())
	}
	return text
}

type getRetainedRequest struct {
	Topic string `json:"topic" in:"label"`
}

type getRetainedResponse struct {
	Topic          string `json:"topic"`
	Payload        []byte `json:"payload"`
	QoS            byte   `json:"qos"`
	Modified       int64  `json:"lastModifiedTime"` // milliseconds
	UserProperties []byte `json:"userProperties,omitempty"`
}

func (s *Server) getRetained(ctx context.Context, in *getRetainedRequest) (*getRetainedResponse, error) {
	if err := s.permit(ctx, "iot:GetRetainedMessage", "topic", in.Topic); err != nil {
		return nil, err
	}
	r, ok := s.broker.RetainedAt(in.Topic)
	if !ok {
		return nil, s.wire.NewError("ResourceNotFoundException", "No message is retained on the topic "+in.Topic)
	}
	out := &getRetainedResponse{Topic: in.Topic, Payload: r.Message.Payload, QoS: r.Message.QoS, Modified: r.Modified.UnixMilli()}
	if p := r.Message.Properties; p != nil {
		out.UserProperties = encodeUserProperties(p.User)
	}
	return out, nil
}

type listRetainedRequest struct {
	NextToken  string `json:"nextToken" in:"query"`
	MaxResults *int64 `json:"maxResults" in:"query" range:"1,200"`
}

type listRetainedResponse struct {
	Topics    []retainedSummary `json:"retainedTopics"`
	NextToken string            `json:"nextToken,omitempty"`
}

type retainedSummary struct {
	Topic    string `json:"topic"`
	Size     int    `json:"payloadSize"`
	QoS      byte   `json:"qos"`
	Modified int64  `json:"lastModifiedTime"` // milliseconds
}

func (s *Server) listRetained(ctx context.Context, in *listRetainedRequest) (*listRetainedResponse, error) {
	if err := s.permit(ctx, "iot:ListRetainedMessages", "", ""); err != nil {
		return nil, err
	}
	after, limit, err := s.page(in.NextToken, in.MaxResults, 200)
	if err != nil {
		return nil, err
	}
	list := s.broker.RetainedTopics(after, limit+1)
	out := &listRetainedResponse{Topics: []retainedSummary{}}
	for _, r := range list[:min(limit, len(list))] {
		out.Topics = append(out.Topics, retainedSummary{r.Message.Topic, len(r.Message.Payload), r.Message.QoS, r.Modified.UnixMilli()})
	}
	if len(list) > limit {
		out.NextToken = token(list[limit-1].Message.Topic)
	}
	return out, nil
}

// page returns what a list goes on after, and how long it may be.
func (s *Server) page(next string, most *int64, standard int) (after string, limit int, err error) {
	limit = standard
	if most != nil {
		limit = int(*most)
	}
	text, err := base64.RawURLEncoding.DecodeString(next)
	if err != nil {
		return "", 0, s.invalid("nextToken is not one of this operation")
	}
	return string(text), limit, nil
}

func token(after string) string { return base64.RawURLEncoding.EncodeToString([]byte(after)) }

type connectionRequest struct {
	ClientID string `json:"clientId" in:"label" bytes:",128"`
}

// client returns the state of a client that is connected or has a session.
func (s *Server) client(ctx context.Context, id string) (broker.ClientState, error) {
	state, ok := s.broker.Client(ctx, id)
	if !ok {
		return state, s.wire.NewError("ResourceNotFoundException", "The client "+id+" is not connected and has no session")
	}
	return state, nil
}

type getConnectionRequest struct {
	connectionRequest
	Sockets bool `json:"includeSocketInformation" in:"query"`
}

type getConnectionResponse struct {
	ClientID          string `json:"clientId"`
	Connected         bool   `json:"connected"`
	CleanSession      bool   `json:"cleanSession"`
	SessionExpiry     int64  `json:"sessionExpiry"` // seconds
	KeepAlive         *int64 `json:"keepAliveDuration,omitempty"`
	ConnectedSince    *int64 `json:"connectedSince,omitempty"` // milliseconds
	DisconnectedSince *int64 `json:"disconnectedSince,omitempty"`
	DisconnectReason  string `json:"disconnectReason,omitempty"`
	SourceIP          string `json:"sourceIp,omitempty"`
	SourcePort        int    `json:"sourcePort,omitempty"`
	TargetIP          string `json:"targetIp,omitempty"`
	TargetPort        int    `json:"targetPort,omitempty"`
}

func (s *Server) getConnection(ctx context.Context, in *getConnectionRequest) (*getConnectionResponse, error) {
	if err := s.permit(ctx, "iot:GetConnection", "client", in.ClientID); err != nil {
		return nil, err
	}
	c, err := s.client(ctx, in.ClientID)
	if err != nil {
		return nil, err
	}
	out := &getConnectionResponse{ClientID: c.ID, Connected: c.Connected, CleanSession: c.Expiry == 0, SessionExpiry: int64(c.Expiry / time.Second)}
	since := c.Since.UnixMilli()
	if !c.Connected {
		// That of a former process is not known (spec §3.3).
		out.DisconnectedSince, out.DisconnectReason = &since, "UNKNOWN"
		if c.Reason != "" {
			out.DisconnectReason = string(c.Reason)
		}
		return out, nil
	}
	keepAlive := int64(c.KeepAlive / time.Second)
	out.ConnectedSince, out.KeepAlive = &since, &keepAlive
	if in.Sockets {
		out.SourceIP, out.SourcePort = address(c.RemoteAddr)
		out.TargetIP, out.TargetPort = address(c.LocalAddr)
	}
	return out, nil
}

func address(a net.Addr) (ip string, port int) {
	host, text, err := net.SplitHostPort(a.String())
	if err != nil {
		return a.String(), 0
	}
	if port, err = strconv.Atoi(text); err != nil {
		return host, 0
	}
	return host, port
}

type listSubscriptionsRequest struct {
	connectionRequest
	NextToken  string `json:"nextToken" in:"query"`
	MaxResults *int64 `json:"maxResults" in:"query" range:"1,200"`
}

type listSubscriptionsResponse struct {
	Subscriptions []subscription `json:"subscriptions"`
	NextToken     string         `json:"nextToken,omitempty"`
}

type subscription struct {
	Filter string `json:"topicFilter"`
	QoS    byte   `json:"qos"`
}

func (s *Server) listSubscriptions(ctx context.Context, in *listSubscriptionsRequest) (*listSubscriptionsResponse, error) {
	if err := s.permit(ctx, "iot:ListSubscriptions", "client", in.ClientID); err != nil {
		return nil, err
	}
	after, limit, err := s.page(in.NextToken, in.MaxResults, 200)
	if err != nil {
		return nil, err
	}
	c, err := s.client(ctx, in.ClientID)
	if err != nil {
		return nil, err
	}
	list := slices.DeleteFunc(c.Subscriptions, func(sub broker.Subscription) bool { return sub.Filter <= after })
	slices.SortFunc(list, func(x, y broker.Subscription) int { return strings.Compare(x.Filter, y.Filter) })
	out := &listSubscriptionsResponse{Subscriptions: []subscription{}}
	for _, sub := range list[:min(limit, len(list))] {
		out.Subscriptions = append(out.Subscriptions, subscription(sub))
	}
	if len(list) > limit {
		out.NextToken = token(list[limit-1].Filter)
	}
	return out, nil
}

type deleteConnectionRequest struct {
	connectionRequest
	CleanSession bool `json:"cleanSession" in:"query"`
	PreventWill  bool `json:"preventWillMessage" in:"query"`
}

// deleteConnection ends a connection, and a session even if nobody is connected (spec §2.19).
func (s *Server) deleteConnection(ctx context.Context, in *deleteConnectionRequest) (*wire.Empty, error) {
	if err := s.permit(ctx, "iot:DeleteConnection", "client", in.ClientID); err != nil {
		return nil, err
	}
	if strings.HasPrefix(in.ClientID, "$") {
		return nil, s.invalid("Client ids that begin with $ are reserved")
	}
	if !s.broker.End(ctx, in.ClientID, broker.EndOptions{Clean: in.CleanSession, NoWill: in.PreventWill}) {
		return nil, s.wire.NewError("ResourceNotFoundException", "The client "+in.ClientID+" is not connected and has no session")
	}
	return nil, nil
}
