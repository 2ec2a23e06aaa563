package policy

import (
	"strings"
	"testing"
)

func TestParseRefuses(t *testing.T) {
	t.Parallel()
	const good = `"Effect":"Allow","Action":"iot:*","Resource":"*"`
	statement := func(text string) string { return `{"Statement":{` + text + `}}` }
	for text, want := range map[string]string{
		"":                         "the document ends too early",
		"{":                        "the document ends too early",
		"{} {}":                    "behind the end",
		"[]":                       "not an object",
		"\xff":                     "not UTF-8",
		`{}`:                       "Statement is missing or empty",
		`{"Statement":[]}`:         "Statement is missing or empty",
		`{"Statement":["x"]}`:      "statement 1: must be an object",
		`{"Statement":{},"x":1}`:   `unknown element "x"`,
		`{"Version":"2013-10-17"}`: "Version must be",
		`{"Version":2012}`:         "Version must be",
		`{"Id":1}`:                 "Id must be a string",
		`{"Id":"a","Id":"a"}`:      `"Id" is there twice`,
		statement(`"Effect":"Allow","Resource":"*"`):                           "needs one of Action and NotAction",
		statement(good + `,"NotAction":"iot:x"`):                               "needs one of Action and NotAction",
		statement(`"Effect":"Allow","Action":"*"`):                             "needs one of Resource and NotResource",
		statement(`"Action":"*","Resource":"*"`):                               "Effect is missing",
		statement(`"Effect":"allow","Action":"*","Resource":"*"`):              `Effect must be "Allow" or "Deny"`,
		statement(good + `,"Principal":"*"`):                                   `unknown element "Principal"`,
		statement(good + `,"Sid":1`):                                           "Sid must be a string",
		statement(`"Effect":"Allow","Action":[],"Resource":"*"`):               "Action must not be empty",
		statement(`"Effect":"Allow","Action":1,"Resource":"*"`):                "Action must be a string",
		statement(`"Effect":"Allow","Action":"Publish","Resource":"*"`):        `"Publish" is not an action`,
		statement(`"Effect":"Allow","Action":"*","Resource":["*","topic"]`):    `"topic" is neither an ARN`,
		statement(`"Effect":"Allow","Action":"*","Resource":"arn:${a"`):        "does not end with }",
		statement(good + `,"Condition":[]`):                                    "Condition must be an object",
		statement(good + `,"Condition":{"StringEquals":1}`):                    `"StringEquals" must be an object`,
		statement(good + `,"Condition":{"StringIs":{"a":"b"}}`):                `unknown condition operator "StringIs"`,
		statement(good + `,"Condition":{"ForSome:StringEquals":{"a":"b"}}`):    "unknown condition operator",
		statement(good + `,"Condition":{"NullIfExists":{"a":"true"}}`):         "unknown condition operator",
		statement(good + `,"Condition":{"StringEquals":{"":"b"}}`):             "a key without a name",
		statement(good + `,"Condition":{"StringEquals":{"a":null}}`):           "must be a string or a list of strings",
		statement(good + `,"Condition":{"StringEquals":{"a":{}}}`):             "must be a string or a list of strings",
		statement(good + `,"Condition":{"Bool":{"a":"yes"}}`):                  `"yes" is neither true nor false`,
		statement(good + `,"Condition":{"NumericEquals":{"a":"NaN"}}`):         `"NaN" is not a number`,
		statement(good + `,"Condition":{"DateEquals":{"a":"soon"}}`):           `"soon" is not a date`,
		statement(good + `,"Condition":{"IpAddress":{"aws:SourceIp":"10/8"}}`): `"10/8" is not an IP address`,
		strings.Repeat("[", 100):                                               "too many levels",
	} {
		if _, err := Parse(text, DeviceLimit); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", text, err, want)
		}
	}
}

// TestParseLimit: white space does not count (identity spec §5.2).
func TestParseLimit(t *testing.T) {
	t.Parallel()
	document := func(n int, space string) string {
		frame := `{"Statement":{"Effect":"Allow","Action":"iot:Publish","Resource":"arn:"}}`
		return strings.Replace(frame, "arn:", "arn:"+strings.Repeat("ä", n-len(frame)), 1) + space
	}
	if _, err := Parse(document(2048, strings.Repeat(" \n", 1000)), DeviceLimit); err != nil {
		t.Error(err)
	}
	if _, err := Parse(document(2049, ""), DeviceLimit); err == nil || !strings.Contains(err.Error(), "2049 characters that are not white space; the limit is 2048") {
		t.Error(err)
	}
	if _, err := Parse(document(2048, strings.Repeat(" ", maxRaw)), DeviceLimit); err == nil || !strings.Contains(err.Error(), "the limit is 404600") {
		t.Error(err)
	}
}

func FuzzParse(f *testing.F) {
	f.Add(`{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":["iot:*"],"NotResource":"arn:aws:iot:*:*:topic/${iot:ClientId}/?","Condition":{"StringLike":{"iot:ClientId":["a*",1,true]}}}]}`)
	f.Add(`{"Statement":{"Effect":"Deny","NotAction":"*","Resource":"*","Condition":{"ForAllValues:ArnLikeIfExists":{"iot:LastWillTopic":"arn:aws:iot:*:${iot:Certificate.Subject.CommonName.1}:topic/*"},"IpAddress":{"aws:SourceIp":"::/0"},"DateLessThan":{"aws:CurrentTime":"2026-01-01"}}}}`)
	f.Fuzz(func(t *testing.T, text string) {
		p, err := Parse(text, DeviceLimit)
		if err != nil {
			if p != nil || err.Error() == "" || len(err.Error()) > 1000 {
				t.Errorf("%v, %v", p, err)
			}
			return
		}
		for _, c := range []*Context{nil, {}, device("c1")} {
			r := publish("a", c)
			d := p.Decide(r)
			if (d.Outcome == ImplicitDeny) != (d.Statement < 0) {
				t.Errorf("%+v", d)
			}
			p.Missing(r)
		}
	})
}
