package console

import (
	"net/http"
	"net/url"
	"strconv"
	"strings"

	"drover/internal/iot"
)

// A sheet is a page of which nothing is special: facts, tables and forms. What the API has and few look at every day is
// shown so: packages, commands, streams, updates, billing groups, users.
type sheet struct {
	Title, Hint, Error string
	Actions            []link
	Facts              []fact
	Code               []codeBlock
	Tables             []table
	Forms              []form
	Next               string // of a list that has more pages
	First              bool
	Base               string
}

type fact struct {
	Name  string
	Value cell
}

// cell is a value: a status, a time, a link, code, or text.
type cell struct {
	Text, URL, Pill string
	At              iot.Time
	Code            bool
}

type codeBlock struct{ Title, Text string }

type table struct {
	Title, Label string // Label is for those who do not see it
	Head         []string
	Rows         [][]cell
	Empty        string
}

// form is sent to the page that it is on, or to Path; Do says what is to be done.
type form struct {
	Title, Hint, Do, Button, Path string
	Danger                        bool
	Fields                        []field
}

// field is of a kind that HTML has for inputs, or area or select.
type field struct {
	Label, Name, Value, Kind string
	Options                  []string
	Required                 bool
}

func plain(s string) cell       { return cell{Text: s} }
func when(s seconds) cell       { return cell{At: s.Time()} }
func to(text, path string) cell { return cell{Text: text, URL: Path + path} }
func facts(pairs ...any) []fact {
	var list []fact
	for i := 0; i+1 < len(pairs); i += 2 {
		value, name := pairs[i+1].(cell), pairs[i].(string)
		if value != (cell{}) {
			list = append(list, fact{name, value})
		}
	}
	return list
}

func (r *request) sheet(s sheet) error {
	status := http.StatusOK
	if s.Error != "" {
		status = http.StatusBadRequest
	}
	return r.render(status, "sheet", s.Title, s)
}

// onPage asks for a page of a list of the kind that has tokens, and says how to show where it is.
func (r *request) onPage(s *sheet, size int) url.Values {
	q := url.Values{"maxResults": {strconv.Itoa(size)}}
	s.First, s.Base = true, r.URL.Path
	if after := r.FormValue("after"); after != "" {
		q.Set("nextToken", after)
		s.First = false
	}
	return q
}

// orders are what forms of a page can ask for, by what they call it. One returns where to go then.
type orders map[string]func() (back string, err error)

// do does what a form asks for. What its sender can mend is told on the page that show makes.
func (r *request) do(all orders, show func(sheet) error) error {
	deed, ok := all[r.FormValue("do")]
	if !ok {
		return r.nowhere()
	}
	back, err := deed()
	if err != nil {
		why, known := told(err)
		if !known {
			return err
		}
		return show(sheet{Error: why})
	}
	if back == "" {
		return nil // it has answered
	}
	return r.redirect(back)
}

// sure has the reader confirm what cannot be undone, before deed does it.
func (r *request) sure(title, what, why, verb, back string, deed func() error) func() (string, error) {
	return func() (string, error) {
		if r.FormValue("sure") == "" {
			return "", r.confirm(confirmation{Title: title, What: what, Text: why, Verb: verb, Back: r.URL.Path, Hidden: [][2]string{{"do", r.FormValue("do")}, {"sure", "yes"}}})
		}
		if err := deed(); err != nil {
			return "", err
		}
		return back, nil
	}
}

// field returns a value of a form without the blanks around it.
func (r *request) field(name string) string { return strings.TrimSpace(r.FormValue(name)) }

// pairs reads lines of the form name=value.
func pairs(lines string) (map[string]string, error) {
	m := make(map[string]string)
	for line := range strings.Lines(lines) {
		if line = strings.TrimSpace(line); line == "" {
			continue
		}
		name, value, ok := strings.Cut(line, "=")
		if !ok {
			return nil, iot.Errorf(iot.InvalidRequest, "%q is not name=value", line)
		}
		m[strings.TrimSpace(name)] = strings.TrimSpace(value)
	}
	return m, nil
}

// more leads to what has no place of its own at the top.
func (r *request) more() error {
	t := table{Label: "Pages", Head: []string{"Page", "What is there"}}
	for _, p := range []struct{ path, name, what, action string }{
		{"packages", "Software packages", "versions, which of them jobs install, and what they consist of", "iot:ListPackages"},
		{"commands", "Commands", "devices are told to do something now", "iot:ListCommands"},
		{"updates", "OTA updates", "files for FreeRTOS devices, as jobs", "iot:ListOTAUpdates"},
		{"streams", "Streams", "files that devices fetch over MQTT", "iot:ListStreams"},
		{"billing-groups", "Billing groups", "things for which somebody pays", "iot:ListBillingGroups"},
		{"users", "Users", "people who sign in here with a password", "drover:ManageUsers"},
	} {
		if r.can(p.action, "*") {
			t.Rows = append(t.Rows, []cell{to(p.name, p.path), plain(p.what)})
		}
	}
	return r.sheet(sheet{Title: "More", Tables: []table{t}, First: true})
}
