package conformance

import (
	"cmp"
	"crypto/sha256"
	"crypto/tls"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"
	"github.com/aws/aws-sdk-go-v2/service/iot"
	"github.com/aws/aws-sdk-go-v2/service/iot/types"
	"github.com/aws/smithy-go"

	mq "drover/internal/mqtttest"
)

// What an attacker would try; docs/security.md has the list.

// filled returns an input of the SDK in which every member has a value that keeps the rules.
func filled(in reflect.Value, name string, depth int) {
	switch in.Kind() {
	case reflect.Pointer:
		if depth < 2 || in.Type().Elem().Kind() != reflect.Struct {
			in.Set(reflect.New(in.Type().Elem()))
			filled(in.Elem(), name, depth)
		}
	case reflect.Struct:
		if in.Type() == reflect.TypeFor[time.Time]() {
			in.Set(reflect.ValueOf(time.Now()))
			return
		}
		for i := range in.NumField() {
			if f := in.Type().Field(i); f.IsExported() {
				filled(in.Field(i), f.Name, depth+1)
			}
		}
	case reflect.Slice:
		if in.Type().Elem().Kind() == reflect.Uint8 {
			in.SetBytes([]byte("x"))
			return
		}
		in.Set(reflect.MakeSlice(in.Type(), 1, 1))
		filled(in.Index(0), strings.TrimSuffix(name, "s"), depth)
	case reflect.Map:
		value := reflect.New(in.Type().Elem()).Elem()
		filled(value, name, depth)
		in.Set(reflect.MakeMap(in.Type()))
		in.SetMapIndex(reflect.ValueOf("JOB").Convert(in.Type().Key()), value)
	case reflect.String:
		if values := in.MethodByName("Values"); values.IsValid() {
			if all := values.Call(nil)[0]; all.Len() > 0 {
				in.Set(all.Index(0))
			}
			return
		}
		in.SetString(cmp.Or(map[string]string{
			"CertificateId": strings.Repeat("a", 64), "CaCertificateId": strings.Repeat("a", 64), "PolicyVersionId": "1", "TemplateBody": "{}", "Document": "{}", "PolicyDocument": "{}", "ReasonCode": "X",
			"RoleArn": role, "ProvisioningRoleArn": role, "JobTemplateArn": "arn:aws:iot:us-east-1:123456789012:jobtemplate/x", "DestinationPackageVersion": "arn:x",
			"PayloadVersion": "2020-04-01", "TemplateVersion": "1.0", "ClientToken": strings.Repeat("x", 36),
		}[name], "x"))
	case reflect.Int, reflect.Int32, reflect.Int64:
		if in.SetInt(1); name == "ExpiresInSec" {
			in.SetInt(60)
		}
	case reflect.Float64:
		in.SetFloat(1)
	}
}

// TestAttackKeyWithoutRights: a key whose policy allows nothing gets the same refusal from every
// operation there is, whatever is stored.
func TestAttackKeyWithoutRights(t *testing.T) {
	oneServer(t, "the object store in the box")
	f := newFleet(t)
	k := f.newKey("none", `{"Effect":"Allow","Action":"iot:Nothing","Resource":"*"}`)
	client := reflect.ValueOf(k.api)
	refused, missing := 0, 0
	for i := range client.NumMethod() {
		method := client.Type().Method(i)
		if method.Type.NumIn() != 4 || method.Type.NumOut() != 2 { // receiver, context, input, options
			continue
		}
		in := reflect.New(method.Type.In(2).Elem())
		filled(in.Elem(), "", 0)
		out := client.Method(i).Call([]reflect.Value{reflect.ValueOf(f.ctx), in})
		err, _ := out[1].Interface().(error)
		var answer smithy.APIError
		switch {
		case errors.As(err, new(smithy.InvalidParamsError)):
			missing++ // not sent: members of members, of operations that are not there
		case !errors.As(err, &answer):
			t.Errorf("%s: %v", method.Name, err)
		case answer.ErrorCode() == "AccessDeniedException":
			refused++
		case answer.ErrorCode() == "NotImplementedException":
			missing++
		default:
			t.Errorf("%s: %v", method.Name, err)
		}
	}
	t.Logf("%d operations refused, %d not there", refused, missing)
	if refused < 159 {
		t.Errorf("%d operations are refused, %d are not there", refused, missing)
	}

	bucket, thing := f.newBucket(), f.thing("t")
	f.putObject(bucket, "k", []byte("x"))
	f.watch(f.topic("#")).Publish(mq.Publish{Topic: f.topic("r"), Payload: "x", QoS: 1, Retain: true})
	for _, c := range []struct{ service, method, path string }{
		{"iot-jobs-data", "GET", "/things/" + thing + "/jobs"}, {"iot-jobs-data", "PUT", "/things/" + thing + "/jobs/$next"},
		{"iot-jobs-data", "GET", "/things/" + thing + "/jobs/x"}, {"iot-jobs-data", "POST", "/things/" + thing + "/jobs/x"},
		{"iotdata", "POST", "/topics/" + f.topic("r")}, {"iotdata", "GET", "/retainedMessage/" + f.topic("r")}, {"iotdata", "GET", "/retainedMessage"},
		{"iotdata", "GET", "/connections/x"}, {"iotdata", "GET", "/connections/x/subscriptions"}, {"iotdata", "DELETE", "/connections/x"},
		{"iotdata", "GET", "/things/" + thing + "/shadow?name=$package"}, {"iotdata", "POST", "/things/" + thing + "/shadow?name=$package"}, {"iotdata", "DELETE", "/things/" + thing + "/shadow?name=$package"},
		{"iotdata", "GET", "/api/things/shadow/ListNamedShadowsForThing/" + thing}, {"iotdata", "GET", "/things/" + thing + "/shadow"},
		{"iot", "POST", "/_drover/import"}, {"iot", "GET", "/_drover/keys"}, {"iot", "POST", "/_drover/keys"}, {"iot", "DELETE", "/_drover/keys"},
		{"iot", "GET", "/_drover/audit"}, {"iot", "GET", "/_drover/clients/x"}, {"iot", "GET", "/_drover/jobs/x/downloads"},
	} {
		if code, header, answer := k.call(c.service, c.method, c.path, `{"status":"SUCCEEDED"}`); code != 403 || header.Get("X-Amzn-Errortype") != "AccessDeniedException" {
			t.Errorf("%s %s: %d %v", c.method, c.path, code, answer)
		}
	}
	for path, methods := range map[string]string{"/": "GET", "/" + bucket: "GET HEAD PUT DELETE", "/" + bucket + "/k": "GET HEAD PUT DELETE", "/" + bucket + "/none": "GET HEAD", "/none/none": "GET"} {
		for method := range strings.FieldsSeq(methods) {
			r, err := http.NewRequestWithContext(f.ctx, method, k.presign(method, path, time.Now()), nil)
			f.must(err)
			resp, err := http.DefaultClient.Do(r)
			f.must(err)
			text, err := io.ReadAll(resp.Body)
			f.must(errors.Join(err, resp.Body.Close()))
			if resp.StatusCode != 403 || method != "HEAD" && !strings.Contains(string(text), "<Code>AccessDenied</Code>") {
				t.Errorf("%s %s: %d %s", method, path, resp.StatusCode, text)
			}
		}
	}
	if _, err := k.overWebSocket(k.signedURL(f.http, handshake{}), nil, f.name("d")); err == nil {
		t.Error("connected")
	}
}

// TestAttackSignatures: what is left of a signature that was seen, at the API, at the store of objects
// and at /mqtt. Exactly the same request is good again for as long as its time says, as with AWS: it can be
// seen by nobody if TLS is spoken.
func TestAttackSignatures(t *testing.T) {
	oneServer(t, "the object store in the box")
	f := newFleet(t)
	bucket, thing := f.newBucket(), f.thing("t")
	f.putObject(bucket, "k", []byte("x"))
	f.putObject(bucket, "l", []byte("y"))
	good := func() *http.Request { return f.signed("iot", "GET", "/things/"+thing+"?a=b", "") }
	replace := func(r *http.Request, old, new string) {
		r.Header.Set("Authorization", strings.Replace(r.Header.Get("Authorization"), old, new, 1))
	}
	signature := func(r *http.Request) string {
		_, s, _ := strings.Cut(r.Header.Get("Authorization"), "Signature=")
		return s
	}
	for what, change := range map[string]func(*http.Request){
		"of six minutes ago": func(r *http.Request) { f.signAt(r, time.Now().Add(-6*time.Minute)) },
		"of in six minutes":  func(r *http.Request) { f.signAt(r, time.Now().Add(6*time.Minute)) },
		"of another time": func(r *http.Request) {
			r.Header.Set("X-Amz-Date", time.Now().Add(time.Second).UTC().Format("20060102T150405Z"))
		},
		"truncated":    func(r *http.Request) { s := signature(r); replace(r, s, s[:len(s)-2]) },
		"altered":      func(r *http.Request) { s := signature(r); replace(r, s, strings.Repeat("0", len(s))) },
		"empty":        func(r *http.Request) { replace(r, signature(r), "") },
		"another path": func(r *http.Request) { r.URL.Path = "/things/" + thing + "x" },
		"a path encoded twice": func(r *http.Request) {
			r.URL.Path = strings.Replace(r.URL.Path, thing, fmt.Sprintf("%%%x", thing[0])+thing[1:], 1)
		},
		"a path encoded in vain":    func(r *http.Request) { r.URL.RawPath = strings.Replace(r.URL.Path, "things", "%74hings", 1) },
		"a parameter twice":         func(r *http.Request) { r.URL.RawQuery += "&a=b" },
		"a parameter more":          func(r *http.Request) { r.URL.RawQuery += "&c=d" },
		"another value":             func(r *http.Request) { r.URL.RawQuery = "a=c" },
		"another method":            func(r *http.Request) { r.Method = "DELETE" },
		"another host":              func(r *http.Request) { r.Host = "elsewhere" },
		"another body":              func(r *http.Request) { r.Body, r.ContentLength = io.NopCloser(strings.NewReader("{}")), 2 },
		"a header that is unsigned": func(r *http.Request) { r.Header.Set("X-Amz-Target", "x") },
		"host not signed":           func(r *http.Request) { replace(r, "host;", "") },
		"two of them":               func(r *http.Request) { r.Header.Add("Authorization", r.Header.Get("Authorization")) },
		"one in the query, too":     func(r *http.Request) { r.URL.RawQuery += "&X-Amz-Signature=" + signature(r) },
		"the key of another":        func(r *http.Request) { replace(r, f.key, "AKIDOTHER0000000000") },
		"another region":            func(r *http.Request) { replace(r, "/"+f.region+"/", "/mars-1/") },
		"another service":           func(r *http.Request) { replace(r, "/iot/", "/iotdata/") },
	} {
		r := good()
		change(r)
		resp, err := http.DefaultClient.Do(r)
		f.must(err)
		text, err := io.ReadAll(resp.Body)
		f.must(errors.Join(err, resp.Body.Close()))
		if resp.StatusCode != 403 && resp.StatusCode != 400 || strings.Contains(string(text), thing) {
			t.Errorf("API, %s: %d %s", what, resp.StatusCode, text)
		}
	}
	for range 2 { // the same again
		resp, err := http.DefaultClient.Do(good())
		f.must(err)
		f.must(resp.Body.Close())
		if resp.StatusCode != 200 {
			t.Errorf("%d", resp.StatusCode)
		}
	}

	object := func(at time.Time) string { return f.presign("GET", "/"+bucket+"/k", at) }
	for what, url := range map[string]string{
		"expired": object(time.Now().Add(-11 * time.Minute)), "of in an hour": object(time.Now().Add(time.Hour)),
		"another key": strings.Replace(object(time.Now()), bucket+"/k", bucket+"/l", 1), "longer": strings.Replace(object(time.Now()), "Expires=600", "Expires=6000", 1),
		"truncated": object(time.Now())[:len(object(time.Now()))-2], "a parameter more": object(time.Now()) + "&versionId=x", "a date twice": object(time.Now()) + "&X-Amz-Date=20200101T000000Z",
		"a path encoded twice": strings.Replace(object(time.Now()), "/k?", "/%256b?", 1),
	} {
		if status := f.send(http.DefaultClient, "GET", url, ""); status != 403 && status != 400 {
			t.Errorf("object, %s: %d", what, status)
		}
	}
	for method, status := range map[string]int{"PUT": 403, "DELETE": 403, "HEAD": 403, "GET": 200} {
		if got := f.send(http.DefaultClient, method, object(time.Now()), ""); got != status {
			t.Errorf("object, %s by the URL of a GET: %d", method, got)
		}
	}
}

// signAt signs a request anew, as of a time.
func (f *fleet) signAt(r *http.Request, at time.Time) {
	r.Header.Del("Authorization")
	hash := sha256.Sum256(nil)
	f.must(v4.NewSigner().SignHTTP(f.ctx, aws.Credentials{AccessKeyID: f.key, SecretAccessKey: f.secret}, r, hex.EncodeToString(hash[:]), "iot", f.region, at))
}

// TestAttackPaths: names that lead out of where names belong are refused or are only names, at the API, at
// the store of objects and at drover's own operations; nothing appears outside of its folder.
func TestAttackPaths(t *testing.T) {
	t.Parallel()
	f := fleetOn(t, ownServer(t))
	f.must(func() error {
		_, err := f.api.CreateThing(f.ctx, &iot.CreateThingInput{ThingName: aws.String("t")})
		return err
	}())
	bucket := f.newBucket()
	names := []string{"..", "../..", "..%2f..%2f..%2fetc%2fpasswd", "%2e%2e%2f%2e%2e%2fcredentials", "..%5c..%5cx", "%2fetc%2fpasswd", "x%00", "..%252f..%252fcredentials", "....//....//x", "x/../../../credentials"}
	for _, name := range names {
		for _, c := range []struct{ service, method, path string }{
			{"iot", "POST", "/things/NAME"}, {"iot", "PUT", "/jobs/NAME"}, {"iot", "POST", "/thing-groups/NAME"}, {"iot", "POST", "/policies/NAME"}, {"iot", "PUT", "/job-templates/NAME"},
			{"iot", "GET", "/certificates/NAME"}, {"iot", "GET", "/jobs/NAME/job-document"}, {"iot-jobs-data", "GET", "/things/NAME/jobs"}, {"iot-jobs-data", "GET", "/things/t/jobs/NAME"},
			{"iot", "GET", "/_drover/jobs/NAME/downloads"}, {"iot", "GET", "/_drover/NAME"}, {"iot", "GET", "/_drover/audit?target=NAME"}, {"iotdata", "GET", "/retainedMessage/NAME"},
		} {
			resp, err := http.DefaultTransport.RoundTrip(f.signed(c.service, c.method, strings.Replace(c.path, "NAME", name, 1), `{"document":"{}","targets":["x"],"policyDocument":"{}"}`))
			f.must(err)
			text, err := io.ReadAll(resp.Body)
			f.must(errors.Join(err, resp.Body.Close()))
			if resp.StatusCode >= 500 && resp.StatusCode != 501 || resp.StatusCode == 200 && c.method != "GET" || strings.Contains(string(text), "aws_secret_access_key") || strings.Contains(string(text), "root:") {
				t.Errorf("%s %s %s: %d %s", c.method, c.path, name, resp.StatusCode, text)
			}
		}
		for _, path := range []string{"/" + bucket + "/" + name, "/" + name + "/x", "/" + bucket + "%2f" + name} {
			r, err := http.NewRequestWithContext(f.ctx, "PUT", f.presign("PUT", path, time.Now()), strings.NewReader("x"))
			if err != nil {
				continue // no URL
			}
			resp, err := http.DefaultTransport.RoundTrip(r)
			f.must(err)
			f.must(resp.Body.Close())
			if resp.StatusCode >= 500 {
				t.Errorf("PUT %s: %d", path, resp.StatusCode)
			}
		}
	}
	// Objects are in their folder, under names of their own, and the data folder has what it had.
	known := []string{"credentials", "config", "endpoints.json", "secrets.key", "function-secret", "lock"}
	err := filepath.WalkDir(filepath.Dir(f.data), func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		rel, err := filepath.Rel(f.data, path)
		first, _, _ := strings.Cut(rel, string(filepath.Separator))
		if first != "objects" && first != "audit" && !strings.HasPrefix(first, "drover") && !slices.Contains(known, rel) {
			t.Errorf("there is %s", rel)
		}
		return err
	})
	f.must(err)
	if text, err := os.ReadFile(filepath.Join(f.data, "credentials")); err != nil || !strings.Contains(string(text), f.key) {
		t.Errorf("the root key: %v", err)
	}
}

// TestAttackForeignDocument: a device does not get at another one's job document, by MQTT, by HTTPS, or by
// the URL of a file that it was given.
func TestAttackForeignDocument(t *testing.T) {
	oneServer(t, "the object store in the box")
	f := tlsFleet(t)
	bucket := f.newBucket()
	f.putObject(bucket, f.name("mine"), []byte("for me"))
	f.putObject(bucket, f.name("other"), []byte("for the other"))
	mine, other := f.thing("mine"), f.thing("other")
	c := f.newCertificate(true)
	f.must(f.attach(mine, c.id, ""))
	own := "$aws/things/${iot:Connection.Thing.ThingName}/jobs/*"
	f.must(f.attachPolicy(f.policy("device", f.say("Allow", "iot:Connect", "client/*"), f.say("Allow", "iot:Publish", "topic/"+own), f.say("Allow", "iot:Receive", "topic/"+own),
		f.say("Allow", "iot:Subscribe", "topicfilter/"+own), f.say("Allow", "iotjobsdata:*", "thing/"+mine)), f.certARN(c.id)))
	secret := f.job("secret", []string{f.thingARN(other)}, func(in *iot.CreateJobInput) { in.Document = aws.String(`{"password":"hunter2"}`) })

	// By MQTT: as itself, and with the other one's name as the client id.
	for _, id := range []string{mine, other} {
		d, err := f.overTLS(f.mqtts, f.config(with(c)), id, 5)
		f.must(err)
		for _, filter := range []string{"$aws/things/" + other + "/jobs/#", "$aws/things/+/jobs/#", "$aws/things/#", "#", "$share/g/$aws/things/" + other + "/jobs/#", "+/things/" + other + "/jobs/#"} {
			if d.subscribe(filter, 1) == nil {
				t.Errorf("as %s subscribed to %s", id, filter)
			}
		}
		for _, topic := range []string{"get", "$next/get", secret + "/get", "start-next", secret + "/update"} {
			if d.publish("$aws/things/"+other+"/jobs/"+topic, `{"status":"SUCCEEDED","includeJobDocument":true}`, 1) == nil {
				t.Errorf("as %s published to %s", id, topic)
			}
		}
		d.disconnect()
	}
	// By HTTPS.
	client := f.httpClient(f.config(with(c)))
	for path, method := range map[string]string{"/jobs": "GET", "/jobs/$next": "PUT", "/jobs/" + secret: "GET", "/jobs/$next?includeJobDocument=true": "GET"} {
		for _, thing := range []string{other, mine + "/../" + other, mine + "%2f..%2f" + other} {
			if status := f.send(client, method, f.deviceHTTPS+"/things/"+thing+path, `{}`); status != 403 && status != 404 && status != 400 {
				t.Errorf("%s /things/%s%s: %d", method, thing, path, status)
			}
		}
	}
	if status := f.send(client, "GET", f.deviceHTTPS+"/things/"+mine+"/jobs", ""); status != 200 {
		t.Errorf("its own: %d", status)
	}
	// The job of the other one has not noticed.
	f.executionStatus(other, secret, types.JobExecutionStatusQueued)

	// By the URL of its own file.
	f.job("file", []string{f.thingARN(mine)}, func(in *iot.CreateJobInput) {
		in.Document = aws.String(fmt.Sprintf(`{"file":"${aws:iot:s3-presigned-url:https://s3.%s.amazonaws.com/%s/%s}"}`, f.region, bucket, f.name("mine")))
		in.PresignedUrlConfig = &types.PresignedUrlConfig{RoleArn: aws.String(role)}
	})
	d, err := f.overTLS(f.mqtts, f.config(with(c)), mine, 5)
	f.must(err)
	d.listen("#")
	link, _ := path(d.accepted("start-next", `{}`), "execution", "jobDocument", "file").(string)
	if status := f.send(http.DefaultClient, "GET", link, ""); status != 200 {
		t.Fatalf("its own file: %d by %s", status, link)
	}
	for what, url := range map[string]string{
		"another file": strings.Replace(link, "/"+f.name("mine"), "/"+f.name("other"), 1), "the bucket": strings.Replace(link, "/"+f.name("mine"), "/", 1),
		"as another thing": strings.Replace(link, "thing="+mine, "thing="+other, 1) + "&x=y", "a way out": strings.Replace(link, "/"+f.name("mine"), "/"+f.name("mine")+"/../"+f.name("other"), 1),
	} {
		if url == link {
			t.Errorf("%s: nothing changed in %s", what, link)
		}
		r, err := http.NewRequestWithContext(f.ctx, "GET", url, nil)
		f.must(err)
		resp, err := http.DefaultTransport.RoundTrip(r)
		f.must(err)
		f.must(resp.Body.Close())
		if resp.StatusCode != 403 {
			t.Errorf("%s: %d", what, resp.StatusCode)
		}
	}
}

// trickle sends a text, a byte now and then, until the other end closes, and returns how long that took.
func trickle(t *testing.T, conn net.Conn, text string) time.Duration {
	t.Helper()
	began := time.Now()
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		_, _ = io.Copy(io.Discard, conn) // until it ends, however
	}()
	tick := time.NewTicker(500 * time.Millisecond)
	defer tick.Stop()
	for i := 0; ; i++ {
		select {
		case <-ended:
			return time.Since(began)
		case <-tick.C:
			if _, err := io.WriteString(conn, text[i%len(text):i%len(text)+1]); err != nil {
				return time.Since(began)
			}
		}
		if time.Since(began) > 2*patience {
			return time.Since(began)
		}
	}
}

// TestAttackSlowloris: whoever says a little now and then is closed within seconds, at every listener,
// in every state before it has shown who it is; others are served meanwhile.
func TestAttackSlowloris(t *testing.T) {
	f := tlsFleet(t)
	c := f.newCertificate(true)
	plain := func(url string) func() (net.Conn, error) {
		return func() (net.Conn, error) { return net.Dial("tcp", address(url)) }
	}
	over := func(url string, options ...func(*tls.Config)) func() (net.Conn, error) {
		return func() (net.Conn, error) { return f.dialTLS(url, f.config(options...)) }
	}
	const request, hello = "GET /things HTTP/1.1\r\nHost: h\r\nX-A: aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa", "\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
	connect := string(mq.Connect{Version: 5, ID: f.name(strings.Repeat("slow", 20))}.Encode())
	var all sync.WaitGroup
	for what, a := range map[string]struct {
		dial func() (net.Conn, error)
		text string
	}{
		"HTTP": {plain(f.http), request}, "MQTT": {plain(f.mqtt), connect},
		"MQTT, before TLS": {plain(f.mqtts), hello}, "HTTPS of devices, before TLS": {plain(f.deviceHTTPS), hello}, "all by ALPN, before TLS": {plain(f.alpn), hello},
		"MQTT over TLS": {over(f.mqtts, with(c)), connect}, "HTTPS of devices": {over(f.deviceHTTPS, with(c)), request}, "API": {over(f.alpn), request},
		"MQTT by ALPN": {over(f.alpn, with(c), protocols("x-amzn-mqtt-ca")), connect}, "MQTT with a password": {over(f.alpn, protocols("mqtt")), connect}, "HTTPS of devices by ALPN": {over(f.alpn, with(c), protocols("x-amzn-http-ca")), request},
	} {
		all.Go(func() {
			conn, err := a.dial()
			if err != nil {
				t.Errorf("%s: %v", what, err)
				return
			}
			if took := trickle(t, conn, a.text); took > patience {
				t.Errorf("%s: closed after %s", what, took)
			}
			_ = conn.Close() // the other end has
		})
	}
	all.Go(func() { // a WebSocket whose client never says CONNECT
		ws, err := net.Dial("tcp", address(f.http))
		if err != nil {
			t.Error(err)
			return
		}
		_, err = io.WriteString(ws, "GET /mqtt HTTP/1.1\r\nHost: "+address(f.http)+"\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Protocol: mqtt\r\n\r\n")
		if took := trickle(t, ws, "\x82\xfe\x01"); err != nil || took > patience {
			t.Errorf("WebSocket: closed after %s, %v", took, err)
		}
		_ = ws.Close()
	})
	for range 5 {
		if code, _, answer := f.call("iot", "GET", "/things", ""); code != 200 {
			t.Errorf("%d %v", code, answer)
		}
		f.works(f.mqtts, f.config(with(c)))
	}
	all.Wait()
}

// TestAttackHalfOpen: ten thousand connections that say nothing, or half of something, cost a bounded
// amount of memory, keep nobody out and leave nothing.
func TestAttackHalfOpen(t *testing.T) {
	t.Parallel()
	n := 10_000
	var limit syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil {
		t.Fatal(err)
	}
	n = min(n, int(limit.Cur)-2_000)
	if n < 1000 {
		t.Skipf("%d open files are too few", limit.Cur)
	}
	f := fleetOn(t, ownServer(t, tlsFlags...))
	c := f.newCertificate(true)
	f.works(f.mqtts, f.config(with(c)))
	goroutines, files := f.gauge(t, "go_goroutines"), f.gauge(t, "process_open_fds")
	for _, door := range []struct {
		name, url, text string
		most            float64 // bytes of memory for each
	}{
		{"TLS", f.mqtts, "\x16\x03\x01", 8 << 10},
		{"HTTP", f.http, "GET / HTTP/1.1\r\nX: ", 24 << 10},
		{"MQTT", f.mqtt, "\x10\x20", 24 << 10},
	} {
		before, _ := f.memory(t)
		var conns []net.Conn
		for range n {
			conn, err := net.Dial("tcp", address(door.url))
			f.must(err)
			conns = append(conns, conn)
			if _, err := io.WriteString(conn, door.text); err != nil && !mq.Gone(err) {
				t.Fatal(err)
			}
		}
		began := time.Now()
		if code, _, answer := f.call("iot", "GET", "/things", ""); code != 200 {
			t.Errorf("%s: %d %v", door.name, code, answer)
		}
		f.works(f.mqtts, f.config(with(c)))
		served := time.Since(began)
		now, _ := f.memory(t)
		t.Logf("%s: %d half open, %.1f KiB of memory each; others were served in %s", door.name, n, float64(now-before)/1024/float64(n), served)
		if now-before > int64(door.most)*int64(n) {
			t.Errorf("%s: memory grew from %d to %d", door.name, before, now)
		}
		for _, conn := range conns {
			f.must(conn.Close())
		}
		nothingLeft(f, goroutines, files)
	}
}
