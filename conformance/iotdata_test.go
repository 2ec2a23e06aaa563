package conformance

import (
	"context"
	"encoding/base64"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/iotdataplane"
	"github.com/aws/aws-sdk-go-v2/service/iotdataplane/types"

	mq "drover/internal/mqtttest"
)

// The HTTP data plane, by the AWS SDK.

// messages is the AWS SDK's client of it.

func (s *server) messages() *iotdataplane.Client {
	return iotdataplane.New(iotdataplane.Options{
		Region:       s.region,
		BaseEndpoint: aws.String(s.http),
		Credentials: aws.CredentialsProviderFunc(func(context.Context) (aws.Credentials, error) {
			return aws.Credentials{AccessKeyID: s.key, SecretAccessKey: s.secret}, nil
		}),
		RetryMaxAttempts: 1,
	})
}

func TestB258B259B260B263HTTPPublish(t *testing.T) {
	f := newFleet(t)
	api := f.messages()
	topic := f.topic("a b/ä/$x")
	five, four := f.client(5, "five"), f.client(4, "four")
	five.Granted(1, topic)
	four.Granted(1, topic)
	_, err := api.Publish(f.ctx, &iotdataplane.PublishInput{
		Topic: &topic, Payload: []byte("hello"), Qos: 1, ContentType: aws.String("text/plain"), ResponseTopic: aws.String("r/s"),
		MessageExpiry: 60, PayloadFormatIndicator: types.PayloadFormatIndicatorUtf8Data,
		CorrelationData: aws.String(base64.StdEncoding.EncodeToString([]byte{0, 1})),
		UserProperties:  aws.String(`[{"k":"1"},{"k":"2"}]`),
	})
	f.must(err)
	m, props := five.Message()
	if m.Topic != topic || m.Payload != "hello" || m.QoS != 1 || m.Retain {
		t.Errorf("MQTT 5 got %+v", m)
	}
	if got := fmt.Sprint(props[mq.UserProperty]); got != fmt.Sprint([]any{[2]string{"k", "1"}, [2]string{"k", "2"}}) {
		t.Errorf("user properties %s", got)
	}
	if got := props.Text(mq.ContentType); got != "text/plain" {
		t.Errorf("content type %q", got)
	}
	if got := props.Int(mq.MessageExpiry); got < 50 || got > 60 {
		t.Errorf("message expiry %d", got)
	}
	four.Receive(topic, "hello")

	_, err = api.Publish(f.ctx, &iotdataplane.PublishInput{Topic: &topic})
	f.must(err)
	if m, _ := four.Message(); m.QoS != 0 || m.Payload != "" {
		t.Errorf("got %+v", m)
	}
	// Slashes may come as they are.
	status, _, answer := f.call("iotdata", "POST", "/topics/"+f.prefix+"/plain?qos=1", "x")
	if status != 200 || answer["message"] != "OK" || len(fmt.Sprint(answer["traceId"])) != 36 {
		t.Errorf("%d %v", status, answer)
	}

	for _, bad := range []*iotdataplane.PublishInput{
		{Topic: aws.String("a/+")},
		{Topic: aws.String("$aws/things/t/jobs/get")},
		{Topic: aws.String("1/2/3/4/5/6/7/8/9")},
		{Topic: aws.String(strings.Repeat("x", 257))},
		{Topic: &topic, Qos: 2},
		{Topic: &topic, CorrelationData: aws.String("?")},
		{Topic: &topic, UserProperties: aws.String(`{"k":"1"}`)},
		{Topic: &topic, ResponseTopic: aws.String("a/#")},
		{Topic: &topic, PayloadFormatIndicator: "OTHER"},
	} {
		_, err := api.Publish(f.ctx, bad)
		f.refused(err, "InvalidRequestException", 400)
	}
	_, err = api.Publish(f.ctx, &iotdataplane.PublishInput{Topic: &topic, Payload: make([]byte, 131_073)})
	f.refused(err, "RequestEntityTooLargeException", 413)
	_, err = api.Publish(f.ctx, &iotdataplane.PublishInput{Topic: aws.String(f.topic("max")), Payload: make([]byte, 131_072)})
	f.must(err)
	five.Settle()
}

func TestB119HTTPRetained(t *testing.T) {
	f := newFleet(t)
	api := f.messages()
	began := time.Now().UnixMilli()
	var topics []string
	for i := range 5 {
		topic := f.topic(fmt.Sprintf("r/%d", i))
		topics = append(topics, topic)
		_, err := api.Publish(f.ctx, &iotdataplane.PublishInput{Topic: &topic, Payload: []byte(fmt.Sprint("payload ", i)), Qos: int32(i % 2), Retain: true,
			UserProperties: aws.String(`[{"k":"v"}]`)})
		f.must(err)
	}
	got, err := api.GetRetainedMessage(f.ctx, &iotdataplane.GetRetainedMessageInput{Topic: &topics[1]})
	f.must(err)
	if *got.Topic != topics[1] || string(got.Payload) != "payload 1" || got.Qos != 1 || string(got.UserProperties) != `[{"k":"v"}]` ||
		got.LastModifiedTime < began-1000 || got.LastModifiedTime > time.Now().UnixMilli()+1000 {
		t.Errorf("got %+v", got)
	}
	_, err = api.GetRetainedMessage(f.ctx, &iotdataplane.GetRetainedMessageInput{Topic: aws.String(f.topic("none"))})
	f.refused(err, "ResourceNotFoundException", 404)

	list := func() (found []string) {
		pages := iotdataplane.NewListRetainedMessagesPaginator(api, &iotdataplane.ListRetainedMessagesInput{MaxResults: aws.Int32(2)})
		for pages.HasMorePages() {
			page, err := pages.NextPage(f.ctx)
			f.must(err)
			for _, r := range page.RetainedTopics {
				if slices.Contains(topics, *r.Topic) {
					found = append(found, *r.Topic)
					if r.PayloadSize != 9 || r.LastModifiedTime < began-1000 {
						t.Errorf("summary %+v", r)
					}
				}
			}
		}
		return found
	}
	if got := list(); !slices.Equal(got, topics) {
		t.Errorf("listed %q", got)
	}
	_, err = api.Publish(f.ctx, &iotdataplane.PublishInput{Topic: &topics[0], Retain: true})
	f.must(err)
	if got := list(); !slices.Equal(got, topics[1:]) {
		t.Errorf("listed %q after the first was deleted", got)
	}
	_, err = api.ListRetainedMessages(f.ctx, &iotdataplane.ListRetainedMessagesInput{NextToken: aws.String("?")})
	f.refused(err, "InvalidRequestException", 400)
}

func TestB055B056B070B138DeleteConnection(t *testing.T) {
	f := newFleet(t)
	api := f.messages()
	watch := f.watch(f.topic("will"))
	gone := f.watch("$aws/events/presence/disconnected/" + f.name("c"))
	end := func(clean, noWill bool) {
		t.Helper()
		_, err := api.DeleteConnection(f.ctx, &iotdataplane.DeleteConnectionInput{ClientId: aws.String(f.name("c")), CleanSession: clean, PreventWillMessage: noWill})
		f.must(err)
	}
	join := func(present bool) *mq.Client {
		t.Helper()
		w := f.client(5, "c", persistent, will(f.topic("will"), "will"))
		if w.Connack.Present != present {
			t.Fatalf("session present %v", !present)
		}
		return w
	}
	w := join(false)
	w.Granted(1, f.topic("a"))
	end(false, false)
	w.Dismissed(0x98)
	watch.Receive(f.topic("will"), "will")
	if m, _ := gone.Message(); !strings.Contains(m.Payload, `"API_INITIATED_DISCONNECT"`) {
		t.Errorf("event %s", m.Payload)
	}
	w = join(true)
	end(false, true)
	w.Dismissed(0x98)
	watch.Silent()
	w = join(true)
	w.Leave()
	end(true, false) // of a session whose client is away
	w = join(false)
	end(true, true)
	w.Dismissed(0x98)

	_, err := api.DeleteConnection(f.ctx, &iotdataplane.DeleteConnectionInput{ClientId: aws.String(f.name("c"))})
	f.refused(err, "ResourceNotFoundException", 404)
	_, err = api.DeleteConnection(f.ctx, &iotdataplane.DeleteConnectionInput{ClientId: aws.String("$GEN/x")})
	f.refused(err, "InvalidRequestException", 400)
}

func TestB264ToB267HTTPConnections(t *testing.T) {
	f := newFleet(t)
	api := f.messages()
	id := f.name("c/d")
	w := f.dial().Join(mq.Connect{Version: 5, ID: id, Persistent: true, KeepAlive: 60, Props: mq.Prop(mq.SessionExpiry, 600)})
	w.Granted(1, f.topic("b"))
	w.Granted(0, f.topic("a"), f.topic("c"))
	get := func() *iotdataplane.GetConnectionOutput {
		t.Helper()
		c, err := api.GetConnection(f.ctx, &iotdataplane.GetConnectionInput{ClientId: &id, IncludeSocketInformation: true})
		f.must(err)
		return c
	}
	c := get()
	if !c.Connected || c.KeepAliveDuration != 60 || c.SessionExpiry != 600 || c.CleanSession ||
		aws.ToString(c.SourceIp) != "127.0.0.1" || c.SourcePort == 0 || c.ConnectedSince == 0 || c.DisconnectReason != nil {
		t.Errorf("got %+v", c)
	}
	var filters []string
	for token := (*string)(nil); ; {
		page, err := api.ListSubscriptions(f.ctx, &iotdataplane.ListSubscriptionsInput{ClientId: &id, MaxResults: aws.Int32(2), NextToken: token})
		f.must(err)
		for _, s := range page.Subscriptions {
			filters = append(filters, fmt.Sprint(*s.TopicFilter, " ", s.Qos))
		}
		if token = page.NextToken; token == nil {
			break
		}
	}
	if want := []string{f.topic("a") + " 0", f.topic("b") + " 1", f.topic("c") + " 0"}; !slices.Equal(filters, want) {
		t.Errorf("subscriptions %q", filters)
	}
	w.Leave()
	f.eventually("the client is away", func() bool { c = get(); return !c.Connected })
	if aws.ToString(c.DisconnectReason) != "CLIENT_INITIATED_DISCONNECT" || c.DisconnectedSince == 0 || c.ConnectedSince != 0 {
		t.Errorf("got %+v", c)
	}
	_, err := api.GetConnection(f.ctx, &iotdataplane.GetConnectionInput{ClientId: aws.String("nobody")})
	f.refused(err, "ResourceNotFoundException", 404)
	_, err = api.SendDirectMessage(f.ctx, &iotdataplane.SendDirectMessageInput{ClientId: &id, Topic: aws.String("t")})
	f.refused(err, "NotImplementedException", 501)
}
