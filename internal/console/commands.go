package console

import (
	"bytes"
	"encoding/json"
	"net/http"
	"net/url"
	"strings"
	"time"
	"unicode/utf8"

	"drover/internal/iot"
)

// Commands: what devices are told to do now, and what came of it.

// commandInfo is one as the API describes it.
type commandInfo struct {
	ID         string  `json:"commandId"`
	ARN        string  `json:"commandArn"`
	Name       string  `json:"displayName"`
	Text       string  `json:"description"`
	Deprecated bool    `json:"deprecated"`
	Pending    bool    `json:"pendingDeletion"`
	Created    seconds `json:"createdAt"`
	Template   string  `json:"payloadTemplate"`
	Payload    *struct {
		Content []byte `json:"content"`
		Type    string `json:"contentType"`
	} `json:"payload"`
	Parameters json.RawMessage `json:"mandatoryParameters"`
}

// status is a word for how a command is.
func (c *commandInfo) status() string {
	switch {
	case c.Pending:
		return "DELETION_IN_PROGRESS"
	case c.Deprecated:
		return "DEPRECATED"
	}
	return "ACTIVE"
}

// commandExecution is one as the API describes it.
type commandExecution struct {
	ID      string  `json:"executionId"`
	Command string  `json:"commandArn"`
	Target  string  `json:"targetArn"`
	Status  string  `json:"status"`
	Created seconds `json:"createdAt"`
	Started seconds `json:"startedAt"`
	Ended   seconds `json:"completedAt"`
	Reason  *struct {
		Code string `json:"reasonCode"`
		Text string `json:"reasonDescription"`
	} `json:"statusReason"`
	Result     map[string]json.RawMessage `json:"result"`
	Parameters json.RawMessage            `json:"parameters"`
	Timeout    int64                      `json:"executionTimeoutSeconds"`
}

func (r *request) commands() error { return r.showCommands(sheet{}) }

func (r *request) showCommands(s sheet) error {
	s.Title, s.Hint = "Commands", "Devices that are connected are told to do something now, and say what came of it."
	var out struct {
		Commands []commandInfo
		Next     string `json:"nextToken"`
	}
	if err := r.call(http.MethodGet, "/commands", r.onPage(&s, 50), nil, &out); err != nil {
		return err
	}
	t := table{Label: "Commands", Head: []string{"Command", "Name", "Status", "Created"}, Empty: "There are no commands."}
	for _, c := range out.Commands {
		t.Rows = append(t.Rows, []cell{to(c.ID, "commands/"+url.PathEscape(c.ID)), plain(c.Name), {Pill: c.status()}, when(c.Created)})
	}
	s.Tables, s.Next = []table{t}, out.Next
	if r.can("iot:CreateCommand", r.Realm.ARN(iot.KindCommand, "*")) {
		kind := r.field("type")
		if kind == "" {
			kind = "application/json"
		}
		s.Forms = []form{{Title: "New command", Hint: "Its payload is sent to devices as it is. Templates and parameters are for the API.", Do: "create", Button: "Create the command", Fields: []field{
			{Label: "Id", Name: "id", Value: r.field("id"), Required: true}, {Label: "Name", Name: "name", Value: r.field("name")},
			{Label: "Content type", Name: "type", Value: kind, Required: true}, {Label: "Payload", Name: "payload", Kind: "area", Value: r.FormValue("payload"), Required: true},
		}}}
	}
	return r.sheet(s)
}

func (r *request) doCommands() error {
	return r.do(orders{"create": func() (string, error) {
		id := url.PathEscape(r.field("id"))
		in := map[string]any{"payload": map[string]any{"content": []byte(r.FormValue("payload")), "contentType": r.field("type")}}
		if name := r.field("name"); name != "" {
			in["displayName"] = name
		}
		return Path + "commands/" + id, r.call(http.MethodPut, "/commands/"+id, nil, in, nil)
	}}, r.showCommands)
}

func (r *request) commandPage() error { return r.showCommand(sheet{}) }

func (r *request) showCommand(s sheet) error {
	id := r.PathValue("id")
	var c commandInfo
	if err := r.call(http.MethodGet, "/commands/"+url.PathEscape(id), nil, nil, &c); err != nil {
		return err
	}
	s.Title = "Command " + id
	s.Facts = facts("Name", plain(c.Name), "Description", plain(c.Text), "Status", cell{Pill: c.status()}, "Created", when(c.Created), "ARN", cell{Text: c.ARN, Code: true})
	if p := c.Payload; p != nil {
		s.Facts = append(s.Facts, facts("Content type", plain(p.Type))...)
		shown := "It is not text."
		if utf8.Valid(p.Content) {
			shown = pretty(string(p.Content))
		}
		s.Code = append(s.Code, codeBlock{"Payload", shown})
	}
	if c.Template != "" {
		s.Code = append(s.Code, codeBlock{"Template", pretty(c.Template)})
	}
	if len(c.Parameters) > 0 {
		s.Code = append(s.Code, codeBlock{"Parameters", pretty(string(c.Parameters))})
	}
	s.First, s.Base = true, r.URL.Path
	if r.can("iot:ListCommandExecutions", c.ARN) {
		if err := r.executionsOf(&s, c.ARN); err != nil {
			return err
		}
	}
	if r.can("iot:StartCommandExecution", c.ARN) && !c.Deprecated && !c.Pending && (len(c.Parameters) == 0 || string(c.Parameters) == "null") {
		s.Forms = append(s.Forms, form{Title: "Send it to a thing", Hint: "The device gets it if it is connected, and has as many seconds to say what came of it.", Do: "start", Button: "Send", Fields: []field{
			{Label: "Thing", Name: "thing", Value: r.field("thing"), Required: true}, {Label: "Seconds", Name: "timeout", Value: "10", Kind: "number", Required: true},
		}})
	}
	if r.can("iot:DeleteCommand", c.ARN) {
		s.Forms = append(s.Forms, form{Title: "Delete the command", Do: "delete", Button: "Delete…", Danger: true})
	}
	return r.sheet(s)
}

// executionsOf adds the executions of a command, the newest first.
func (r *request) executionsOf(s *sheet, arn string) error {
	var out struct {
		Executions []commandExecution `json:"commandExecutions"`
		Next       string             `json:"nextToken"`
	}
	in := map[string]any{"commandArn": arn, "sortOrder": "DESCENDING", "startedTimeFilter": map[string]string{"after": "2000-01-01T00:00"}}
	if err := r.call(http.MethodPost, "/command-executions", r.onPage(s, 50), in, &out); err != nil {
		return err
	}
	t := table{Title: "Executions", Label: "Executions", Head: []string{"Execution", "On", "Status", "Started", "Ended"}, Empty: "It has not been sent to any device."}
	for _, x := range out.Executions {
		on := r.links([]string{x.Target})[0]
		link := "commands/" + url.PathEscape(r.PathValue("id")) + "/" + url.PathEscape(x.ID) + "?target=" + url.QueryEscape(x.Target)
		t.Rows = append(t.Rows, []cell{to(shortened(x.ID), link), {Text: on.Text, URL: on.URL}, {Pill: x.Status}, when(x.Started), when(x.Ended)})
	}
	s.Tables, s.Next = append(s.Tables, t), out.Next
	return nil
}

// jobsHost is a host by which the API knows that the plane of devices is asked, which starts commands.
const jobsHost = "data.jobs.iot.console"

func (r *request) doCommand() error {
	id := r.PathValue("id")
	path, here := "/commands/"+url.PathEscape(id), Path+"commands/"+url.PathEscape(id)
	return r.do(orders{
		"start": func() (string, error) {
			timeout, err := time.ParseDuration(r.field("timeout") + "s")
			if err != nil || timeout < time.Second {
				return "", iot.Errorf(iot.InvalidRequest, "%q is no number of seconds", r.field("timeout"))
			}
			in := map[string]any{
				"commandArn": r.Realm.ARN(iot.KindCommand, id), "targetArn": r.Realm.ARN(iot.KindThing, r.field("thing")), "executionTimeoutSeconds": int64(timeout / time.Second),
			}
			var out struct {
				ID string `json:"executionId"`
			}
			if err := r.call(http.MethodPost, "/command-executions", nil, in, &out, "Host", jobsHost); err != nil {
				return "", err
			}
			return here + "/" + url.PathEscape(out.ID) + "?target=" + url.QueryEscape(in["targetArn"].(string)), nil
		},
		"delete": r.sure("Delete this command?", id, "Executions that are under way go on, and what came of others is kept.", "Delete", Path+"commands",
			func() error { return r.call(http.MethodDelete, path, nil, nil, nil) }),
	}, r.showCommand)
}

func (r *request) commandExecution() error {
	id, target := r.PathValue("execution"), r.FormValue("target")
	var x commandExecution
	if err := r.call(http.MethodGet, "/command-executions/"+url.PathEscape(id), url.Values{"targetArn": {target}, "includeResult": {"true"}}, nil, &x); err != nil {
		return err
	}
	on := r.links([]string{x.Target})[0]
	s := sheet{Title: "Execution " + shortened(id), First: true, Actions: []link{{"Look again", r.URL.RequestURI()}, {"The command", Path + "commands/" + url.PathEscape(r.PathValue("id"))}}}
	s.Facts = facts("Status", cell{Pill: x.Status}, "On", cell{Text: on.Text, URL: on.URL}, "Started", when(x.Started), "Ended", when(x.Ended), "Id", cell{Text: id, Code: true})
	if x.Reason != nil {
		s.Facts = append(s.Facts, facts("Reason", plain(strings.TrimSpace(x.Reason.Code+" "+x.Reason.Text)))...)
	}
	if len(x.Result) > 0 {
		text, err := json.Marshal(x.Result)
		if err != nil {
			return err
		}
		s.Code = append(s.Code, codeBlock{"Result", pretty(string(text))})
	}
	if len(bytes.TrimSpace(x.Parameters)) > 0 {
		s.Code = append(s.Code, codeBlock{"Parameters", pretty(string(x.Parameters))})
	}
	return r.sheet(s)
}
