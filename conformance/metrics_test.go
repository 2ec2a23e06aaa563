package conformance

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/sync/errgroup"

	"drover/internal/envtest"
)

// metric is what is said of one, on the page or by a server.
type metric struct {
	kind   string
	labels string             // sorted
	values map[string]float64 // by what follows the name
}

// TestMetrics: a server at work, which has done something of everything, has the metrics that are
// documented, and no others.
func TestMetrics(t *testing.T) {
	t.Parallel()
	f := fleetOn(t, ownServer(t, tlsFlags...))
	f.putObject(f.newBucket(), "k", []byte("object"))
	if status, _ := f.fetch("GET", f.http+"/jobs", ""); status != 403 {
		t.Errorf("a request without a signature: %d", status)
	}
	var load errgroup.Group
	for i := range 3 {
		d := f.connect(f.thing(fmt.Sprint("t", i)))
		d.listen("notify-next")
		id := d.give(fmt.Sprint("j", i))
		load.Go(func() error {
			for n := range 50 {
				if _, _, err := d.ask("start-next", `{}`); err != nil {
					return err
				}
				result, answer, err := d.ask(id+"/update", fmt.Sprintf(`{"status":"IN_PROGRESS","statusDetails":{"step":"%d"}}`, n))
				if err != nil || result != "accepted" {
					return fmt.Errorf("update: %s %v, %w", result, answer, err)
				}
			}
			d.disconnect()
			return nil
		})
	}
	before := scrape(t, f)
	f.must(load.Wait())
	f.eventually("all is counted", func() bool {
		m := scrape(t, f)
		ended := 0.0
		for _, n := range m["drover_mqtt_disconnects_total"].values { // for whatever reason
			ended += n
		}
		return m["drover_executions"].values[`{status="IN_PROGRESS"}`] == 3 && ended == 3
	})
	after := scrape(t, f)
	for name, want := range map[string]struct {
		series string
		value  float64
	}{
		"drover_device_requests_total":       {`{operation="UpdateJobExecution",result="accepted",transport="mqtt"}`, 150},
		"drover_device_request_seconds":      {`_count{operation="UpdateJobExecution"}`, 150},
		"drover_api_requests_total":          {`{code="",operation="CreateJob"}`, 3},
		"drover_api_request_seconds":         {`_count{operation="CreateJob"}`, 3},
		"drover_refused_total":               {`{plane="api",reason="MissingAuthenticationTokenException"}`, 1},
		"drover_jobs":                        {`{status="IN_PROGRESS"}`, 3},
		"drover_executions_total":            {`{loop="rollout"}`, 3},
		"drover_mqtt_accepted_total":         {"", 3},
		"drover_mqtt_connections":            {"", 0},
		"drover_inbox_requests":              {"", 0},
		"drover_journal_unpublished_records": {"", 0},
		"drover_journal_unpublished_seconds": {"", 0},
		"drover_store_failures_total":        {`{reason="other"}`, 0},
		"drover_loop_lag_seconds":            {`{loop="jobs"}`, 0},
		"drover_object_requests_total":       {`{code="",operation="PutObject"}`, 1},
		"drover_published_total":             {`{kind="notify-next"}`, 3},
	} {
		if have, ok := after[name].values[want.series]; !ok || have != want.value {
			t.Errorf("%s%s is %v (%t), want %v; there are %v", name, want.series, have, ok, want.value, after[name].values)
		}
	}
	for _, name := range []string{"drover_batch_requests", "drover_store_commit_seconds"} {
		if after[name].values["_count"] <= before[name].values["_count"] {
			t.Errorf("%s does not grow", name)
		}
	}
	asDocumented(t, after, func(name string) bool { return !strings.HasPrefix(name, clusterMetrics) })
}

// clusterMetrics is how the names of metrics begin that only one of several nodes has.
const clusterMetrics = "drover_cluster_"

// asDocumented checks that the server has the metrics that the documentation has, of which it has to have some.
func asDocumented(t *testing.T, all map[string]metric, has func(name string) bool) {
	t.Helper()
	page := documentedMetrics(t)
	for name := range page {
		if _, ok := all[name]; !ok && has(name) {
			t.Errorf("docs/operations.md has %s, which is not at /metrics", name)
		}
	}
	for name, have := range all {
		if want, ok := page[name]; !ok {
			t.Errorf("docs/operations.md lacks %s", name)
		} else if have.kind != want.kind || have.labels != want.labels {
			t.Errorf("%s is a %s with labels %q, and documented as a %s with %q", name, have.kind, have.labels, want.kind, want.labels)
		}
	}
}

// scrape returns drover's own metrics of a server.
func scrape(t *testing.T, f *fleet) map[string]metric {
	t.Helper()
	status, text := f.fetch("GET", f.http+"/metrics", "")
	if status != 200 {
		t.Fatalf("/metrics: %d %s", status, text)
	}
	all := make(map[string]metric)
	m, name := metric{}, ""
	label := regexp.MustCompile(`([a-z_]+)="`)
	for line := range strings.Lines(text) {
		if words := strings.Fields(line); strings.HasPrefix(line, "# TYPE ") {
			name, m = words[2], metric{kind: words[3], values: make(map[string]float64)}
			continue
		}
		if strings.HasPrefix(line, "#") || !strings.HasPrefix(name, "drover_") {
			continue
		}
		labels := strings.Fields(m.labels)
		for _, found := range label.FindAllStringSubmatch(line, -1) {
			if found[1] != "le" && !slices.Contains(labels, found[1]) {
				labels = append(labels, found[1])
			}
		}
		slices.Sort(labels)
		m.labels = strings.Join(labels, " ")
		end := strings.LastIndexByte(line, ' ')
		value, err := strconv.ParseFloat(strings.TrimSpace(line[end:]), 64)
		if err != nil {
			t.Fatalf("%q: %v", line, err)
		}
		m.values[line[len(name):end]] = value
		all[name] = m
	}
	return all
}

// documentedMetrics reads the table of the page.
func documentedMetrics(t *testing.T) map[string]metric {
	t.Helper()
	page, err := os.ReadFile(filepath.Join("..", "docs", "operations.md"))
	if err != nil {
		t.Fatal(err)
	}
	all := make(map[string]metric)
	for _, row := range regexp.MustCompile("(?m)^\\| `(drover_[a-z_]+)` \\| ([a-z]+) \\| ([a-z, ]*)\\|").FindAllStringSubmatch(string(page), -1) {
		labels := strings.FieldsFunc(row[3], func(r rune) bool { return r == ',' || r == ' ' })
		slices.Sort(labels)
		if _, twice := all[row[1]]; twice {
			t.Errorf("docs/operations.md has %s twice", row[1])
		}
		all[row[1]] = metric{kind: row[2], labels: strings.Join(labels, " ")}
	}
	if len(all) < 50 {
		t.Fatalf("docs/operations.md has only %d metrics", len(all))
	}
	return all
}

// TestMetricsInUse: the alerts and the dashboard ask for metrics that there are, with labels that they
// have, and Prometheus understands the alerts.
func TestMetricsInUse(t *testing.T) {
	t.Parallel()
	page := documentedMetrics(t)
	for _, name := range []string{"drover.rules.yml", "grafana.json"} {
		text, err := os.ReadFile(filepath.Join("..", "deploy", "prometheus", name))
		if err != nil {
			t.Fatal(err)
		}
		used := regexp.MustCompile(`(drover_[a-z_]+)(?:\{([^}]*)\})?`).FindAllStringSubmatch(strings.ReplaceAll(string(text), `\"`, `"`), -1)
		if len(used) < 15 {
			t.Errorf("%s uses only %d metrics", name, len(used))
		}
		for _, u := range used {
			m, ok := page[u[1]]
			for _, suffix := range []string{"_bucket", "_count", "_sum"} {
				if base, found := strings.CutSuffix(u[1], suffix); found && page[base].kind == "histogram" {
					m, ok = page[base], true
				}
			}
			if !ok {
				t.Errorf("%s: there is no %s", name, u[1])
			}
			for _, label := range regexp.MustCompile(`([a-z]+)(?:=|!)`).FindAllStringSubmatch(u[2], -1) {
				if l := label[1]; l != "instance" && l != "job" && !slices.Contains(strings.Fields(m.labels), l) {
					t.Errorf("%s: %s has no label %s", name, u[1], l)
				}
			}
		}
	}
	promtool := envtest.Command(t, "promtool")
	for _, args := range [][]string{{"check", "rules", "drover.rules.yml"}, {"test", "rules", "drover.rules.test.yml"}} {
		cmd := exec.Command(promtool, args...)
		cmd.Dir = filepath.Join("..", "deploy", "prometheus")
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Errorf("promtool %s: %v\n%s", strings.Join(args, " "), err, out)
		}
	}
}
