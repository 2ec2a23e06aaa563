package console

import (
	"encoding/json"
	"errors"
	"fmt"
	"html/template"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"drover/internal/iot"
)

// jobForm is a new job as the form has it.
type jobForm struct {
	ID, Description      string
	Targets              string // names and ARNs
	Query                string // of the fleet index: its things are targets, too
	Document             string
	Source               string // URL of the document in an object store, instead of it
	Template, Parameters string // ARN of a job template instead of a document; lines of KEY=VALUE
	Packages             string // lines of PACKAGE VERSION
	Continuous           bool
	Rate                 string // at most so many a minute; "" = no bound
	Base, Factor, After  string // slow start: base rate, times, after each so many that succeeded
	Percent, Least       string // abort
	Timeout              string // minutes
	Retries              string
	Success, Work        string // of the rehearsal: percent, minutes
}

func (r *request) form() jobForm {
	v := func(name string) string { return strings.TrimSpace(r.FormValue(name)) }
	return jobForm{
		ID: v("id"), Description: v("description"), Targets: v("targets"), Query: v("query"), Document: r.FormValue("document"), Source: v("source"),
		Template: v("template"), Parameters: v("parameters"), Packages: v("packages"), Continuous: v("continuous") != "",
		Rate: v("rate"), Base: v("base"), Factor: v("factor"), After: v("after"), Percent: v("percent"), Least: v("least"), Timeout: v("timeout"), Retries: v("retries"),
		Success: v("success"), Work: v("work"),
	}
}

// read puts the files of the form where they are for: a list of targets, a document.
func (f *jobForm) read(r *request) error {
	for field, to := range map[string]*string{"list": &f.Targets, "file": &f.Document} {
		file, _, err := r.FormFile(field)
		if errors.Is(err, http.ErrMissingFile) || errors.Is(err, http.ErrNotMultipart) {
			continue
		}
		if err != nil {
			return iot.Errorf(iot.InvalidRequest, "The file could not be read: %v", err)
		}
		text, err := io.ReadAll(file)
		if err != nil {
			return err
		}
		if field == "list" && *to != "" {
			*to += "\n"
			*to += string(text)
		} else if len(text) > 0 {
			*to = string(text)
		}
	}
	return nil
}

// formNumber is a number of a form; the error names the field.
func formNumber(field, text string) (json.Number, error) {
	if _, err := strconv.ParseFloat(text, 64); err != nil {
		return "", iot.Errorf(iot.InvalidRequest, "%s: %q is not a number", field, text)
	}
	return json.Number(text), nil
}

// request is the body of CreateJob without its targets. An error is one for who filled the form in.
func (f jobForm) request() (map[string]any, error) {
	body, err := f.config()
	if err != nil {
		return nil, err
	}
	switch {
	case f.Template != "":
		body["jobTemplateArn"] = f.Template
		parameters := map[string]string{}
		for line := range strings.Lines(f.Parameters) {
			if line = strings.TrimSpace(line); line == "" {
				continue
			}
			key, value, ok := strings.Cut(line, "=")
			if !ok {
				return nil, iot.Errorf(iot.InvalidRequest, "Parameters: %q is not KEY=VALUE", line)
			}
			parameters[strings.TrimSpace(key)] = strings.TrimSpace(value)
		}
		if len(parameters) > 0 {
			body["documentParameters"] = parameters
		}
	case f.Source != "":
		body["documentSource"] = f.Source
	default:
		body["document"] = f.Document
	}
	if f.Description != "" {
		body["description"] = f.Description
	}
	if f.Continuous {
		body["targetSelection"] = "CONTINUOUS"
	}
	return body, nil
}

// maxTargets is how many targets the API takes at once.
const maxTargets = 100

// aim finds the targets of a new job. A query that finds few things stands for them; of one that finds more,
// and of a long list, a group is made when the job is, which group names.
func (f *jobForm) aim(r *request) (arns []string, things int, group string, err error) {
	if f.Query != "" {
		found, more, err := r.find(f.Query)
		if err != nil {
			return nil, 0, "", err
		}
		if more {
			if f.Targets != "" {
				return nil, 0, "", iot.Errorf(iot.InvalidRequest, "Targets: %q finds more than %d things, which become a group; do not name others besides.", f.Query, maxTargets)
			}
			return []string{r.Realm.ARN(iot.KindGroup, f.group())}, maxCounted, f.group(), nil
		}
		f.Targets, f.Query = strings.TrimSpace(f.Targets+"\n"+strings.Join(found, "\n")), ""
	}
	if arns, things, err = r.targets(f.Targets); err != nil || len(arns) <= maxTargets {
		return arns, things, "", err
	}
	if len(arns) > maxListed {
		return nil, 0, "", iot.Errorf(iot.InvalidRequest, "Targets: a list has at most %d names", maxListed)
	}
	for _, arn := range arns {
		if !strings.HasPrefix(arn, r.Realm.ARN(iot.KindThing, "")) {
			return nil, 0, "", iot.Errorf(iot.InvalidRequest, "Targets: a list of more than %d names becomes a group, in which only things can be", maxTargets)
		}
	}
	return []string{r.Realm.ARN(iot.KindGroup, f.group())}, things, f.group(), nil
}

// group is the name of the group that is made for a job.
func (f *jobForm) group() string { return "job-" + f.ID }

// maxListed is how many things a list may name. Each takes a request to the API.
const maxListed = 10_000

// find searches for things, as many as can be targets, and reports whether there are more.
func (r *request) find(query string) (names []string, more bool, err error) {
	if err := r.may("iot:SearchIndex", r.Realm.ARN(iot.KindIndex, string(iot.ThingsIndex))); err != nil {
		return nil, false, err
	}
	found, _, next, err := r.Registry.Search(r.Context(), iot.Search{Query: query}, iot.Page{Limit: maxTargets})
	if err != nil {
		return nil, false, err
	}
	if len(found) == 0 {
		return nil, false, iot.Errorf(iot.InvalidRequest, "Targets: %q finds no thing", query)
	}
	for i := range found {
		names = append(names, string(found[i].Thing.Name))
	}
	return names, next != "", nil
}

// makeGroup makes the group of a job: a dynamic one of its query, or one of a list.
func (f *jobForm) makeGroup(r *request) error {
	name, description := f.group(), "Made for the job "+f.ID
	if f.Query != "" {
		in := map[string]any{"queryString": f.Query, "thingGroupProperties": map[string]string{"thingGroupDescription": description}}
		if err := r.call(http.MethodPost, "/dynamic-thing-groups/"+url.PathEscape(name), nil, in, nil); err != nil {
			return err
		}
		return r.filled(iot.GroupName(name))
	}
	in := map[string]any{"thingGroupProperties": map[string]string{"thingGroupDescription": description}}
	if err := r.call(http.MethodPost, "/thing-groups/"+url.PathEscape(name), nil, in, nil); err != nil {
		return err
	}
	arns, _, err := r.targets(f.Targets)
	if err != nil {
		return err
	}
	for _, arn := range arns {
		if err := r.call(http.MethodPut, "/thing-groups/addThingToThingGroup", nil, map[string]string{"thingGroupName": name, "thingArn": arn}, nil); err != nil {
			return err
		}
	}
	return nil
}

// filled waits until a dynamic group has its members: a job takes those that there are when it is made.
func (r *request) filled(name iot.GroupName) error {
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for range 20 * 60 { // a minute
		g, _, err := r.Registry.Group(r.Context(), name)
		if err != nil {
			return err
		}
		if g.Status == iot.IndexActive {
			return nil
		}
		select {
		case <-tick.C:
		case <-r.Context().Done():
			return r.Context().Err()
		}
	}
	return iot.Errorf(iot.Unavailable, "The group %s is still being filled. Make the job for it when it is active.", name)
}

// maxCounted is up to how many things of a group are counted.
const maxCounted = 10_000

// target returns the ARN of a target that somebody wrote, an ARN or a name, and how many things it has.
func (r *request) target(text string) (arn string, things int, err error) {
	kind, name := "", text
	for _, k := range []string{iot.KindThing, iot.KindGroup} {
		if rest, ok := strings.CutPrefix(text, r.Realm.ARN(k, "")); ok {
			kind, name = k, rest
		}
	}
	if kind != iot.KindThing {
		n, err := r.count(iot.GroupName(name))
		if err == nil {
			return r.Realm.ARN(iot.KindGroup, name), n, nil
		}
		if iot.ErrorCode(err) != iot.NotFound {
			return "", 0, err
		}
	}
	if kind != iot.KindGroup {
		if _, err := r.Registry.Thing(r.Context(), iot.ThingName(name)); err == nil {
			return r.Realm.ARN(iot.KindThing, name), 1, nil
		} else if iot.ErrorCode(err) != iot.NotFound {
			return "", 0, err
		}
	}
	return "", 0, iot.Errorf(iot.InvalidRequest, "Targets: %s is neither a thing nor a thing group", text)
}

// newJob shows the empty form, or one that is filled in from another job.
func (r *request) newJob() error {
	if err := r.may("iot:ListJobs", "*"); err != nil {
		return err
	}
	f := jobForm{Document: "{\n  \"operation\": \"\"\n}", Rate: "1000", Success: "98", Work: "5", Targets: strings.TrimSpace(r.FormValue("target")), Query: strings.TrimSpace(r.FormValue("query"))}
	if failed := r.FormValue("retry"); failed != "" {
		var err error
		if f, err = r.retryOf(iot.JobID(failed)); err != nil {
			return err
		}
	}
	templates, err := r.templates()
	if err != nil {
		return err
	}
	return r.render(http.StatusOK, "new-job", "New job", map[string]any{"Form": f, "Rehearse": r.Rehearse != nil, "Templates": templates})
}

// maxRetried is how many things a job has that is made of those that failed.
const maxRetried = 1000

// retryOf is the form for a job on the things on which another has failed.
func (r *request) retryOf(id iot.JobID) (f jobForm, err error) {
	if err := r.may("iot:DescribeJob", r.Realm.ARN(iot.KindJob, string(id))); err != nil {
		return f, err
	}
	document, err := r.Jobs.JobDocument(r.Context(), id)
	if err != nil {
		return f, err
	}
	f = jobForm{ID: string(id) + "-again", Description: "Again where " + string(id) + " failed", Document: pretty(document), Rate: "1000", Success: "98", Work: "5"}
	var things []string
	for _, status := range []iot.ExecutionStatus{iot.Failed, iot.TimedOut, iot.Rejected} {
		list, _, err := r.Jobs.JobExecutions(r.Context(), id, status, iot.Page{Limit: maxRetried})
		if err != nil {
			return f, err
		}
		for i := range list {
			things = append(things, string(list[i].Thing))
		}
	}
	f.Targets = strings.Join(things[:min(len(things), maxRetried)], "\n")
	return f, nil
}

// createJob shows what a job would be, rehearses it, and creates it.
func (r *request) createJob() error {
	f := r.form()
	data := map[string]any{"Rehearse": r.Rehearse != nil}
	show := func(err error) error {
		status := http.StatusOK
		if err != nil {
			text, ok := told(err)
			if !ok {
				return err
			}
			data["Error"], status = text, http.StatusBadRequest
		}
		if data["Templates"], err = r.templates(); err != nil {
			return err
		}
		data["Form"] = f
		return r.render(status, "new-job", "New job", data)
	}
	if err := r.may("iot:CreateJob", r.Realm.ARN(iot.KindJob, f.ID)); err != nil {
		return err
	}
	if err := f.read(r); err != nil {
		return show(err)
	}
	body, err := f.request()
	if err != nil {
		return show(err)
	}
	targets, things, group, err := f.aim(r)
	if err != nil {
		return show(err)
	}
	body["targets"] = targets
	if versions, err := r.destinations(f.Packages); err != nil {
		return show(err)
	} else if versions != nil {
		body["destinationPackageVersions"] = versions
	}
	text, err := json.MarshalIndent(body, "", "  ")
	if err != nil {
		return err
	}
	data["Things"], data["Many"], data["Group"], data["Command"] = things, things >= maxCounted || f.Query != "", group, command(f, group, string(text))
	switch r.FormValue("do") {
	case "create":
		if group != "" {
			if err := f.makeGroup(r); err != nil {
				return show(err)
			}
		}
		if err := r.call(http.MethodPut, "/jobs/"+url.PathEscape(f.ID), nil, body, nil); err != nil {
			return show(err)
		}
		r.notify("The job %s was created.", f.ID)
		return r.redirect(Path + "jobs/" + url.PathEscape(f.ID))
	case "rehearse":
		if r.Rehearse == nil {
			return r.nowhere()
		}
		if err := r.plain(f, body); err != nil {
			return show(err)
		}
		if text, err = json.Marshal(body); err != nil {
			return err
		}
		o, err := r.rehearsed(f, text, things)
		if err != nil {
			return show(err)
		}
		data["Outcome"] = o
	}
	data["Checked"] = true
	return show(nil)
}

// destinations are the ARNs of package versions, one in a line: the name of a package, and its version, $default or $null.
func (r *request) destinations(lines string) (arns []string, err error) {
	for line := range strings.Lines(lines) {
		words := strings.Fields(line)
		switch len(words) {
		case 0:
		case 2:
			arns = append(arns, r.Realm.PackageVersionARN(words[0], words[1]))
		default:
			return nil, iot.Errorf(iot.InvalidRequest, "Package versions: %q is not the name of a package and its version", strings.TrimSpace(line))
		}
	}
	return arns, nil
}

// plain makes a request one that needs nothing else: with what its template says, and any document, since
// what devices are told does not matter in a rehearsal.
func (r *request) plain(f jobForm, body map[string]any) error {
	if f.Template != "" {
		id := strings.TrimPrefix(f.Template, r.Realm.ARN(iot.KindTemplate, ""))
		var template map[string]any
		if err := r.call(http.MethodGet, "/job-templates/"+url.PathEscape(id), nil, nil, &template); err != nil {
			return err
		}
		for _, member := range []string{"jobExecutionsRolloutConfig", "abortConfig", "timeoutConfig", "jobExecutionsRetryConfig"} {
			if template[member] != nil && body[member] == nil {
				body[member] = template[member]
			}
		}
	}
	for _, member := range []string{"jobTemplateArn", "documentParameters", "documentSource", "destinationPackageVersions"} {
		delete(body, member)
	}
	body["document"] = "{}"
	return nil
}

// templates are the job templates that can be chosen: names and ARNs.
func (r *request) templates() (list []link, err error) {
	if !r.can("iot:ListJobTemplates", "*") {
		return nil, nil
	}
	var out struct {
		JobTemplates []struct {
			ARN string `json:"jobTemplateArn"`
			ID  string `json:"jobTemplateId"`
		} `json:"jobTemplates"`
	}
	if err := r.call(http.MethodGet, "/job-templates", url.Values{"maxResults": {"250"}}, nil, &out); err != nil {
		return nil, err
	}
	for _, t := range out.JobTemplates {
		list = append(list, link{t.ID, t.ARN})
	}
	return list, nil
}

// command is what does the same with the AWS CLI.
func command(f jobForm, group, body string) string {
	quote := func(s string) string { return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'" }
	first := ""
	switch {
	case group != "" && f.Query != "":
		first = "aws iot create-dynamic-thing-group --thing-group-name " + group + " --query-string " + quote(f.Query) + "\n"
	case group != "":
		first = "aws iot create-thing-group --thing-group-name " + group + "\nwhile read thing; do aws iot add-thing-to-thing-group --thing-group-name " + group + " --thing-name \"$thing\"; done < LIST\n"
	}
	return first + "aws iot create-job --job-id " + f.ID + " --cli-input-json " + quote(body)
}

// rehearsal is what the page shows of one.
type rehearsal struct {
	*Outcome
	Chart  template.HTML
	Things int
	Final  string
}

const maxRehearsed = 2000

func (r *request) rehearsed(f jobForm, job []byte, things int) (*rehearsal, error) {
	success, err := strconv.ParseFloat(f.Success, 64)
	if err != nil || success < 0 || success > 100 {
		return nil, iot.Errorf(iot.InvalidRequest, "Rehearsal: the share that succeeds is a number from 0 to 100")
	}
	work, err := strconv.ParseFloat(f.Work, 64)
	if err != nil || work <= 0 || work > 100_000 {
		return nil, iot.Errorf(iot.InvalidRequest, "Rehearsal: the minutes that a device takes are a number above 0")
	}
	select { // one at a time: each is a small server
	case r.slots <- struct{}{}:
		defer func() { <-r.slots }()
	case <-r.Context().Done():
		return nil, r.Context().Err()
	}
	n := min(max(things, 1), maxRehearsed)
	o, err := r.Rehearse(r.Context(), Rehearsal{Job: job, Things: n, Success: success / 100, Work: time.Duration(work * float64(time.Minute))})
	if err != nil {
		return nil, err
	}
	last := Point{}
	if len(o.Points) > 0 {
		last = o.Points[len(o.Points)-1]
	}
	return &rehearsal{Outcome: o, Things: n, Final: counted(last.Counts),
		Chart: areaChart(o.Points, int64(n), wide, fmt.Sprintf("Rehearsal with %d devices: %s", n, counted(last.Counts)))}, nil
}
