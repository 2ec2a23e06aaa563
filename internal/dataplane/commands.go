package dataplane

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"reflect"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/fxamacker/cbor/v2"

	"drover/internal/auth"
	"drover/internal/iot"
)

// Commands starts executions of commands, and takes what devices report of them.
type Commands interface {
	// Start returns the id of the execution.
	Start(context.Context, iot.CommandStart) (id string, err error)
	// Report calls reply when the report is durable, or refused. It does not block.
	Report(r iot.CommandReport, reply func(error))
}

// Parts of the topics of commands (registry spec §11.5).
const (
	commandsRoot   = "$aws/commands/"
	executionsPart = "/executions/"
	responsePart   = "response"
)

// commandKinds are the kinds of targets by how topics call them.
var commandKinds = map[string]string{"things": iot.KindThing, "clients": iot.KindClient}

// commandTopic is what the topic of a report says.
type commandTopic struct {
	kind, name string // of the target
	execution  string
	format     string // json or cbor; another one is InvalidTopic
}

// parseCommand tells whether topic is one that devices publish reports to,
// $aws/commands/{things or clients}/{name}/executions/{id}/response/{format}, and which.
func parseCommand(topic string) (t commandTopic, ok bool) {
	parts := strings.Split(topic, "/")
	if len(parts) != 8 || parts[0]+"/"+parts[1]+"/" != commandsRoot || "/"+parts[4]+"/" != executionsPart || parts[6] != responsePart {
		return t, false
	}
	t = commandTopic{commandKinds[parts[2]], parts[3], parts[5], parts[7]}
	return t, t.kind != "" && t.name != "" && t.execution != "" && t.format != "" && "/"+t.format != accepted && "/"+t.format != rejected
}

// target splits the ARN of a target into what topics call its kind, and its name.
func (p *Publisher) target(arn string) (kind, name string) {
	arnKind, name, _ := p.realm.ParseARN(arn) // it was checked
	for topic, k := range commandKinds {
		if k == arnKind {
			kind = topic
		}
	}
	return kind, name
}

// CommandRequest is what a device is to carry out.
type CommandRequest struct {
	Execution   string
	Target      string // ARN
	ContentType string
	Payload     []byte
	Timeout     time.Duration
}

// PublishCommand sends a device a request: with QoS 1, so that a persistent session keeps it until its time is over.
func (p *Publisher) PublishCommand(r CommandRequest) {
	kind, name := p.target(r.Target)
	topic := commandsRoot + kind + "/" + name + executionsPart + r.Execution + "/request"
	switch r.ContentType {
	case "application/json":
		topic += "/json"
	case "application/cbor":
		topic += "/cbor"
	}
	p.broker.PublishFor(topic, r.Payload, r.ContentType, r.Timeout)
	p.metrics.command.Inc()
}

// Payloads (registry spec §11.5). Both formats go by the json tags.
type (
	reportAccepted struct {
		Execution string `json:"executionId"`
	}
	reportRejected struct {
		Execution string `json:"executionId"`
		Code      string `json:"error"`
		Message   string `json:"errorMessage"`
	}
)

// report takes a report that c published. The answer goes to c alone.
func (h *Handler) report(c Client, m Message, t commandTopic) {
	answer := func(err error) {
		var out any = reportAccepted{t.execution}
		topic, result := accepted, resultAccepted
		if err != nil {
			e, r := refusal(err)
			if e == errInternal {
				h.log.Error("report of a device failed", "client", c.ID(), "execution", t.execution, "err", err)
			}
			out, topic, result = reportRejected{t.execution, r.mqtt, e.Message}, rejected, r.mqtt
		}
		h.metrics.requests.WithLabelValues("mqtt", "UpdateCommandExecution", result).Inc()
		format, suffix := formats["json"], ""
		if f, ok := formats[t.format]; ok {
			format, suffix = f, "/"+t.format
		}
		text, err := format.marshal(out)
		if err != nil {
			h.log.Error("answer to a device cannot be written", "topic", m.Topic, "err", err)
			return
		}
		c.Deliver(strings.TrimSuffix(m.Topic, "/"+t.format)+topic+suffix, text, min(m.QoS, 1))
	}
	if _, ok := formats[t.format]; !ok {
		answer(iot.Errorf(invalidTopic, "Reports come on …/response/json or …/response/cbor, not on %s", m.Topic))
		return
	}
	r, err := decodeReport(t.format, m.Payload)
	if err != nil {
		answer(err)
		return
	}
	r.Execution, r.Target, r.Actor = t.execution, h.realm.ARN(t.kind, t.name), "client:"+c.ID()
	if t.kind == iot.KindThing {
		r.Actor = "thing:" + t.name
	}
	h.commands.Report(r, answer)
}

// reportCBOR reads objects as JSON has them.
var reportCBOR = func() cbor.DecMode {
	mode, err := cbor.DecOptions{DefaultMapType: reflect.TypeFor[map[string]any]()}.DecMode()
	if err != nil {
		panic(err) // a constant of this package
	}
	return mode
}()

// decodeReport reads the payload of a report. InvalidJson for what is no JSON; InvalidRequest for what is no CBOR, and for
// members of the wrong type. Unknown members are ignored.
func decodeReport(format string, payload []byte) (r iot.CommandReport, err error) {
	var in map[string]any
	if format == "cbor" {
		if err := reportCBOR.Unmarshal(payload, &in); err != nil {
			return r, iot.Errorf(iot.InvalidRequest, "The payload is not a CBOR map with text keys: %v", err)
		}
	} else if !utf8.Valid(payload) || !json.Valid(payload) {
		return r, iot.Errorf(invalidJSON, "The payload is not valid JSON in UTF-8")
	} else if json.Unmarshal(payload, &in) != nil {
		return r, iot.Errorf(iot.InvalidRequest, "The payload must be an object")
	}
	status, err := textOf(in, "status")
	if err != nil {
		return r, err
	}
	r.Status = iot.CommandStatus(status)
	switch reason := in["statusReason"].(type) {
	case nil:
	case map[string]any:
		r.Reason = &iot.CommandReason{}
		if r.Reason.Code, err = textOf(reason, "reasonCode"); err != nil {
			return r, err
		}
		if r.Reason.Description, err = textOf(reason, "reasonDescription"); err != nil {
			return r, err
		}
	default:
		return r, iot.Errorf(iot.InvalidRequest, "statusReason must be an object")
	}
	switch result := in["result"].(type) {
	case nil:
	case map[string]any:
		r.Result = make(map[string]iot.CommandResult, len(result))
		for key, v := range result {
			if r.Result[key], err = resultOf(format, key, v); err != nil {
				return r, err
			}
		}
	default:
		return r, iot.Errorf(iot.InvalidRequest, "result must be an object")
	}
	return r, nil
}

func textOf(in map[string]any, name string) (string, error) {
	switch v := in[name].(type) {
	case nil:
		return "", nil
	case string:
		// What a database cannot keep.
		if strings.ContainsRune(v, 0) {
			return "", iot.Errorf(iot.InvalidRequest, "%s must not hold the character U+0000", name)
		}
		return v, nil
	}
	return "", iot.Errorf(iot.InvalidRequest, "%s must be a string", name)
}

// resultOf reads an entry of a result: an object with one member, s, b or bin.
func resultOf(format, key string, v any) (out iot.CommandResult, err error) {
	bad := iot.Errorf(iot.InvalidRequest, "The entry %q of the result must be an object with one member: s for a text, b for true or false, bin for bytes", key)
	entry, ok := v.(map[string]any)
	if !ok || len(entry) != 1 {
		return out, bad
	}
	for kind, v := range entry {
		switch v := v.(type) {
		case string:
			switch {
			case kind == "s" && v != "" && !strings.ContainsRune(v, 0):
				out.S = &v
				return out, nil
			case kind == "bin" && format == "json" && v != "":
				if out.BIN, err = base64.StdEncoding.DecodeString(v); err == nil {
					return out, nil
				}
			}
		case bool:
			if kind == "b" {
				out.B = &v
				return out, nil
			}
		case []byte: // CBOR
			if kind == "bin" && len(v) > 0 {
				out.BIN = v
				return out, nil
			}
		}
	}
	return out, bad
}

// commandValue is CommandParameterValue.
type commandValue struct {
	S   *string  `json:"S" len:"1,"`
	B   *bool    `json:"B"`
	I   *int32   `json:"I"`
	L   *int64   `json:"L"`
	D   *float64 `json:"D"`
	BIN []byte   `json:"BIN" bytes:"1,"`
	UL  *string  `json:"UL" len:"1,20" pattern:"[0-9]*"`
}

type startCommandRequest struct {
	TargetArn  string                  `json:"targetArn" required:"true" len:",2048"`
	CommandArn string                  `json:"commandArn" required:"true"`
	Parameters map[string]commandValue `json:"parameters" keylen:"1,192" keypattern:"[.$a-zA-Z0-9_-]+"`
	Timeout    *int64                  `json:"executionTimeoutSeconds" range:"1,"`
	Token      *string                 `json:"clientToken" len:"1,64" pattern:"[\\x21-\\x7E]+"`
}

type startCommandResponse struct {
	Execution string `json:"executionId"`
}

// startCommand is StartCommandExecution, which people and applications ask for.
func (h *Handler) startCommand(ctx context.Context, in *startCommandRequest) (*startCommandResponse, error) {
	const operation = "StartCommandExecution"
	auth.Note(ctx, operation, []string{in.CommandArn, in.TargetArn})
	if h.permitStart != nil {
		if err := h.permitStart(ctx, "iot:"+operation, in.CommandArn, in.TargetArn); err != nil {
			return nil, err
		}
	}
	start := iot.CommandStart{Command: in.CommandArn, Target: in.TargetArn, TimeoutSeconds: value(in.Timeout), Actor: "anonymous"}
	if id, ok := auth.IdentityFrom(ctx); ok {
		start.Actor = id.Principal.Actor()
	}
	if in.Token != nil {
		start.Token = *in.Token
	}
	if len(in.Parameters) > 0 {
		start.Parameters = make(map[string]iot.CommandValue, len(in.Parameters))
		for name, v := range in.Parameters {
			start.Parameters[name] = iot.CommandValue(v)
		}
	}
	id, err := h.commands.Start(ctx, start)
	if e, ok := errors.AsType[*iot.Error](err); ok && e.Code == iot.LimitExceeded { // devices are told to slow down for that
		return nil, h.https.NewError("ServiceQuotaExceededException", e.Message)
	}
	if err != nil {
		return nil, err
	}
	return &startCommandResponse{id}, nil
}
