package console

import (
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"
)

// auditPath is where the server tells who did what.
const auditPath = "/_drover/audit"

// deedDone is an entry of the audit log.
type deedDone struct {
	Time      time.Time `json:"time"`
	Who       string    `json:"who"`
	Name      string    `json:"name"`
	From      string    `json:"from"`
	Operation string    `json:"operation"`
	Targets   []string  `json:"targets"`
	Allowed   bool      `json:"allowed"`
	Error     string    `json:"error"`
}

const auditEntries = 200

// audit shows who did what, the latest first; on what, if that is asked for.
func (r *request) audit() error {
	query := url.Values{"limit": {"200"}}
	data := map[string]any{"Most": auditEntries}
	for _, field := range []string{"who", "operation", "target"} {
		v := strings.TrimSpace(r.FormValue(field))
		data[strings.ToUpper(field[:1])+field[1:]] = v
		if v != "" {
			query.Set(field, v)
		}
	}
	var out struct{ Entries []deedDone }
	if err := r.call(http.MethodGet, auditPath, query, nil, &out); err != nil {
		return err
	}
	slices.Reverse(out.Entries)
	data["Entries"] = out.Entries
	return r.render(http.StatusOK, "audit", "Audit", data)
}
