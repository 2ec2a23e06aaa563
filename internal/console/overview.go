package console

import (
	"context"
	"html/template"
	"net/http"

	"drover/internal/iot"
)

// overviewLive is what changes on the first page.
type overviewLive struct {
	Online        int
	Ended, Failed int64 // in the last minute
	Chart         template.HTML
	Jobs          []jobRow // in progress
	More          bool
	Checks        []Check
	CanJobs       bool
}

const overviewJobs = 8

func (r *request) overviewLive(ctx context.Context) (*overviewLive, error) {
	o := &overviewLive{Online: r.Fleet.Online(), Checks: r.Fleet.Health(ctx)}
	rates := r.history.rates()
	for _, rate := range rates {
		if rate.At > r.now()-60_000 {
			o.Ended, o.Failed = o.Ended+rate.Ended, o.Failed+rate.Failed
		}
	}
	o.Chart = rateChart(rates)
	if o.CanJobs = r.can("iot:ListJobs", "*"); o.CanJobs {
		jobs, next, err := r.Jobs.Jobs(ctx, iot.JobQuery{Status: iot.JobInProgress}, iot.Page{Limit: overviewJobs})
		if err != nil {
			return nil, err
		}
		for _, j := range jobs {
			o.Jobs = append(o.Jobs, r.row(j))
		}
		o.More = next != ""
	}
	return o, nil
}

// overview is the first page.
func (r *request) overview() error {
	o, err := r.overviewLive(r.Context())
	if err != nil {
		return err
	}
	return r.render(http.StatusOK, "overview", "Overview", o)
}

func (r *request) liveOverview() error {
	return r.stream(func() (string, bool, error) {
		o, err := r.overviewLive(r.Context())
		if err != nil {
			return "", false, err
		}
		html, err := r.fragment("overview", "live", o)
		return html, false, err
	})
}
