package console

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"strings"

	"drover/internal/iot"
)

// editJob shows the form for what can be changed of a job while it goes on (jobs spec §10.5).
func (r *request) editJob() error {
	j, err := r.editable()
	if err != nil {
		return err
	}
	return r.showEdit(j, formOf(j), nil)
}

// editable is the job of the address, if who is signed in may change it.
func (r *request) editable() (*iot.Job, error) {
	id := r.PathValue("id")
	if err := r.may("iot:UpdateJob", r.Realm.ARN(iot.KindJob, id)); err != nil {
		return nil, err
	}
	return r.Jobs.Job(r.Context(), iot.JobID(id))
}

func (r *request) showEdit(j *iot.Job, f jobForm, problem error) error {
	data := map[string]any{"Job": j, "Form": f, "Custom": custom(j.Config)}
	status := http.StatusOK
	if problem != nil {
		text, ok := told(problem)
		if !ok {
			return problem
		}
		data["Error"], status = text, http.StatusBadRequest
	}
	return r.render(status, "edit-job", "Change "+string(j.JobID), data)
}

// doEditJob changes what the form differs in; what it does not show stays as it is.
func (r *request) doEditJob() error {
	j, err := r.editable()
	if err != nil {
		return err
	}
	f, was := r.form(), formOf(j)
	body, err := f.config()
	if err != nil {
		return r.showEdit(j, f, err)
	}
	before, err := was.config()
	if err != nil {
		return err
	}
	changes := map[string]any{}
	for member, value := range body {
		if fmt.Sprint(value) != fmt.Sprint(before[member]) {
			changes[member] = value
		}
	}
	for member := range before {
		if body[member] == nil { // there is no way to say "not any more"
			return r.showEdit(j, f, iot.Errorf(iot.InvalidRequest, "%s can be changed but not taken away.", member))
		}
	}
	if f.Description != j.Description {
		changes["description"] = f.Description
	}
	if len(changes) == 0 {
		return r.redirect(Path + "jobs/" + url.PathEscape(string(j.JobID)))
	}
	if err := r.call(http.MethodPatch, "/jobs/"+url.PathEscape(string(j.JobID)), nil, changes, nil); err != nil {
		return r.showEdit(j, f, err)
	}
	r.notify("%s was changed.", j.JobID)
	return r.redirect(Path + "jobs/" + url.PathEscape(string(j.JobID)))
}

// formOf is the form as it would have been filled in for a job; what it cannot show it leaves empty.
func formOf(j *iot.Job) (f jobForm) {
	own := custom(j.Config)
	f.Description = j.Description
	if c := j.Config.Rollout; c != nil && !own["Rollout"] {
		f.Rate = text(c.MaximumPerMinute)
		if e := c.Exponential; e != nil {
			f.Base, f.Factor, f.After = text(e.BasePerMinute), fmt.Sprintf("%g", float64(e.FactorTenths)/10), text(e.SucceededThings)
		}
	}
	if len(j.Config.Abort) > 0 && !own["Abort"] {
		a := j.Config.Abort[0]
		f.Percent, f.Least = fmt.Sprintf("%g", float64(a.ThresholdHundredths)/100), text(a.MinExecuted)
	}
	f.Timeout = text(j.Config.TimeoutMinutes)
	if len(j.Config.Retry) > 0 && !own["Retry"] {
		f.Retries = fmt.Sprint(j.Config.Retry[0].Retries)
	}
	return f
}

// text is a number as a form has it.
func text(n int64) string {
	if n == 0 {
		return ""
	}
	return fmt.Sprint(n)
}

// custom says which parts of a configuration the form cannot show, and so must not change.
func custom(c iot.JobConfig) map[string]bool {
	return map[string]bool{
		"Rollout": c.Rollout != nil && c.Rollout.Exponential != nil && c.Rollout.Exponential.NotifiedThings > 0,
		"Abort":   len(c.Abort) > 1 || len(c.Abort) == 1 && c.Abort[0].Failure != iot.FailureAll,
		"Retry":   len(c.Retry) > 1 || len(c.Retry) == 1 && c.Retry[0].Failure != iot.FailureAll,
	}
}

// addTargets gives a continuous job more targets.
func (r *request) addTargets() error {
	id := r.PathValue("id")
	if err := r.may("iot:AssociateTargetsWithJob", r.Realm.ARN(iot.KindJob, id)); err != nil {
		return err
	}
	j, err := r.Jobs.Job(r.Context(), iot.JobID(id))
	if err != nil {
		return err
	}
	data := map[string]any{"Job": j, "Targets": r.FormValue("targets")}
	again := func(err error) error {
		text, ok := told(err)
		if !ok {
			return err
		}
		data["Error"] = text
		return r.render(http.StatusBadRequest, "add-targets", "Add targets", data)
	}
	if r.Method == http.MethodGet {
		return r.render(http.StatusOK, "add-targets", "Add targets", data)
	}
	targets, things, err := r.targets(r.FormValue("targets"))
	if err != nil {
		return again(err)
	}
	if r.FormValue("do") != "add" {
		data["Checked"], data["Things"], data["Many"] = true, things, things >= maxCounted
		return r.render(http.StatusOK, "add-targets", "Add targets", data)
	}
	in := map[string]any{"targets": targets}
	if comment := strings.TrimSpace(r.FormValue("comment")); comment != "" {
		in["comment"] = comment
	}
	if err := r.call(http.MethodPost, "/jobs/"+url.PathEscape(id)+"/targets", nil, in, nil); err != nil {
		return again(err)
	}
	r.notify("%s has more targets.", id)
	return r.redirect(Path + "jobs/" + url.PathEscape(id))
}

// targets are the ARNs of what somebody wrote down, and how many things they have.
func (r *request) targets(written string) (arns []string, things int, err error) {
	arns = []string{}
	for _, name := range strings.FieldsFunc(written, func(c rune) bool { return c == ',' || c == ' ' || c == '\n' || c == '\r' || c == '\t' || c == ';' }) {
		arn, n, err := r.target(name)
		if err != nil {
			return nil, 0, err
		}
		arns = append(arns, arn)
		things += n
	}
	return arns, things, nil
}

// config is the configuration that the form says, by members of CreateJob and UpdateJob.
func (f jobForm) config() (config map[string]any, err error) {
	config = map[string]any{}
	var problem error
	number := func(field, text string) json.Number {
		n, err := formNumber(field, text)
		if err != nil && problem == nil {
			problem = err
		}
		return n
	}
	rollout := map[string]any{}
	if f.Rate != "" {
		rollout["maximumPerMinute"] = number("Rate", f.Rate)
	}
	if f.Base != "" || f.Factor != "" || f.After != "" {
		rollout["exponentialRate"] = map[string]any{
			"baseRatePerMinute": number("Slow start, rate at first", f.Base), "incrementFactor": number("Slow start, factor", f.Factor),
			"rateIncreaseCriteria": map[string]any{"numberOfSucceededThings": number("Slow start, after so many", f.After)},
		}
	}
	if len(rollout) > 0 {
		config["jobExecutionsRolloutConfig"] = rollout
	}
	if f.Percent != "" || f.Least != "" {
		config["abortConfig"] = map[string]any{"criteriaList": []any{map[string]any{
			"failureType": "ALL", "action": "CANCEL",
			"thresholdPercentage": number("Abort, percent", f.Percent), "minNumberOfExecutedThings": number("Abort, at least so many", f.Least),
		}}}
	}
	if f.Timeout != "" {
		config["timeoutConfig"] = map[string]any{"inProgressTimeoutInMinutes": number("Timeout", f.Timeout)}
	}
	if f.Retries != "" {
		config["jobExecutionsRetryConfig"] = map[string]any{"criteriaList": []any{map[string]any{"failureType": "ALL", "numberOfRetries": number("Retries", f.Retries)}}}
	}
	return config, problem
}
