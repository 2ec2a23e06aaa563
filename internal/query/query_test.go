package query_test

import (
	"strings"
	"testing"

	"drover/internal/iot"
	"drover/internal/query"
)

var everything = query.Sources{Connectivity: true, Packages: true}

// pumps are documents by name, as the fields of things.
var pumps = map[string]query.Document{
	"tv1": {"thingName": {"tv1"}, "thingTypeName": {"Pump"}, "thingGroupNames": {"prod", "lights1"}, "attributes.color": {"Red"}, "attributes.wattage": {"75.0"},
		"attributes.model": {"legacy"}, "connectivity.connected": {"true"}, "connectivity.timestamp": {"1557651600001"},
		"shadow.name.$package.reported.agent.version": {"1.0.0"}, "shadow.name.$package.reported.agent.attributes.packageID": {"1600"}},
	"tv-plasma": {"thingName": {"tv-plasma"}, "attributes.color": {"blue"}, "attributes.wattage": {"-5"}, "attributes.serial": {"abce"},
		"connectivity.connected": {"false"}, "connectivity.timestamp": {"1557651600000"}, "connectivity.disconnectReason": {"CONNECTION_LOST"},
		"attributes.time": {"12:30"}},
	"007":   {"thingName": {"007"}, "attributes.wattage": {"80"}, "attributes.a1": {"abc"}, "attributes.a2": {"4"}, "attributes.list": {"1", "2"}},
	"plain": {"thingName": {"plain"}, "attributes.city": {"New  York City"}, "attributes.wattage": {"lots"}, "attributes.a1": {"abc"}, "attributes.a2": {"7.5e1"}},
}

// TestQueries: who matches (spec §5.6, §5.7).
func TestQueries(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		"*":                                    "007 plain tv-plasma tv1",
		"abc":                                  "007 plain",
		"ABC":                                  "007 plain",
		`"new york"`:                           "plain",
		`attributes.city:"york city"`:          "plain",
		`attributes.city:"new city"`:           "",
		`"york  NEW"`:                          "",
		"york":                                 "plain",
		"attributes.city:n*k":                  "",
		"attributes.city:n*w":                  "plain",
		"thingName:TV1":                        "tv1",
		"thingName:tv*":                        "tv-plasma tv1",
		"thingName:tv?":                        "tv1",
		"thingName:*plasma":                    "tv-plasma",
		"thingName:(tv* AND -tv-plasma)":       "tv1",
		"thingName:(tv1 OR 007 OR c)":          "007 tv1",
		"thingName:7":                          "",
		"thingTypeName:pump":                   "tv1",
		"registry.thingTypeName:pump":          "tv1",
		"NOT thingTypeName:*":                  "007 plain tv-plasma",
		"thingGroupNames:prod":                 "tv1",
		"-thingGroupNames:*":                   "007 plain tv-plasma",
		"–thingGroupNames:*":                   "007 plain tv-plasma",
		"attributes.color:red":                 "tv1",
		"attributes.Color:red":                 "",
		"attributes.color=red":                 "tv1",
		"attributes.wattage:75":                "tv1",
		"attributes.wattage:75.0":              "tv1",
		"attributes.wattage:[75 TO 80]":        "007 tv1",
		"attributes.wattage:{75 TO 80]":        "007",
		"attributes.wattage:{75 TO 80}":        "",
		"attributes.wattage:[75 TO *]":         "007 tv1",
		"attributes.wattage:[* TO 75]":         "tv-plasma tv1",
		"attributes.wattage:[* TO *]":          "007 tv-plasma tv1",
		"attributes.wattage:-5":                "tv-plasma",
		"attributes.wattage: [ -5 TO 0]":       "tv-plasma",
		"attributes.wattage<=-5":               "tv-plasma",
		`attributes.wattage:(\-5 OR 80)`:       "007 tv-plasma",
		`attributes.wattage:["75" TO z]`:       "007 plain tv1",
		`attributes.serial:["abcd" TO "abcf"]`: "tv-plasma",
		"attributes.a1:abc AND attributes.a2<5 NOT attributes.a3>10": "007",
		"NOT attributes.model:legacy":                                "007 plain tv-plasma",
		"attributes.color:(red OR blue) attributes.wattage<0":        "tv-plasma",
		"(thingName:tv1 OR thingName:007) AND attributes.a2>3":       "007",
		"thingName:tv1 OR thingName:007 AND attributes.a2>30":        "tv1",
		"attributes.list:2":           "007",
		"attributes.a2:75":            "plain",
		"connectivity.connected:TRUE": "tv1",
		"connectivity.connected : false AND connectivity.timestamp : [1557651600000 TO 1557867600000]": "tv-plasma",
		"connectivity.timestamp > 1557651600000":                                                       "tv1",
		"connectivity.disconnectReason:connection_lost":                                                "tv-plasma",
		"CONNECTION_LOST": "",
		"true":            "",
		"shadow.name.$package.reported.agent.version:1.0.0 AND NOT shadow.name.$package.reported.lib.version:*": "tv1",
		"shadow.name.$package.reported.*.attributes.packageID>1500":                                             "tv1",
		`attributes.time:"12:30"`: "tv-plasma",
		`attributes.time:12\:30`:  "tv-plasma",
		`thingName:tv\-plasma`:    "tv-plasma",
		`thingName:tv\*`:          "",
		"and":                     "",
		"thingName:AND":           "",
		"attributes.never:x":      "",
		"NOT (a OR b)":            "007 plain tv-plasma tv1",
	} {
		q, err := query.Parse(text, iot.ThingsIndex, everything, query.Limits{})
		if err != nil {
			t.Errorf("%s: %v", text, err)
			continue
		}
		var found []string
		for _, name := range []string{"007", "plain", "tv-plasma", "tv1"} {
			if q.Matches(pumps[name]) {
				found = append(found, name)
			}
		}
		if got := strings.Join(found, " "); got != want {
			t.Errorf("%s: %q, want %q", text, got, want)
		}
	}
}

// TestRefusals: what is no query, and where (spec §5.6).
func TestRefusals(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		"":                                      "character 1: it is blank",
		"  ":                                    "character 1: it is blank",
		"(a OR b":                               "character 8: a closing parenthesis is missing",
		"a)":                                    `character 2: ")" is not expected here`,
		"a AND":                                 "character 6: it ends where",
		"AND a":                                 "character 1: a word for something to search for is missing",
		"a OR OR b":                             "character 6: a word for something",
		"attributes.a:[1 2]":                    "character 17: TO is missing",
		"attributes.a:[1 TO 2":                  "character 21: the range has to be closed",
		"attributes.a<b":                        "character 14: < needs a number",
		"registry.version:1":                    "character 1: the field registry.version can be aggregated",
		"shadow.reported.x:1":                   "character 1: shadows other than",
		"deviceDefender.x:1":                    "character 1: violations",
		"color:red":                             "character 1: there is no field color",
		"attributes..x:red":                     "character 1: the name of a field has an empty part",
		"a'b":                                   `character 2: "'" is not supported`,
		"a~":                                    `character 2: "~" is not supported`,
		`"abc`:                                  "character 1: the quotes are not closed",
		`""`:                                    "character 1: there is nothing in the quotes",
		`abc\`:                                  "character 4: a character has to follow",
		"- a":                                   "character 1: what is to be excluded",
		"NOT -a":                                "character 5: this has been negated already",
		"*a *b":                                 "character 4: only one word",
		"*" + strings.Repeat("a", 100):          "character 1: a word may begin with a wildcard in queries of at most 100",
		"a*b*c*d":                               "character 1: a word can have 2 times",
		"a??????":                               "character 1: a word can have 5 times",
		"a b c d e f g h i j k l m":             "character 25: there are more than 12 terms",
		"thingName:(a b c d e f g h i j k l m)": "character 36: there are more than 12 terms",
		"shadow.name.$package.reported.x.version>1":             "character 40: versions of packages have no order",
		strings.Repeat("(", 60) + "a" + strings.Repeat(")", 60): "there are more than 50 parentheses",
		strings.Repeat("a", 1001):                               "it is longer than 1000 bytes",
		"a\xff":                                                 "it is not UTF-8",
	} {
		q, err := query.Parse(text, iot.ThingsIndex, everything, query.Limits{})
		if err == nil {
			t.Errorf("%s: accepted as %v", text, q.Root)
		} else if !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %q, want %q", text, err, want)
		}
	}
	if _, err := query.Parse("connectivity.connected:true", iot.ThingsIndex, query.Sources{}, query.Limits{}); err == nil {
		t.Error("connectivity is not indexed")
	}
	if _, err := query.Parse("thingName:x", iot.GroupsIndex, everything, query.Limits{}); err == nil {
		t.Error("groups have no thingName")
	}
}

func FuzzParse(f *testing.F) {
	f.Add(`(a OR "b c") AND -attributes.x:[1 TO *} NOT thingName:(x* OR ?y)`)
	f.Add(`attributes.x>=-1e5 \* "\""`)
	f.Fuzz(func(t *testing.T, text string) {
		q, err := query.Parse(text, iot.ThingsIndex, everything, query.Limits{})
		if (q == nil) == (err == nil) {
			t.Fatal("neither a query nor an error, or both")
		}
		if q != nil {
			for _, d := range pumps {
				q.Matches(d)
			}
		}
	})
}
