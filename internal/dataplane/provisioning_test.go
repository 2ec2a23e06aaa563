package dataplane

import (
	"context"
	"encoding/json"
	"strings"
	"testing"
	"time"

	"drover/internal/iot"
)

func TestParseProvisioning(t *testing.T) {
	t.Parallel()
	for topic, want := range map[string]string{
		"$aws/certificates/create/json":                      "CreateKeysAndCertificate ",
		"$aws/certificates/create/cbor":                      "CreateKeysAndCertificate ",
		"$aws/certificates/create-from-csr/json":             "CreateCertificateFromCsr ",
		"$aws/provisioning-templates/t/provision/json":       "RegisterThing t",
		"$aws/certificates/create/xml":                       "",
		"$aws/certificates/create/json/accepted":             "",
		"$aws/certificates/create":                           "",
		"$aws/provisioning-templates//provision/json":        "",
		"$aws/provisioning-templates/t/provision":            "",
		"$aws/provisioning-templates/t/provision/json/extra": "",
		"$aws/things/t/jobs/get":                             "",
	} {
		got := ""
		if r, ok := parseProvisioning(topic); ok {
			got = r.operation + " " + r.template
		}
		if got != want {
			t.Errorf("%s: %q, want %q", topic, got, want)
		}
	}
}

// provisioner lets requests wait until it is told to go on, and then refuses them.
type provisioner struct {
	entered, leave chan struct{}
	err            error
}

func (p provisioner) CreateOwned(context.Context, string, string) (*iot.Certificate, iot.KeyPair, string, error) {
	p.entered <- struct{}{}
	<-p.leave
	return nil, iot.KeyPair{}, "", p.err
}

func (p provisioner) Provision(context.Context, iot.Registration) (iot.Registered, error) {
	return iot.Registered{}, p.err
}

// box is a client that keeps what it is sent.
type box struct {
	Client
	sent chan sent
}

func (box) ID() string                     { return "device" }
func (box) Certificate() iot.CertificateID { return "" }

func (b box) Deliver(topic string, payload []byte, qos byte) {
	b.sent <- sent{"", topic, string(payload), qos}
}

func (b box) rejected(t *testing.T, topic string, status int, code string) {
	t.Helper()
	m := <-b.sent
	var out provisionRejected
	if err := json.Unmarshal([]byte(m.payload), &out); err != nil || m.topic != topic+"/rejected" || out.Status != status || out.Code != code {
		t.Errorf("%v (%v), want %d %s", m, err, status, code)
	}
}

// Only so many devices are provisioned at a time; Wait waits for them.
func TestProvisioningIsBounded(t *testing.T) {
	t.Parallel()
	p := provisioner{entered: make(chan struct{}), leave: make(chan struct{}), err: iot.Errorf(iot.Unavailable, "stopping")}
	h := New(Config{Provisioner: p})
	b := box{sent: make(chan sent, provisionAtOnce)}
	m := Message{Topic: "$aws/certificates/create/json", QoS: 1}
	for range provisionAtOnce {
		if v := h.HandlePublish(b, m); v != Taken {
			t.Fatalf("verdict %v", v)
		}
		<-p.entered
	}
	h.HandlePublish(b, m)
	b.rejected(t, m.Topic, 429, "Throttled")
	close(p.leave)
	h.Wait()
	for range provisionAtOnce {
		b.rejected(t, m.Topic, 500, "InternalFailure")
	}
	if v := h.HandlePublish(b, Message{Topic: m.Topic, Retain: true}); v != Refuse {
		t.Errorf("retained: %v", v)
	}
	if v := New(Config{}).HandlePublish(b, m); v != Refuse {
		t.Errorf("without a Provisioner: %v", v)
	}
}

// Whoever has a claim gets only so many certificates a second; registering with them is not concerned.
func TestProvisioningIsPaced(t *testing.T) {
	t.Parallel()
	now := time.Unix(1_700_000_000, 0)
	p := provisioner{entered: make(chan struct{}, 10), leave: make(chan struct{}), err: iot.Errorf(iot.InvalidToken, "no")}
	close(p.leave)
	h := New(Config{Provisioner: p, Registrations: 3, Now: func() time.Time { return now }})
	b := box{sent: make(chan sent, 1)}
	made := func() (n int) {
		for range 5 {
			h.HandlePublish(b, Message{Topic: "$aws/certificates/create/json", QoS: 1})
			if m := <-b.sent; !strings.Contains(m.payload, `"statusCode":429,"errorCode":"Throttled"`) {
				n++
			}
		}
		return n
	}
	if n := made(); n != 3 {
		t.Errorf("%d certificates in a second", n)
	}
	const register = "$aws/provisioning-templates/t/provision/json"
	h.HandlePublish(b, Message{Topic: register, QoS: 1})
	b.rejected(t, register, 400, "InvalidCertificateOwnershipToken")
	now = now.Add(time.Second)
	if n := made(); n != 3 {
		t.Errorf("%d certificates in the next second", n)
	}
	h.Wait()
}

func TestProvisioningRejections(t *testing.T) {
	t.Parallel()
	const topic = "$aws/provisioning-templates/t/provision/json"
	for code, want := range map[iot.Code]provisionRejected{
		iot.InvalidToken:     {Status: 400, Code: "InvalidCertificateOwnershipToken"},
		iot.InvalidRequest:   {Status: 400, Code: "InvalidParameters"},
		iot.LimitExceeded:    {Status: 400, Code: "InvalidTemplate"},
		iot.AccessDenied:     {Status: 403, Code: "AccessDenied"},
		iot.NotFound:         {Status: 404, Code: "ResourceNotFound"},
		iot.ResourceConflict: {Status: 409, Code: "ResourceConflict"},
		iot.Internal:         {Status: 500, Code: "InternalFailure"},
	} {
		b := box{sent: make(chan sent, 1)}
		h := New(Config{Provisioner: provisioner{err: iot.Errorf(code, "why")}})
		h.HandlePublish(b, Message{Topic: topic})
		b.rejected(t, topic, want.Status, want.Code)
		h.HandlePublish(b, Message{Topic: topic, Payload: []byte("{")})
		b.rejected(t, topic, 400, "InvalidPayload")
	}
}
