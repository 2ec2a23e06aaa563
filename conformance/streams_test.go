package conformance

import (
	"bytes"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/iot"
	"github.com/aws/aws-sdk-go-v2/service/iot/types"
	"github.com/fxamacker/cbor/v2"
)

// Streams (registry spec §8, statements 157 to 170).

func streamFile(id int32, bucket, key string) types.StreamFile {
	return types.StreamFile{FileId: &id, S3Location: &types.S3Location{Bucket: &bucket, Key: &key}}
}

// stream makes a stream of objects, whose numbers are their places in the list, and returns its name.
func (d *depot) stream(n string, keys ...string) string {
	d.t.Helper()
	in := &iot.CreateStreamInput{StreamId: aws.String(d.name(n)), RoleArn: aws.String(role), Description: aws.String("files of " + n)}
	for i, key := range keys {
		in.Files = append(in.Files, streamFile(int32(i), d.bucket, key))
	}
	_, err := d.api.CreateStream(d.ctx, in)
	d.must(err)
	return d.name(n)
}

// firmware is content that no other file has, and of which no two blocks are alike.
func firmware(size int) string {
	b := make([]byte, size)
	random := rand.NewChaCha8([32]byte{byte(size), byte(size >> 8)})
	_, _ = random.Read(b) // never fails
	return string(b)
}

func TestR157R158StreamsAreKept(t *testing.T) {
	depots(t, func(t *testing.T, d *depot) {
		d.put("a", "12345")
		d.put("b", "123")
		id := d.name("stream")
		create := func(id string, files ...types.StreamFile) error {
			_, err := d.api.CreateStream(d.ctx, &iot.CreateStreamInput{StreamId: &id, RoleArn: aws.String(role), Files: files, Tags: []types.Tag{{Key: aws.String("k"), Value: aws.String("v")}}})
			return err
		}
		made, err := d.api.CreateStream(d.ctx, &iot.CreateStreamInput{
			StreamId: &id, RoleArn: aws.String(role), Description: aws.String("words"), Files: []types.StreamFile{streamFile(0, d.bucket, "a"), streamFile(255, d.bucket, "b")},
			Tags: []types.Tag{{Key: aws.String("k"), Value: aws.String("v")}},
		})
		d.must(err)
		arn := d.arn("stream", id)
		if aws.ToString(made.StreamArn) != arn || aws.ToInt32(made.StreamVersion) != 1 || aws.ToString(made.Description) != "words" || aws.ToString(made.StreamId) != id {
			t.Errorf("%+v", made)
		}
		d.refused(create(id, streamFile(0, d.bucket, "a")), "ResourceAlreadyExistsException", 409)
		tags, err := d.api.ListTagsForResource(d.ctx, &iot.ListTagsForResourceInput{ResourceArn: &arn})
		d.must(err)
		if len(tags.Tags) != 1 {
			t.Errorf("%+v", tags.Tags)
		}

		// What a stream cannot be made of.
		var many []types.StreamFile
		for i := range int32(51) {
			many = append(many, streamFile(i, d.bucket, "a"))
		}
		other := d.name("other")
		for name, files := range map[string][]types.StreamFile{
			"51 files": many, "no files": {}, "fileId 256": {streamFile(256, d.bucket, "a")}, "fileId -1": {streamFile(-1, d.bucket, "a")},
			"one fileId twice": {streamFile(1, d.bucket, "a"), streamFile(1, d.bucket, "b")}, "no place": {{FileId: aws.Int32(1)}}, "no bucket that can be": {streamFile(1, "x", "a")},
			"no fileId": {{S3Location: &types.S3Location{Bucket: &d.bucket, Key: aws.String("a")}}},
		} {
			if err := create(other, files...); failure(err) != "InvalidRequestException" {
				t.Errorf("%s: %v", name, err)
			}
		}
		d.refused(create(other, streamFile(1, d.bucket, "missing")), "ResourceNotFoundException", 404)
		d.refused(create(other, streamFile(1, d.name("nowhere"), "a")), "ResourceNotFoundException", 404)

		// What is not named stays as it is.
		updated, err := d.api.UpdateStream(d.ctx, &iot.UpdateStreamInput{StreamId: &id, Description: aws.String("other words")})
		d.must(err)
		if aws.ToInt32(updated.StreamVersion) != 2 {
			t.Errorf("%+v", updated)
		}
		updated, err = d.api.UpdateStream(d.ctx, &iot.UpdateStreamInput{StreamId: &id, Files: []types.StreamFile{streamFile(7, d.bucket, "b")}})
		d.must(err)
		if aws.ToInt32(updated.StreamVersion) != 3 {
			t.Errorf("%+v", updated)
		}
		_, err = d.api.UpdateStream(d.ctx, &iot.UpdateStreamInput{StreamId: &id, Files: []types.StreamFile{streamFile(7, d.bucket, "missing")}})
		d.refused(err, "ResourceNotFoundException", 404)
		got, err := d.api.DescribeStream(d.ctx, &iot.DescribeStreamInput{StreamId: &id})
		d.must(err)
		if i := got.StreamInfo; aws.ToInt32(i.StreamVersion) != 3 || aws.ToString(i.Description) != "other words" || len(i.Files) != 1 || aws.ToInt32(i.Files[0].FileId) != 7 ||
			aws.ToString(i.Files[0].S3Location.Key) != "b" || i.Files[0].S3Location.Version != nil || aws.ToString(i.RoleArn) != role || !i.LastUpdatedAt.After(*i.CreatedAt) && !i.LastUpdatedAt.Equal(*i.CreatedAt) {
			t.Errorf("%+v", i)
		}

		// The newest come first, unless it is said otherwise.
		second := d.stream("second", "a")
		for _, ascending := range []bool{false, true} {
			var ids []string
			pages := iot.NewListStreamsPaginator(d.api, &iot.ListStreamsInput{AscendingOrder: ascending, MaxResults: aws.Int32(1)})
			for pages.HasMorePages() {
				page, err := pages.NextPage(d.ctx)
				d.must(err)
				for _, s := range page.Streams {
					if strings.HasPrefix(*s.StreamId, d.prefix) {
						ids = append(ids, *s.StreamId)
					}
				}
			}
			want := []string{second, id}
			if ascending {
				slices.Reverse(want)
			}
			if !slices.Equal(ids, want) {
				t.Errorf("ascending %v: %v", ascending, ids)
			}
		}
		_, err = d.api.DeleteStream(d.ctx, &iot.DeleteStreamInput{StreamId: &id})
		d.must(err)
		_, err = d.api.DeleteStream(d.ctx, &iot.DeleteStreamInput{StreamId: &id})
		d.refused(err, "ResourceNotFoundException", 404)
		_, err = d.api.DescribeStream(d.ctx, &iot.DescribeStreamInput{StreamId: &id})
		d.refused(err, "ResourceNotFoundException", 404)
		_, err = d.api.ListTagsForResource(d.ctx, &iot.ListTagsForResourceInput{ResourceArn: &arn})
		d.refused(err, "ResourceNotFoundException", 404)
	})
}

// streamClient is a device that fetches files, in one of the formats.
type streamClient struct {
	*device
	stream, format string
	tokens         int
}

func (c *streamClient) topic(rest string) string {
	return "$aws/things/" + c.thing + "/streams/" + c.stream + "/" + rest + "/" + c.format
}

// listen subscribes to all answers, as devices do.
func (c *streamClient) listen() {
	c.f.t.Helper()
	for _, kind := range []string{"description", "data", "rejected"} {
		c.f.must(c.subscribe(c.topic(kind), 1))
	}
}

// ask publishes a request, with a token, and returns the answers to it, n of them.
func (c *streamClient) ask(verb string, in map[string]any, n int) []message {
	c.f.t.Helper()
	c.tokens++
	token := fmt.Sprintf("token-%d", c.tokens)
	in["c"] = token
	c.send(verb, in)
	var out []message
	for i := range n {
		m, err := c.wait(i, func(m message) bool { return c.read(m)["c"] == token })
		c.f.must(err)
		out = append(out, m)
	}
	return out
}

func (c *streamClient) send(verb string, in any) {
	c.f.t.Helper()
	payload, err := json.Marshal(in)
	if c.format == "cbor" {
		payload, err = cbor.Marshal(in)
	}
	c.f.must(err)
	c.f.must(c.publish(c.topic(verb), string(payload), 1))
}

// read takes an answer apart: numbers are int64, the payload is bytes.
func (c *streamClient) read(m message) map[string]any {
	out := map[string]any{}
	if !strings.HasSuffix(m.topic, "/"+c.format) {
		return out
	}
	if c.format == "cbor" {
		if err := cbor.Unmarshal([]byte(m.payload), &out); err != nil {
			c.f.t.Fatalf("%s: %v", m.topic, err)
		}
	} else {
		d := json.NewDecoder(strings.NewReader(m.payload))
		d.UseNumber()
		if err := d.Decode(&out); err != nil {
			c.f.t.Fatalf("%s: %v", m.topic, err)
		}
	}
	for k, v := range out {
		switch v := v.(type) {
		case uint64:
			out[k] = int64(v)
		case json.Number:
			n, err := v.Int64()
			c.f.must(err)
			out[k] = n
		case string:
			if k == "p" {
				data, err := base64.StdEncoding.DecodeString(v)
				c.f.must(err)
				out[k] = data
			}
		}
	}
	return out
}

// blocks asks for blocks and checks that exactly these come, with what they must hold.
func (c *streamClient) blocks(content string, in map[string]any, want ...int64) {
	c.f.t.Helper()
	size := int64(in["l"].(int))
	for i, m := range c.ask("get", in, len(want)) {
		got := c.read(m)
		at := want[i] * size
		part := []byte(content[at:min(at+size, int64(len(content)))])
		if m.topic != c.topic("data") || got["i"] != want[i] || got["f"] != int64(in["f"].(int)) || got["l"] != int64(len(part)) || !bytes.Equal(got["p"].([]byte), part) {
			delete(got, "p")
			c.f.t.Errorf("%v: block %d is %v on %s, want block %d", in, i, got, m.topic, want[i])
		}
	}
	// What is asked next is answered next: there was no further block.
	c.refused("get", map[string]any{"f": in["f"], "l": 1}, "BlockSizeOutOfBounds")
	token := in["c"]
	if n := c.count(func(m message) bool { return c.read(m)["c"] == token }); n != len(want) {
		c.f.t.Errorf("%v: %d blocks, want %v", in, n, want)
	}
}

func (c *streamClient) refused(verb string, in map[string]any, code string) {
	c.f.t.Helper()
	m := c.ask(verb, in, 1)[0]
	if got := c.read(m); m.topic != c.topic("rejected") || got["o"] != code || got["m"] == "" {
		c.f.t.Errorf("%v: %s %v, want %s", in, m.topic, got, code)
	}
}

// bitmap is what the format has for a bitmap.
func (c *streamClient) bitmap(digits string) any {
	if c.format == "json" {
		return "0x" + digits
	}
	b, err := hex.DecodeString(digits)
	c.f.must(err)
	return b
}

func TestR159ToR168DevicesFetchBlocks(t *testing.T) {
	depots(t, func(t *testing.T, d *depot) {
		small, large := firmware(100_001), firmware(1<<20+4711)
		d.put("small", small)
		d.put("large", large)
		d.put("empty", "")
		id := d.stream("s", "small", "large", "empty")
		thing := d.thing("t")
		for _, version := range []int{4, 5} {
			for _, format := range []string{"json", "cbor"} {
				c := &streamClient{device: d.connectAs(thing, fmt.Sprintf("%s-%d-%s", thing, version, format), version), stream: id, format: format}
				c.listen()
				m := c.ask("describe", map[string]any{}, 1)[0]
				got := c.read(m)
				if m.topic != c.topic("description") || got["s"] != int64(1) || got["d"] != "files of s" ||
					fmt.Sprint(got["r"]) != fmt.Sprintf("[map[f:0 z:%d] map[f:1 z:%d] map[f:2 z:0]]", len(small), len(large)) {
					t.Errorf("%s: %v", m.topic, got)
				}
				c.blocks(small, map[string]any{"f": 0, "l": 4096, "o": 0, "n": 2}, 0, 1)
				c.blocks(small, map[string]any{"f": 0, "l": 4096, "o": 23, "n": 9}, 23, 24)
				c.blocks(small, map[string]any{"f": 0, "l": 131072}, 0)
				c.blocks(large, map[string]any{"s": 1, "f": 1, "l": 4096, "o": 20, "b": c.bitmap("130080")}, 20, 21, 24, 43)
				c.blocks(large, map[string]any{"f": 1, "l": 4096, "o": 20, "n": 2, "b": c.bitmap("130080")}, 20, 21)
				c.blocks(large, map[string]any{"f": 1, "l": 32768, "n": 5}, 0, 1, 2, 3)
				c.blocks(large, map[string]any{"f": 1, "l": 131072, "o": 7}, 7)
				c.blocks(large, map[string]any{"f": 1, "l": 131072, "o": 8}, 8)
				many := make([]int64, 512)
				for i := range many {
					many[i] = int64(100 + i)
				}
				c.blocks(large, map[string]any{"f": 1, "l": 256, "o": 100, "n": 98304}, many...)
				c.refused("get", map[string]any{"f": 0, "l": 255}, "BlockSizeOutOfBounds")
				c.refused("get", map[string]any{"f": 0, "l": 131073}, "BlockSizeOutOfBounds")
				c.refused("get", map[string]any{"f": 0, "l": 256, "o": 98305}, "OffsetOutOfBounds")
				c.refused("get", map[string]any{"f": 0, "l": 256, "n": 98305}, "BlockCountLimitExceeded")
				c.refused("get", map[string]any{"f": 0, "l": 256, "b": c.bitmap(strings.Repeat("ff", 12288))}, "BlockBitmapLimitExceeded")
				c.refused("get", map[string]any{"s": 2, "f": 0, "l": 256}, "VersionMismatch")
				c.refused("get", map[string]any{"f": 9, "l": 256}, "ResourceNotFound")
				c.refused("get", map[string]any{"f": 0, "l": 256, "o": 391}, "ResourceNotFound")
				c.refused("get", map[string]any{"f": 2, "l": 256}, "ResourceNotFound")
				c.refused("other", map[string]any{}, "InvalidTopic")
				gone := &streamClient{device: c.device, stream: id + "-other", format: format, tokens: c.tokens + 1000}
				gone.listen()
				gone.refused("describe", map[string]any{}, "ResourceNotFound")
				gone.refused("get", map[string]any{"f": 0, "l": 256}, "ResourceNotFound")
			}
		}
		// The content is not what it was any more; it has changed before there is no such block. Parts that
		// have been read before may still be remembered as they were: nobody has read these.
		d.put("changing", firmware(100_001))
		id = d.stream("changing", "changing", "large")
		d.put("changing", firmware(100_002))
		c := &streamClient{device: d.connect(thing), stream: id, format: "json"}
		c.listen()
		c.refused("get", map[string]any{"f": 0, "l": 4096, "n": 1}, "ETagMismatch")
		c.refused("get", map[string]any{"f": 0, "l": 4096, "o": 98304}, "ETagMismatch")
		c.blocks(large, map[string]any{"f": 1, "l": 4096, "n": 1}, 0)
		_, err := d.api.UpdateStream(d.ctx, &iot.UpdateStreamInput{StreamId: &id, Files: []types.StreamFile{streamFile(0, d.bucket, "changing")}})
		d.must(err)
		c.blocks(firmware(100_002), map[string]any{"s": 2, "f": 0, "l": 4096, "n": 1}, 0)
	})
}

func TestR169R170BadStreamRequests(t *testing.T) {
	depots(t, func(t *testing.T, d *depot) {
		d.put("a", "content")
		c := &streamClient{device: d.connect(d.thing("t")), stream: d.stream("s", "a"), format: "json"}
		c.listen()
		binary := &streamClient{device: c.device, stream: c.stream, format: "cbor"}
		binary.listen()
		for i, r := range []struct {
			c             *streamClient
			payload, code string
		}{
			{c, `{"c":"` + strings.Repeat("x", 65) + `","f":0,"l":256}`, "InvalidRequest"},
			{c, `{"f":0,`, "InvalidJson"},
			{c, `garbage`, "InvalidJson"},
			{binary, "garbage", "InvalidCbor"},
			{binary, "\xa1\x61", "InvalidCbor"},
		} {
			c.f.must(c.publish(r.c.topic("get"), r.payload, 1))
			m, err := c.wait(i, func(m message) bool { return strings.Contains(m.topic, "/rejected/") })
			d.must(err)
			got := r.c.read(m)
			if _, token := got["c"]; m.topic != r.c.topic("rejected") || got["o"] != r.code || token {
				t.Errorf("%q: %s %v, want %s", r.payload, m.topic, got, r.code)
			}
		}
	})
}

// A device gets blocks with the QoS that it has subscribed with, and nothing on topics for the server alone.
func TestStreamsAreForDevicesThatMay(t *testing.T) {
	oneServer(t, "the object store in the box")
	f := tlsFleet(t)
	d := &depot{fleet: f, s3: s3Store{url: f.http, key: f.key, secret: f.secret, region: f.region}.client(), bucket: f.name("bucket")}
	d.makeBucket()
	d.put("a", "content")
	id := d.stream("s", "a")
	for _, version := range []int{4, 5} {
		cert := f.newCertificate(true)
		thing := f.thing("mine" + itoa(version))
		f.must(f.attach(thing, cert.id, ""))
		own := "$aws/things/${iot:Connection.Thing.ThingName}/streams/*"
		policy := f.policy("streams"+itoa(version), f.say("Allow", "iot:Connect", "client/*"),
			f.say("Allow", "iot:Publish", "topic/"+own), f.say("Allow", "iot:Receive", "topic/"+own), f.say("Allow", "iot:Subscribe", "topicfilter/"+own))
		f.must(f.attachPolicy(policy, f.certARN(cert.id)))
		connect := func() *streamClient {
			t.Helper()
			dev, err := f.overTLS(f.mqtts, f.config(with(cert)), thing, version)
			f.must(err)
			return &streamClient{device: dev, stream: id, format: "json"}
		}
		c := connect()
		c.listen()
		c.blocks("content", map[string]any{"f": 0, "l": 256}, 0)
		if err := c.subscribe("$aws/things/"+f.name("other")+"/streams/+/data/json", 0); err == nil {
			t.Errorf("version %d: subscribed to another thing's topic", version)
		}
		if err := c.publish("$aws/things/"+f.name("other")+"/streams/"+id+"/get/json", `{"f":0,"l":256}`, 1); err == nil {
			t.Errorf("version %d: asked in the name of another thing", version)
		}
		c = connect()
		if err := c.publish(c.topic("data"), `{}`, 1); err == nil {
			t.Errorf("version %d: published as the server", version)
		}
	}
}
