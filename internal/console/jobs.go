package console

import (
	"encoding/json"
	"fmt"
	"html/template"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"drover/internal/iot"
)

const (
	jobsPage       = 25
	executionsPage = 50
	lookedAt       = 1000 // failed executions that are looked at to group them
)

// jobRow is a job in a list.
type jobRow struct {
	*iot.Job
	Rate, Until string
}

func (r *request) row(j *iot.Job) jobRow {
	row := jobRow{Job: j}
	if j.Status == iot.JobInProgress {
		rate := perMinute(r.history.known(j), r.now())
		row.Rate, row.Until = rateText(rate), until(j.Counts.Pending(), rate)
	}
	return row
}

// jobs lists jobs, the newest first.
func (r *request) jobs() error {
	if err := r.may("iot:ListJobs", "*"); err != nil {
		return err
	}
	q := iot.JobQuery{Status: jobStatus(r.FormValue("status"))}
	if id := strings.TrimSpace(r.FormValue("id")); id != "" {
		// A job's id is looked up as it is: ids have no index of their parts.
		j, err := r.Jobs.Job(r.Context(), iot.JobID(id))
		if err == nil {
			return r.redirect(Path + "jobs/" + url.PathEscape(string(j.JobID)))
		}
		if iot.ErrorCode(err) != iot.NotFound {
			return err
		}
		return r.render(http.StatusOK, "jobs", "Jobs", map[string]any{"ID": id, "Status": r.FormValue("status")})
	}
	list, next, err := r.Jobs.Jobs(r.Context(), q, iot.Page{Cursor: r.FormValue("after"), Limit: jobsPage})
	if err != nil {
		return err
	}
	rows := make([]jobRow, len(list))
	for i, j := range list {
		rows[i] = r.row(j)
	}
	return r.render(http.StatusOK, "jobs", "Jobs", map[string]any{"Jobs": rows, "Next": next, "Status": r.FormValue("status"), "First": r.FormValue("after") == ""})
}

// statuses of jobs, as filters name them.
var jobStatuses = []iot.JobStatus{iot.JobInProgress, iot.JobScheduled, iot.JobCompleted, iot.JobCanceled, iot.JobDeletionInProgress}

func jobStatus(text string) iot.JobStatus {
	for _, s := range jobStatuses {
		if fmt.Sprint(s) == text {
			return s
		}
	}
	var any iot.JobStatus
	return any
}

// jobLive is what changes on the page of a job while it goes on.
type jobLive struct {
	*iot.Job
	Chart       template.HTML
	Legend      []count
	Rate, Until string
	Took        string
	Pending     int64
	Since       iot.Time // the chart begins later than the job
	Gauges      []gaugeOf
	Rollout     string // how fast it goes now
}

// count is how many things have a status.
type count struct {
	Status iot.ExecutionStatus
	N      int64
}

// gaugeOf is how far a job is from being stopped.
type gaugeOf struct {
	Text  string
	Value string
	Gauge template.HTML
}

func (r *request) jobLive(j *iot.Job) (*jobLive, error) {
	points, since, err := r.history.of(r.Context(), j)
	if err != nil {
		return nil, err
	}
	rate := perMinute(points, r.now())
	l := &jobLive{Job: j, Pending: j.Counts.Pending(), Since: since}
	l.Chart = areaChart(points, 0, wide, "Devices by status over time. Now: "+counted(j.Counts))
	for _, s := range stacked {
		l.Legend = append(l.Legend, count{s, j.Counts[s]})
	}
	end := r.now()
	if isOver(j) {
		end = j.CompletedAt
		if end == 0 {
			end = j.UpdatedAt
		}
	} else {
		l.Rate, l.Until = rateText(rate), until(l.Pending, rate)
	}
	l.Took = span(time.Duration(end-j.CreatedAt) * time.Millisecond)
	if !isOver(j) && !j.Pace.Over {
		l.Rollout = rateInWords(j)
	}
	for _, a := range j.Config.Abort {
		l.Gauges = append(l.Gauges, abortGauge(a, j.Executed))
	}
	return l, nil
}

// abortGauge shows how near a job is to a criterion (jobs spec §5).
func abortGauge(a iot.AbortCriterion, executed iot.Counts) gaugeOf {
	bad := executed[iot.Failed] + executed[iot.Rejected] + executed[iot.TimedOut]
	switch a.Failure {
	case iot.FailureFailed:
		bad = executed[iot.Failed]
	case iot.FailureRejected:
		bad = executed[iot.Rejected]
	case iot.FailureTimedOut:
		bad = executed[iot.TimedOut]
	}
	all := executed[iot.Succeeded] + executed[iot.Failed] + executed[iot.Rejected] + executed[iot.TimedOut]
	percent, limit := 0.0, float64(a.ThresholdHundredths)/100
	if all > 0 {
		percent = 100 * float64(bad) / float64(all)
	}
	value := fmt.Sprintf("%.3g %% of %s", percent, grouped(all))
	if all < a.MinExecuted {
		value += fmt.Sprintf(", counts from %s on", grouped(a.MinExecuted))
	}
	return gaugeOf{Text: abortInWords(a), Value: value, Gauge: gauge(percent, limit)}
}

// job shows one job.
func (r *request) job() error {
	id := iot.JobID(r.PathValue("id"))
	if err := r.may("iot:DescribeJob", r.Realm.ARN(iot.KindJob, string(id))); err != nil {
		return err
	}
	j, err := r.Jobs.Job(r.Context(), id)
	if err != nil {
		return err
	}
	live, err := r.jobLive(j)
	if err != nil {
		return err
	}
	document, err := r.Jobs.JobDocument(r.Context(), id)
	if err != nil {
		return err
	}
	status := executionStatus(r.FormValue("status"))
	var (
		executions []iot.Execution
		next       string
	)
	thing := strings.TrimSpace(r.FormValue("thing"))
	if thing != "" {
		executions, next, err = r.Jobs.ThingExecutions(r.Context(), iot.ThingName(thing), iot.ExecutionQuery{JobID: id, Status: status}, iot.Page{Cursor: r.FormValue("after"), Limit: executionsPage})
		if iot.ErrorCode(err) == iot.NotFound || iot.ErrorCode(err) == iot.InvalidRequest {
			err = nil // nothing is found
		}
	} else {
		executions, next, err = r.Jobs.JobExecutions(r.Context(), id, status, iot.Page{Cursor: r.FormValue("after"), Limit: executionsPage})
	}
	if err != nil {
		return err
	}
	reasons, partly, err := r.reasons(j)
	if err != nil {
		return err
	}
	return r.render(http.StatusOK, "job", string(id), map[string]any{
		"Live": live, "Job": j, "Document": pretty(document), "Words": inWords(j.Config, j.Schedule, j.Selection), "Reasons": reasons, "Partly": partly,
		"Executions": executions, "Next": next, "Status": r.FormValue("status"), "Thing": thing, "Statuses": stacked, "Paged": r.FormValue("after") != "",
		"Continuous": j.Selection == iot.Continuous, "ARN": r.Realm.ARN(iot.KindJob, string(id)),
	})
}

func executionStatus(text string) iot.ExecutionStatus {
	for _, s := range stacked {
		if s.String() == text {
			return s
		}
	}
	return iot.NoStatus
}

// pretty indents a document; one that is no JSON stays as it is.
func pretty(document string) string {
	var v json.RawMessage
	if json.Unmarshal([]byte(document), &v) != nil {
		return document
	}
	text, err := json.MarshalIndent(v, "", "  ")
	if err != nil {
		return document
	}
	return string(text)
}

// reason is what several devices said when they failed.
type reason struct {
	Status  iot.ExecutionStatus
	Details string
	N       int
	Example iot.ThingName
}

// reasons groups the executions that failed by what devices said; partly reports that there are more
// than were looked at.
func (r *request) reasons(j *iot.Job) (list []reason, partly bool, err error) {
	type key struct {
		status  iot.ExecutionStatus
		details string
	}
	found := make(map[key]*reason)
	for _, status := range []iot.ExecutionStatus{iot.Failed, iot.Rejected, iot.TimedOut} {
		if j.Counts[status] == 0 {
			continue
		}
		executions, next, err := r.Jobs.JobExecutions(r.Context(), j.JobID, status, iot.Page{Limit: lookedAt})
		if err != nil {
			return nil, false, err
		}
		partly = partly || next != ""
		for i := range executions {
			k := key{status, detailsText(executions[i].Details)}
			if found[k] == nil {
				found[k] = &reason{Status: status, Details: k.details, Example: executions[i].Thing}
			}
			found[k].N++
		}
	}
	for _, f := range found {
		list = append(list, *f)
	}
	slices.SortFunc(list, func(a, b reason) int {
		if a.N != b.N {
			return b.N - a.N
		}
		return strings.Compare(a.Details, b.Details)
	})
	return list[:min(len(list), 12)], partly, nil
}

// detailsText is what a device said, on one line.
func detailsText[M ~map[string]string](d M) string {
	keys := make([]string, 0, len(d))
	for k := range d {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	parts := make([]string, len(keys))
	for i, k := range keys {
		parts[i] = k + ": " + d[k]
	}
	return strings.Join(parts, " · ")
}

// liveJob keeps the page of a job up to date.
func (r *request) liveJob() error {
	id := iot.JobID(r.PathValue("id"))
	arn := r.Realm.ARN(iot.KindJob, string(id))
	return r.stream(func() (string, bool, error) {
		if err := r.may("iot:DescribeJob", arn); err != nil {
			return "", false, err
		}
		j, err := r.Jobs.Job(r.Context(), id)
		if err != nil {
			return "", false, err
		}
		live, err := r.jobLive(j)
		if err != nil {
			return "", false, err
		}
		html, err := r.fragment("job", "live", live)
		return html, settled(j), err
	})
}

// deed is something that can be done to a job.
type deed struct {
	Title, Verb, Text, Action string
	Danger                    bool
	do                        func(r *request, id string) error
}

// deeds are by their part of the address.
var deeds = map[string]deed{
	"cancel": {Title: "Cancel this job", Verb: "Cancel the job", Action: "iot:CancelJob", Danger: true,
		Text: "Devices that have not begun will not get it any more. Those that have begun may finish.",
		do: func(r *request, id string) error {
			return r.call(http.MethodPut, "/jobs/"+url.PathEscape(id)+"/cancel", nil, cancellation(r), nil)
		}},
	"force-cancel": {Title: "Cancel this job by force", Verb: "Cancel by force", Action: "iot:CancelJob", Danger: true,
		Text: "Executions that have begun are canceled, too. A device in the middle of an update is not told before it reports again; make sure that it recovers from that.",
		do: func(r *request, id string) error {
			return r.call(http.MethodPut, "/jobs/"+url.PathEscape(id)+"/cancel", url.Values{"force": {"true"}}, cancellation(r), nil)
		}},
	"delete": {Title: "Delete this job", Verb: "Delete the job", Action: "iot:DeleteJob", Danger: true,
		Text: "The job and the history of its executions are deleted. This cannot be undone.",
		do: func(r *request, id string) error {
			return r.call(http.MethodDelete, "/jobs/"+url.PathEscape(id), nil, nil, nil)
		}},
	"force-delete": {Title: "Delete this job by force", Verb: "Delete by force", Action: "iot:DeleteJob", Danger: true,
		Text: "The job is deleted though it has not ended. Devices that have begun cannot report any more. This cannot be undone.",
		do: func(r *request, id string) error {
			return r.call(http.MethodDelete, "/jobs/"+url.PathEscape(id), url.Values{"force": {"true"}}, nil, nil)
		}},
}

func cancellation(r *request) map[string]string {
	in := map[string]string{"reasonCode": "CONSOLE"}
	if comment := strings.TrimSpace(r.FormValue("comment")); comment != "" {
		in["comment"] = comment
	}
	return in
}

// jobAction asks whether something is to be done to a job, and says how many devices it touches.
func (r *request) jobAction() error {
	d, ok := deeds[r.PathValue("action")]
	if !ok {
		return r.nowhere()
	}
	id := r.PathValue("id")
	if err := r.may(d.Action, r.Realm.ARN(iot.KindJob, id)); err != nil {
		return err
	}
	j, err := r.Jobs.Job(r.Context(), iot.JobID(id))
	if err != nil {
		return err
	}
	return r.render(http.StatusOK, "deed", d.Title, map[string]any{"Job": j, "Deed": d, "Comment": strings.HasSuffix(d.Action, "CancelJob")})
}

func (r *request) doJobAction() error {
	d, ok := deeds[r.PathValue("action")]
	if !ok {
		return r.nowhere()
	}
	id := r.PathValue("id")
	if err := d.do(r, id); err != nil {
		return err
	}
	r.notify("%s: %s", id, map[bool]string{true: "it is being canceled.", false: "it is being deleted."}[d.Action == "iot:CancelJob"])
	if d.Action == "iot:CancelJob" {
		return r.redirect(Path + "jobs/" + url.PathEscape(id))
	}
	return r.redirect(Path + "jobs")
}
