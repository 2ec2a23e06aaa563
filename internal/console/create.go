package console

import (
	"encoding/json"
	"fmt"
	"html/template"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"drover/internal/iot"
)

// jobForm is a new job as the form has it.
type jobForm struct {
	ID, Description, Targets, Document string
	Continuous                         bool
	Rate                               string // at most so many a minute; "" = no bound
	Base, Factor, After                string // slow start: base rate, times, after each so many that succeeded
	Percent, Least                     string // abort
	Timeout                            string // minutes
	Retries                            string
	Success, Work                      string // of the rehearsal: percent, minutes
}

func (r *request) form() jobForm {
	v := func(name string) string { return strings.TrimSpace(r.FormValue(name)) }
	return jobForm{
		ID: v("id"), Description: v("description"), Targets: r.FormValue("targets"), Document: r.FormValue("document"), Continuous: v("continuous") != "",
		Rate: v("rate"), Base: v("base"), Factor: v("factor"), After: v("after"), Percent: v("percent"), Least: v("least"), Timeout: v("timeout"), Retries: v("retries"),
		Success: v("success"), Work: v("work"),
	}
}

// request is the body of CreateJob, and how many things its targets have, as far as 10,000. An error is one for
// who filled the form in.
func (f jobForm) request(r *request) (body map[string]any, things int, err error) {
	number := func(member, text string) (json.Number, error) {
		if _, err := strconv.ParseFloat(text, 64); err != nil {
			return "", iot.Errorf(iot.InvalidRequest, "%s: %q is not a number", member, text)
		}
		return json.Number(text), nil
	}
	body = map[string]any{"document": f.Document}
	if f.Description != "" {
		body["description"] = f.Description
	}
	if f.Continuous {
		body["targetSelection"] = "CONTINUOUS"
	}
	targets := []string{}
	for _, line := range strings.Fields(strings.ReplaceAll(f.Targets, ",", " ")) {
		arn, n, err := r.target(line)
		if err != nil {
			return nil, 0, err
		}
		targets = append(targets, arn)
		things += n
	}
	body["targets"] = targets
	rollout := map[string]any{}
	if f.Rate != "" {
		if rollout["maximumPerMinute"], err = number("Rate", f.Rate); err != nil {
			return nil, 0, err
		}
	}
	if f.Base != "" || f.Factor != "" || f.After != "" {
		rate := map[string]any{}
		if rate["baseRatePerMinute"], err = number("Slow start, rate at first", f.Base); err != nil {
			return nil, 0, err
		}
		if rate["incrementFactor"], err = number("Slow start, factor", f.Factor); err != nil {
			return nil, 0, err
		}
		n, err := number("Slow start, after so many", f.After)
		if err != nil {
			return nil, 0, err
		}
		rate["rateIncreaseCriteria"] = map[string]any{"numberOfSucceededThings": n}
		rollout["exponentialRate"] = rate
	}
	if len(rollout) > 0 {
		body["jobExecutionsRolloutConfig"] = rollout
	}
	if f.Percent != "" || f.Least != "" {
		percent, err := number("Abort, percent", f.Percent)
		if err != nil {
			return nil, 0, err
		}
		least, err := number("Abort, at least so many", f.Least)
		if err != nil {
			return nil, 0, err
		}
		body["abortConfig"] = map[string]any{"criteriaList": []any{map[string]any{
			"failureType": "ALL", "action": "CANCEL", "thresholdPercentage": percent, "minNumberOfExecutedThings": least,
		}}}
	}
	if f.Timeout != "" {
		n, err := number("Timeout", f.Timeout)
		if err != nil {
			return nil, 0, err
		}
		body["timeoutConfig"] = map[string]any{"inProgressTimeoutInMinutes": n}
	}
	if f.Retries != "" {
		n, err := number("Retries", f.Retries)
		if err != nil {
			return nil, 0, err
		}
		body["jobExecutionsRetryConfig"] = map[string]any{"criteriaList": []any{map[string]any{"failureType": "ALL", "numberOfRetries": n}}}
	}
	return body, things, nil
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
		n := 0
		for cursor := ""; n < maxCounted; {
			members, next, err := r.Registry.Members(r.Context(), iot.GroupName(name), true, iot.Page{Cursor: cursor, Limit: 1000})
			if iot.ErrorCode(err) == iot.NotFound {
				break
			}
			if err != nil {
				return "", 0, err
			}
			n += len(members)
			if cursor = next; next == "" {
				return r.Realm.ARN(iot.KindGroup, name), n, nil
			}
		}
		if n >= maxCounted {
			return r.Realm.ARN(iot.KindGroup, name), n, nil
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
	f := jobForm{Document: "{\n  \"operation\": \"\"\n}", Rate: "1000", Success: "98", Work: "5", Targets: strings.TrimSpace(r.FormValue("target"))}
	if failed := r.FormValue("retry"); failed != "" {
		var err error
		if f, err = r.retryOf(iot.JobID(failed)); err != nil {
			return err
		}
	}
	return r.render(http.StatusOK, "new-job", "New job", map[string]any{"Form": f, "Rehearse": r.Rehearse != nil})
}

// maxRetried is how many things a job has that is made of those that failed: an API request takes as many targets.
const maxRetried = 100

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
	data := map[string]any{"Form": f, "Rehearse": r.Rehearse != nil}
	again := func(status int, err error) error {
		data["Error"] = refusalText(err)
		return r.render(status, "new-job", "New job", data)
	}
	if err := r.may("iot:CreateJob", r.Realm.ARN(iot.KindJob, f.ID)); err != nil {
		return err
	}
	body, things, err := f.request(r)
	if err != nil {
		return again(http.StatusBadRequest, err)
	}
	text, err := json.MarshalIndent(body, "", "  ")
	if err != nil {
		return err
	}
	data["Things"], data["Many"] = things, things >= maxCounted
	data["Command"] = command(f.ID, string(text))
	switch r.FormValue("do") {
	case "create":
		if err := r.call(http.MethodPut, "/jobs/"+url.PathEscape(f.ID), nil, body, nil); err != nil {
			return again(http.StatusBadRequest, err)
		}
		r.notify("The job %s was created.", f.ID)
		return r.redirect(Path + "jobs/" + url.PathEscape(f.ID))
	case "rehearse":
		if r.Rehearse == nil {
			return r.nowhere()
		}
		o, err := r.rehearsed(f, text, things)
		if err != nil {
			return again(http.StatusBadRequest, err)
		}
		data["Outcome"] = o
	}
	data["Checked"] = true
	return r.render(http.StatusOK, "new-job", "New job", data)
}

func refusalText(err error) string {
	if known, ok := err.(*iot.Error); ok { //nolint:errorlint // it is made here
		return known.Message
	}
	return err.Error()
}

// command is the command of the AWS CLI that creates the same job.
func command(id, body string) string {
	quoted := "'" + strings.ReplaceAll(body, "'", `'\''`) + "'"
	return "aws iot create-job --job-id " + id + " --cli-input-json " + quoted
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
