package dataplane

import (
	"context"
	"encoding/json"
	"errors"
	"strings"
	"sync"
	"time"

	"github.com/fxamacker/cbor/v2"
	"golang.org/x/time/rate"

	"drover/internal/iot"
)

// Provisioner makes certificates for devices and registers them.
type Provisioner interface {
	// CreateOwned makes a certificate that waits for its activation by the token, for the key of
	// the request in PEM form, or for a new key.
	CreateOwned(ctx context.Context, csr, actor string) (cert *iot.Certificate, keys iot.KeyPair, token string, err error)
	// Provision registers a device by a template and activates its certificate.
	Provision(ctx context.Context, g iot.Registration) (iot.Registered, error)
}

// Parts of the topics of provisioning (identity spec §7.6).
const (
	createTopic    = "$aws/certificates/create/"
	createCSRTopic = "$aws/certificates/create-from-csr/"
	templatesRoot  = "$aws/provisioning-templates/"
	provisionVerb  = "/provision/"
)

const (
	// provisionAtOnce is how many requests are worked on at a time: making a key takes a core for
	// a while, and a hook seconds. One more is told to come again.
	provisionAtOnce = 16
	// provisionTimeout bounds a request, its hook included.
	provisionTimeout = 30 * time.Second
)

// provisioning answers the requests of devices that are being provisioned. Each has a goroutine:
// there is work in it that other devices need not wait for.
type provisioning struct {
	provisioner Provisioner
	slots       chan struct{}
	created     *rate.Limiter // certificates; nil: any number
	running     sync.WaitGroup
}

// provisionRequest is what the topic of a request says.
type provisionRequest struct {
	operation string // of the service
	template  string
	format    format
}

// parseProvisioning tells whether topic is that of a request of provisioning, and which.
func parseProvisioning(topic string) (r provisionRequest, ok bool) {
	var name string
	switch {
	case strings.HasPrefix(topic, createTopic):
		r.operation, name = "CreateKeysAndCertificate", topic[len(createTopic):]
	case strings.HasPrefix(topic, createCSRTopic):
		r.operation, name = "CreateCertificateFromCsr", topic[len(createCSRTopic):]
	case strings.HasPrefix(topic, templatesRoot):
		r.operation = "RegisterThing"
		if r.template, name, ok = strings.Cut(topic[len(templatesRoot):], provisionVerb); !ok || r.template == "" {
			return r, false
		}
	}
	r.format, ok = formats[name]
	return r, ok
}

// format is how payloads are written.
type format struct {
	marshal   func(any) ([]byte, error)
	unmarshal func([]byte, any) error
}

// formats by the last part of a topic. Both go by the json tags of the payloads.
var formats = map[string]format{
	"json": {json.Marshal, json.Unmarshal},
	"cbor": {cbor.Marshal, cbor.Unmarshal},
}

// Payloads (identity spec §7.6).
type (
	createRequest struct {
		CSR *string `json:"certificateSigningRequest"`
	}
	createAccepted struct {
		CertificateID  iot.CertificateID `json:"certificateId"`
		CertificatePEM string            `json:"certificatePem"`
		PrivateKey     string            `json:"privateKey,omitempty"`
		Token          string            `json:"certificateOwnershipToken"`
	}
	registerRequest struct {
		Token      string            `json:"certificateOwnershipToken"`
		Parameters map[string]string `json:"parameters"`
	}
	registerAccepted struct {
		Device map[string]any `json:"deviceConfiguration"`
		Thing  iot.ThingName  `json:"thingName"`
	}
	provisionRejected struct {
		Status  int    `json:"statusCode"`
		Code    string `json:"errorCode"`
		Message string `json:"errorMessage"`
	}
)

// provision takes a request that c published. The answer goes to c alone: devices that share a claim
// subscribe to the same topics, and must not see each other's keys.
func (h *Handler) provision(c Client, m Message, r provisionRequest) {
	payload := append([]byte(nil), m.Payload...)
	answer := func(out any, err error) {
		topic := m.Topic + accepted
		result := resultAccepted
		if err != nil {
			refused := h.rejection(r, err)
			topic, out, result = m.Topic+rejected, refused, refused.Code
		}
		h.metrics.requests.WithLabelValues("mqtt", r.operation, result).Inc()
		text, err := r.format.marshal(out)
		if err != nil {
			h.log.Error("answer to a device cannot be written", "op", r.operation, "err", err)
			return
		}
		c.Deliver(topic, text, min(m.QoS, 1))
	}
	p := &h.provisioning
	// Whoever has a claim can ask for certificates: each is a row, and a key takes a core for a while.
	if p.created != nil && r.operation != "RegisterThing" && !p.created.AllowN(h.clock(), 1) {
		answer(nil, iot.Errorf(iot.Throttled, "devices ask for more certificates a second than allowed"))
		return
	}
	select {
	case p.slots <- struct{}{}:
	default:
		answer(nil, iot.Errorf(iot.Throttled, "%d devices are being provisioned at the moment", provisionAtOnce))
		return
	}
	p.running.Go(func() {
		defer func() { <-p.slots }()
		ctx, cancel := context.WithTimeout(context.Background(), provisionTimeout)
		defer cancel()
		answer(p.do(ctx, c, r, payload))
	})
}

// Wait returns when the requests that run have been answered.
func (h *Handler) Wait() {
	h.provisioning.running.Wait()
	h.files.running.Wait()
	h.shadows.running.Wait()
}

// do carries a request out.
func (p *provisioning) do(ctx context.Context, c Client, r provisionRequest, payload []byte) (any, error) {
	actor := "client:" + c.ID()
	if id := c.Certificate(); id != "" {
		actor = "cert:" + string(id)
	}
	if r.operation == "RegisterThing" {
		var in registerRequest
		if err := decodeProvisioning(r.format, payload, &in); err != nil {
			return nil, err
		}
		done, err := p.provisioner.Provision(ctx, iot.Registration{
			Template: r.template, Token: in.Token, Parameters: in.Parameters, ClientID: c.ID(), Claim: c.Certificate(), Actor: actor,
		})
		if err != nil {
			return nil, err
		}
		out := registerAccepted{Device: done.Device, Thing: done.Thing}
		if out.Device == nil {
			out.Device = map[string]any{}
		}
		return out, nil
	}
	var in createRequest
	if err := decodeProvisioning(r.format, payload, &in); err != nil {
		return nil, err
	}
	csr := ""
	if r.operation == "CreateCertificateFromCsr" {
		if in.CSR == nil || *in.CSR == "" {
			return nil, iot.Invalid("certificateSigningRequest", nil, "Member must not be null")
		}
		csr = *in.CSR
	}
	cert, keys, token, err := p.provisioner.CreateOwned(ctx, csr, actor)
	if err != nil {
		return nil, err
	}
	return createAccepted{CertificateID: cert.ID, CertificatePEM: cert.PEM, PrivateKey: keys.Private, Token: token}, nil
}

// decodeProvisioning reads a payload; an empty one is as one without members.
func decodeProvisioning(f format, payload []byte, into any) error {
	if len(payload) == 0 {
		return nil
	}
	if err := f.unmarshal(payload, into); err != nil {
		return iot.Errorf(invalidJSON, "The payload is malformed: %v", err)
	}
	return nil
}

// rejection renders err for a device (identity spec §7.6).
func (h *Handler) rejection(r provisionRequest, err error) provisionRejected {
	e, ok := errors.AsType[*iot.Error](err)
	if !ok || e.Code == iot.Internal || e.Code == iot.Unavailable {
		h.log.Error("provisioning failed", "op", r.operation, "template", r.template, "err", err)
		return provisionRejected{Status: 500, Code: "InternalFailure", Message: errInternal.Message}
	}
	out := provisionRejected{Status: 400, Code: "InvalidTemplate", Message: e.Message}
	switch e.Code {
	case invalidJSON:
		out.Code = "InvalidPayload"
	case iot.InvalidToken:
		out.Code = "InvalidCertificateOwnershipToken"
	case iot.InvalidRequest:
		out.Code = "InvalidParameters"
		if r.operation == "CreateCertificateFromCsr" {
			out.Code = "InvalidCsr"
		}
	case iot.AccessDenied:
		out.Status, out.Code = 403, "AccessDenied"
	case iot.NotFound:
		out.Status, out.Code = 404, "ResourceNotFound"
	case iot.ResourceConflict, iot.AlreadyExists:
		out.Status, out.Code = 409, "ResourceConflict"
	case iot.Throttled:
		out.Status, out.Code = 429, "Throttled"
	}
	return out
}
