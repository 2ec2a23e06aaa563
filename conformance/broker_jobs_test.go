package conformance

import (
	"encoding/json"
	"fmt"
	"testing"

	mq "drover/internal/mqtttest"
)

// Jobs on the wire: what clients may do with requests besides waiting for each answer.

// answer is the next message, which must be the answer to a request with a clientToken.
func answer(f *fleet, c *mq.Client, topic, token string) (mq.Publish, map[string]any) {
	f.t.Helper()
	m, _ := c.Message()
	var got map[string]any
	if err := json.Unmarshal([]byte(m.Payload), &got); err != nil || m.Topic != topic || got["clientToken"] != token {
		f.t.Fatalf("got %+v (%v), want %s with %s", m, err, topic, token)
	}
	return m, got
}

func TestRequestsInOneWrite(t *testing.T) {
	onBroker(t, func(f *fleet, v byte) {
		root := "$aws/things/" + f.thing("t") + "/jobs/"
		job := f.job("j", []string{f.thingARN(f.name("t"))})
		w := f.client(v, "t")
		var packets [][]byte
		topics := []string{"start-next", "get", job + "/get", job + "/update"}
		for n := range 40 {
			payload := fmt.Sprintf(`{"clientToken":"%d"}`, n)
			if n%4 == 3 {
				payload = fmt.Sprintf(`{"status":"IN_PROGRESS","clientToken":"%d"}`, n)
			}
			packets = append(packets, mq.Publish{Topic: root + topics[n%4], Payload: payload, QoS: 1, ID: n + 1}.Encode(v))
		}
		w.Send(packets...)
		for n := range 40 {
			w.Acked(mq.PUBACK, n+1)
		}
		for n := range 40 {
			if m, _ := answer(f, w, root+topics[n%4]+"/accepted", fmt.Sprint(n)); m.QoS != 1 {
				f.t.Errorf("QoS %d", m.QoS)
			}
		}
		w.Silent()
		// Split at every byte, which no reader may mind.
		whole := mq.Publish{Topic: root + "get", Payload: `{"clientToken":"split"}`, QoS: 1, ID: 50}.Encode(v)
		for at := 1; at < len(whole); at += 7 {
			w.Send(whole[:at])
			w.Send(whole[at:])
			w.Acked(mq.PUBACK, 50)
			answer(f, w, root+"get/accepted", "split")
		}
	})
}

func TestAnswersAreForTheRequesterOnce(t *testing.T) {
	onBroker(t, func(f *fleet, v byte) {
		root := "$aws/things/" + f.thing("t") + "/jobs/"
		other := f.client(v, "other")
		other.Granted(1, root+"#")
		for _, subscribed := range []bool{false, true} {
			w := f.client(v, "t")
			if subscribed {
				w.Granted(1, root+"#", root+"get/accepted", root+"+/accepted")
			}
			for _, qos := range []byte{0, 1} {
				w.Publish(mq.Publish{Topic: root + "get", Payload: `{"clientToken":"x"}`, QoS: qos})
				if m, _ := answer(f, w, root+"get/accepted", "x"); m.QoS != qos || m.Retain {
					f.t.Errorf("%+v", m)
				}
				w.Silent()
			}
		}
		other.Silent()
	})
}

func TestRequestByTopicAlias(t *testing.T) {
	f := newFleet(t)
	topic := "$aws/things/" + f.thing("t") + "/jobs/get"
	w := f.client(5, "t")
	for n, p := range []mq.Publish{{Topic: topic}, {}, {}} {
		p.Payload, p.QoS, p.Props = fmt.Sprintf(`{"clientToken":"%d"}`, n), 1, mq.Prop(mq.TopicAlias, 3)
		w.Publish(p)
		answer(f, w, topic+"/accepted", fmt.Sprint(n))
	}
}

// Who is gone before the answer finds it in its session.
func TestAnswerAtTheReturn(t *testing.T) {
	onBroker(t, func(f *fleet, v byte) {
		root := "$aws/things/" + f.thing("t") + "/jobs/"
		job := f.job("j", []string{f.thingARN(f.name("t"))})
		gone := f.watch("$aws/events/presence/disconnected/" + f.name("t"))
		for _, end := range []func(*mq.Client){(*mq.Client).Cut, (*mq.Client).Leave} {
			w := f.client(v, "t", persistent)
			w.Send(mq.Publish{Topic: root + "start-next", Payload: `{"clientToken":"x"}`, QoS: 1, ID: 1}.Encode(v))
			end(w)
			event(f.t, gone) // one that displaces w need not wait for what w has sent
			w = f.client(v, "t", persistent)
			if _, got := answer(f, w, root+"start-next/accepted", "x"); path(got, "execution", "jobId") != job {
				f.t.Errorf("%v", got)
			}
			w.Settle()
			w.Leave()
			event(f.t, gone)
		}
	})
}

// The whole life of a job, offline where that is possible: the notice waits in the session.
func TestJobForWhoIsAway(t *testing.T) {
	onBroker(t, func(f *fleet, v byte) {
		root := "$aws/things/" + f.thing("t") + "/jobs/"
		w := f.client(v, "t", persistent)
		w.Granted(1, root+"notify-next")
		w.Leave()
		job := f.job("j", []string{f.thingARN(f.name("t"))})
		w = f.client(v, "t", persistent)
		m, _ := w.Message()
		var notice map[string]any
		f.must(json.Unmarshal([]byte(m.Payload), &notice))
		if m.Topic != root+"notify-next" || path(notice, "execution", "jobId") != job {
			f.t.Fatalf("%+v", m)
		}
		w.Publish(mq.Publish{Topic: root + "start-next", Payload: `{"clientToken":"1"}`, QoS: 1})
		answer(f, w, root+"start-next/accepted", "1")
		w.Publish(mq.Publish{Topic: root + job + "/update", Payload: `{"status":"SUCCEEDED","clientToken":"2"}`, QoS: 1})
		answer(f, w, root+job+"/update/accepted", "2")
		if m, _ := w.Message(); m.Topic != root+"notify-next" {
			f.t.Errorf("%+v", m)
		}
	})
}
