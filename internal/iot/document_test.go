package iot

import (
	"strings"
	"testing"
)

func TestCheckDocument(t *testing.T) {
	fits := `{"k":"` + strings.Repeat("v", MaxDocument-8) + `"}`
	const notJSON, notObject = "The job document is not valid JSON", "The job document must be a JSON object"
	for _, test := range []struct{ name, doc, want string }{
		{"object", " \t\r\n{\"a\":1}\n", ""},
		{"32768 bytes", fits, ""},
		{"32769 bytes", fits + " ", "The job document has 32769 bytes; the limit is 32768"},
		{"empty", "", notJSON},
		{"blank", " ", notJSON},
		{"not JSON", "{bad", notJSON},
		{"two values", "{}{}", notJSON},
		{"array", "[1]", notObject},
		{"string", `"x"`, notObject},
		{"number", " 1", notObject},
		{"not UTF-8", "{\"a\":\"\xff\"}", "The job document is not valid UTF-8"},
		{"text with a dollar", `{"u":"${HOME} ${aws:s3:x}"}`, ""},
		{
			"placeholder", `{"u":"${aws:iot:s3-presigned-url:https://s3.amazonaws.com/b/k}"}`,
			`The job document holds the placeholder "${aws:iot:s3-presigned-url:https://s3.amazonaws.com/b/k}\"}"; drover does not substitute placeholders yet`,
		},
	} {
		checkError(t, test.name, CheckDocument(test.doc), test.want)
	}
}
