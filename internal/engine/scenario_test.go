package engine_test

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/uuid"

	"drover/internal/engine"
	"drover/internal/envtest"
	"drover/internal/iot"
	"drover/internal/store"
	"drover/internal/store/sqlstore"
)

var rewrite = flag.Bool("rewrite", false, "write what happens into the scenario files")

// TestScenarios carries out the files in testdata: commands, one a line, each followed
// by what it answers and what devices and applications are told. They run on a real
// database under virtual time. `go test -run TestScenarios -rewrite` records anew.
//
//	thing NAME...                       register things
//	group NAME [in=PARENT]              create a group
//	join GROUP THING... / leave GROUP THING / delete-thing THING
//	many PREFIX N GROUP                 register N things in a group
//	create JOB [continuous] [OPTION=…] TARGET...   TARGET is a thing, or a group with a +
//	  ns=N rate=PER-MINUTE grow=BASE,FACTOR-IN-TENTHS,NOTIFIED,SUCCEEDED
//	  abort=TYPE:PERCENT:MINIMUM,… timeout=MINUTES retry=TYPE:N,…
//	  start=DURATION end=DURATION behavior=B window=CRON_FORM/MINUTES
//	change JOB [rate=…] [abort=…] [timeout=…] [retry=…]
//	cancel JOB [force] / delete JOB [force] / associate JOB GROUP...
//	cancel-execution THING JOB [force] [version=N] [k=v...]
//	delete-execution THING JOB NUMBER [force]
//	start THING [ns=N] [step=MINUTES] [k=v...] / pending THING [ns=N] / describe THING JOB [number=N]
//	update THING JOB STATUS [version=N] [number=N] [step=MINUTES] [k=v...]
//	all JOB STATUS N                    the next N pending things of a job report a status
//	job JOB / jobs / executions JOB
//	wait DURATION
//	clock DURATION                      it is wrong by that from now on
func TestScenarios(t *testing.T) {
	files, err := filepath.Glob("testdata/*.txt")
	if err != nil || len(files) == 0 {
		t.Fatalf("no scenarios: %v", err)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".txt"), func(t *testing.T) {
			t.Parallel()
			runScenario(t, file, sqlstore.Config{Path: filepath.Join(t.TempDir(), "db")})
		})
	}
}

// TestScenariosPostgreSQL is TestScenarios on the other database.
func TestScenariosPostgreSQL(t *testing.T) {
	files, err := filepath.Glob("testdata/*.txt")
	statements, err2 := filepath.Glob("testdata/statements/*.txt")
	if files = append(files, statements...); errors.Join(err, err2) != nil || len(files) == 0 {
		t.Fatalf("no scenarios: %v, %v", err, err2)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".txt"), func(t *testing.T) {
			t.Parallel()
			runScenario(t, file, sqlstore.Config{URL: envtest.PostgreSQL(t), Lease: 1000 * 24 * time.Hour})
		})
	}
}

// runScenario carries out a file and compares. A file that does not speak of notices is
// not told of them, either: many are about something else.
func runScenario(t *testing.T, file string, cfg sqlstore.Config) {
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	quiet := strings.HasPrefix(string(text), "# Without notices.")
	var got strings.Builder
	synctest.Test(t, func(t *testing.T) {
		s := newScene(t, cfg)
		for line := range strings.Lines(string(text)) {
			line = strings.TrimRight(line, "\n")
			switch {
			case strings.HasPrefix(line, "  "): // expectations are written anew
			case line == "" || strings.HasPrefix(line, "#"):
				fmt.Fprintln(&got, line)
			default:
				fmt.Fprintln(&got, line)
				for _, out := range s.do(strings.Fields(line)) {
					if !quiet || !strings.HasPrefix(out, "notify") {
						fmt.Fprintln(&got, "  "+out)
					}
				}
				s.checkInvariants(line)
			}
		}
		s.close()
	})
	if *rewrite {
		if err := os.WriteFile(file, []byte(got.String()), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	if got.String() != string(text) {
		t.Errorf("%s: what happens differs:\n%s", file, firstDifference(string(text), got.String()))
	}
}

func firstDifference(want, got string) string {
	w, g := strings.Split(want, "\n"), strings.Split(got, "\n")
	for i := range max(len(w), len(g)) {
		var a, b string
		if i < len(w) {
			a = w[i]
		}
		if i < len(g) {
			b = g[i]
		}
		if a != b {
			return fmt.Sprintf("line %d\nwant %q\ngot  %q", i+1, a, b)
		}
	}
	return "nowhere"
}

// scene is an engine on a database with everything it tells kept for the scenario.
type scene struct {
	t      *testing.T
	cfg    sqlstore.Config
	db     *sqlstore.DB
	engine *engine.Engine
	stop   func()
	mu     sync.Mutex
	told   []string // guarded by mu
	realm  iot.Realm
	began  time.Time
	wrong  atomic.Int64 // what the clock of the engine is ahead, in nanoseconds
}

func newScene(t *testing.T, cfg sqlstore.Config) *scene {
	s := &scene{t: t, realm: iot.Realm{Account: "123456789012", Region: "eu-central-1"}, began: time.Now()}
	s.open(cfg)
	return s
}

func (s *scene) open(cfg sqlstore.Config) {
	db, err := sqlstore.Open(context.Background(), cfg)
	if err != nil {
		s.t.Fatal(err)
	}
	s.db, s.cfg = db, cfg
	s.engine, err = engine.New(engine.Config{Store: db, Realm: s.realm, Now: func() time.Time { return time.Now().Add(time.Duration(s.wrong.Load())) }, Publish: func(_ context.Context, records []iot.Record) error { s.publish(records); return nil }, ChunkSize: 3, BatchSize: 4, Poll: 24 * time.Hour})
	if err != nil {
		s.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- s.engine.Run(ctx) }()
	s.stop = func() {
		cancel()
		if err := <-done; err != nil {
			s.t.Error(err)
		}
	}
}

func (s *scene) close() {
	s.stop()
	if err := s.db.Close(); err != nil {
		s.t.Error(err)
	}
}

// publish renders records for people.
func (s *scene) publish(records []iot.Record) {
	for _, r := range records {
		switch {
		case r.Kind == iot.ExecutionDeleted:
			s.tell("event %s/%s#%d deleted", r.JobID, r.Execution.Thing, r.Execution.Number)
		case r.Kind == iot.ExecutionWindow:
		case r.Execution != nil && r.Execution.Status.Terminal():
			s.tell("event %s/%s#%d %s by %s", r.JobID, r.Execution.Thing, r.Execution.Number, r.Execution.Status, r.Actor)
		case strings.HasPrefix(string(r.Kind), "job."):
			s.tell("event %s %s", r.JobID, r.Kind)
		}
		if r.List {
			s.tell("notify %s: %s", r.Execution.Thing, list(r.Queue))
		}
		if r.Next {
			next := "nothing"
			if len(r.Queue) > 0 {
				next = short(&r.Queue[0])
			}
			s.tell("notify-next %s: %s", r.Execution.Thing, next)
		}
	}
}

func (s *scene) tell(format string, args ...any) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.told = append(s.told, fmt.Sprintf(format, args...))
}

// hear takes what has been told up to now.
func (s *scene) hear() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	told := s.told
	s.told = nil
	return told
}

func short(e *iot.Execution) string {
	text := fmt.Sprintf("%s#%d %s v%d", e.JobID, e.Number, e.Status, e.Version)
	if e.Details != nil {
		for _, k := range slices.Sorted(maps.Keys(e.Details)) {
			text += " " + k + "=" + e.Details[k]
		}
	}
	return text
}

func list(executions []iot.Execution) string {
	if len(executions) == 0 {
		return "nothing"
	}
	var texts []string
	for i := range executions {
		texts = append(texts, short(&executions[i]))
	}
	return strings.Join(texts, ", ")
}

// options splits the words of a command into plain ones and key=value.
func options(words []string) (plain []string, opts map[string]string) {
	opts = make(map[string]string)
	for _, w := range words {
		if k, v, ok := strings.Cut(w, "="); ok {
			opts[k] = v
		} else {
			plain = append(plain, w)
		}
	}
	return plain, opts
}

// take removes a numeric option.
func take(opts map[string]string, key string) *int64 {
	text, ok := opts[key]
	if !ok {
		return nil
	}
	delete(opts, key)
	n, err := strconv.ParseInt(text, 10, 64)
	if err != nil {
		panic(err)
	}
	return &n
}

func (s *scene) do(words []string) []string {
	plain, opts := options(words[1:])
	answer := s.command(words[0], plain, opts)
	synctest.Wait()
	var out []string
	if answer != "" {
		out = strings.Split(answer, "\n")
	}
	return append(out, s.hear()...)
}

func (s *scene) command(name string, plain []string, opts map[string]string) string {
	ctx := context.Background()
	force := len(plain) > 0 && plain[len(plain)-1] == "force"
	if force {
		plain = plain[:len(plain)-1]
	}
	ns := opts["ns"]
	delete(opts, "ns")
	switch name {
	case "clock":
		d, err := time.ParseDuration(plain[0])
		if err != nil {
			return err.Error()
		}
		s.wrong.Store(int64(d))
		return ""
	case "wait":
		d, err := time.ParseDuration(plain[0])
		if err != nil {
			return err.Error()
		}
		<-time.After(d)
		return ""
	case "reopen":
		s.close()
		s.open(s.cfg)
		return ""
	case "thing":
		return s.update(func(tx store.Tx) error {
			for _, n := range plain {
				t := &iot.Thing{Name: iot.ThingName(n), UUID: uuid.NewString(), Version: 1, CreatedAt: iot.At(time.Now())}
				if err := tx.InsertThings([]*iot.Thing{t}); err != nil {
					return err
				}
			}
			return nil
		})
	case "group":
		return s.update(func(tx store.Tx) error {
			g := &iot.Group{Name: iot.GroupName(plain[0]), UUID: uuid.NewString(), Version: 1, CreatedAt: iot.At(time.Now())}
			if parent := opts["in"]; parent != "" {
				p, err := tx.GroupByName(iot.GroupName(parent))
				if err != nil {
					return err
				}
				g.Parent = p.ID
			}
			return tx.InsertGroup(g)
		})
	case "join":
		return s.update(func(tx store.Tx) error { return s.join(tx, plain[0], plain[1:]) })
	case "leave":
		return s.update(func(tx store.Tx) error {
			g, err := tx.GroupByName(iot.GroupName(plain[0]))
			if err != nil {
				return err
			}
			t, err := tx.ThingByName(iot.ThingName(plain[1]))
			if err != nil {
				return err
			}
			if err := s.engine.Leaving(tx, iot.At(time.Now()), t, g, "key:test"); err != nil {
				return err
			}
			if _, err := tx.DeleteMember(g.ID, t.ID); err != nil {
				return err
			}
			return s.engine.Left(tx, iot.At(time.Now()), t, "key:test")
		})
	case "delete-thing":
		return s.update(func(tx store.Tx) error {
			t, err := tx.ThingByName(iot.ThingName(plain[0]))
			if err != nil {
				return err
			}
			if err := s.engine.ThingDeleted(tx, iot.At(time.Now()), t, "key:test"); err != nil {
				return err
			}
			return tx.DeleteThing(t)
		})
	case "create":
		in := iot.NewJob{JobID: iot.JobID(plain[0]), Document: `{"for":"` + plain[0] + `"}`, Namespace: ns, Actor: "key:test"}
		plain = plain[1:]
		if plain[0] == "continuous" {
			in.Selection, plain = iot.Continuous, plain[1:]
		}
		in.Targets = s.arns(plain)
		in.Config = configOf(opts)
		in.Schedule = s.scheduleOf(opts)
		_, err := s.engine.CreateJob(ctx, in)
		return s.outcome("", err)
	case "change":
		c := configOf(opts)
		in := iot.JobUpdate{JobID: iot.JobID(plain[0]), Rollout: c.Rollout, Abort: c.Abort, Retry: c.Retry, Actor: "key:test"}
		if c.TimeoutMinutes != 0 {
			in.Timeout = &c.TimeoutMinutes
		}
		return s.outcome("", s.engine.UpdateJob(ctx, in))
	case "many":
		n, err := strconv.Atoi(plain[1])
		if err != nil {
			return err.Error()
		}
		var names []string
		for i := range n {
			names = append(names, fmt.Sprintf("%s%04d", plain[0], i+1))
		}
		if out := s.command("thing", names, nil); out != "" {
			return out
		}
		return s.update(func(tx store.Tx) error { return s.join(tx, plain[2], names) })
	case "all":
		return s.all(iot.JobID(plain[0]), plain[1], plain[2])
	case "associate":
		_, err := s.engine.AssociateTargets(ctx, iot.NewTargets{JobID: iot.JobID(plain[0]), Targets: s.arns(plain[1:]), Actor: "key:test"})
		return s.outcome("", err)
	case "cancel":
		_, err := s.engine.CancelJob(ctx, iot.JobCancellation{JobID: iot.JobID(plain[0]), Force: force, Actor: "key:test"})
		return s.outcome("", err)
	case "delete":
		return s.outcome("", s.engine.DeleteJob(ctx, iot.JobDeletion{JobID: iot.JobID(plain[0]), Force: force, Actor: "key:test"}))
	case "cancel-execution":
		in := iot.ExecutionCancellation{Thing: iot.ThingName(plain[0]), JobID: iot.JobID(plain[1]), Force: force, Actor: "key:test"}
		in.ExpectedVersion = take(opts, "version")
		if len(opts) > 0 {
			in.Details = opts
		}
		return s.outcome("", s.engine.CancelExecution(ctx, in))
	case "delete-execution":
		n, err := strconv.ParseInt(plain[2], 10, 64)
		if err != nil {
			return err.Error()
		}
		return s.outcome("", s.engine.DeleteExecution(ctx, iot.ExecutionDeletion{Thing: iot.ThingName(plain[0]), JobID: iot.JobID(plain[1]), Number: n, Force: force, Actor: "key:test"}))
	case "start", "pending", "describe", "update":
		return s.device(name, ns, plain, opts)
	case "job":
		j, err := s.engine.Job(ctx, iot.JobID(plain[0]))
		if err != nil {
			return s.outcome("", err)
		}
		return describeJob(j)
	case "jobs":
		jobs, _, err := s.engine.Jobs(ctx, iot.JobQuery{}, iot.Page{Limit: 100})
		var lines []string
		for _, j := range jobs {
			lines = append(lines, fmt.Sprintf("%s %s", j.JobID, j.Status))
		}
		return s.outcome(strings.Join(lines, "\n"), err)
	case "executions":
		all, _, err := s.engine.JobExecutions(ctx, iot.JobID(plain[0]), iot.NoStatus, iot.Page{Limit: 100})
		var lines []string
		for i := range all {
			lines = append(lines, string(all[i].Thing)+": "+short(&all[i]))
		}
		return s.outcome(strings.Join(lines, "\n"), err)
	}
	return "no such command: " + name
}

func describeJob(j *iot.Job) string {
	text := fmt.Sprintf("%s %s", j.JobID, j.Status)
	if j.Concurrent() {
		text += " concurrent"
	}
	if j.ForceCanceled {
		text += " forced"
	}
	for status := iot.Queued; status <= iot.Canceled; status++ {
		if n := j.Counts[status]; n != 0 {
			text += fmt.Sprintf(" %s=%d", strings.ToLower(status.String()), n)
		}
	}
	return text
}

func (s *scene) device(name, ns string, plain []string, opts map[string]string) string {
	r := &iot.Request{Thing: iot.ThingName(plain[0]), Namespace: ns, Actor: "thing:" + plain[0], ExpectedVersion: take(opts, "version")}
	if n := take(opts, "number"); n != nil {
		r.Number = *n
	}
	r.StepTimeout = take(opts, "step")
	if len(opts) > 0 {
		r.Details = opts
	}
	switch name {
	case "start":
		r.Op = iot.OpStartNext
	case "pending":
		r.Op = iot.OpGetPending
	case "describe":
		r.Op, r.JobID, r.WantDocument = iot.OpDescribe, iot.JobID(plain[1]), true
	case "update":
		r.Op, r.JobID, r.Status, r.WantState = iot.OpUpdate, iot.JobID(plain[1]), iot.ParseExecutionStatus(plain[2]), true
	}
	a, err := s.engine.Do(context.Background(), r)
	if err != nil {
		return s.outcome("", err)
	}
	switch {
	case name == "pending":
		return "in progress: " + list(a.InProgress) + "; queued: " + list(a.Queued)
	case a.State != nil:
		return fmt.Sprintf("ok: %s v%d", a.State.Status, a.State.Version)
	case a.Execution == nil:
		return "ok: nothing"
	}
	document, err := a.Document.Render(nil) // no scenario has placeholders
	if err != nil {
		return err.Error()
	}
	return "ok: " + short(a.Execution) + " " + document
}

// configOf reads the configuration of a job from the options of a command.
func configOf(opts map[string]string) (c iot.JobConfig) {
	number := func(text string) int64 {
		n, err := strconv.ParseInt(text, 10, 64)
		if err != nil {
			panic(err)
		}
		return n
	}
	if text, ok := opts["rate"]; ok {
		c.Rollout = &iot.RolloutConfig{MaximumPerMinute: number(text)}
	}
	if text, ok := opts["grow"]; ok {
		f := strings.Split(text, ",")
		if c.Rollout == nil {
			c.Rollout = &iot.RolloutConfig{}
		}
		c.Rollout.Exponential = &iot.ExponentialRate{BasePerMinute: number(f[0]), FactorTenths: number(f[1]), NotifiedThings: number(f[2]), SucceededThings: number(f[3])}
	}
	if text, ok := opts["abort"]; ok {
		for part := range strings.SplitSeq(text, ",") {
			f := strings.Split(part, ":")
			c.Abort = append(c.Abort, iot.AbortCriterion{Failure: iot.FailureType(f[0]), ThresholdHundredths: number(f[1]) * 100, MinExecuted: number(f[2])})
		}
	}
	if text, ok := opts["timeout"]; ok {
		c.TimeoutMinutes = number(text)
	}
	if text, ok := opts["retry"]; ok {
		for part := range strings.SplitSeq(text, ",") {
			f := strings.Split(part, ":")
			c.Retry = append(c.Retry, iot.RetryCriterion{Failure: iot.FailureType(f[0]), Retries: number(f[1])})
		}
	}
	return c
}

// scheduleOf reads a schedule; times are durations from now.
func (s *scene) scheduleOf(opts map[string]string) *iot.Schedule {
	var schedule iot.Schedule
	at := func(key string) string {
		text, ok := opts[key]
		if !ok {
			return ""
		}
		d, err := time.ParseDuration(text)
		if err != nil {
			panic(err)
		}
		return time.Now().UTC().Add(d).Format("2006-01-02 15:04")
	}
	schedule.Start, schedule.End, schedule.EndBehavior = at("start"), at("end"), iot.EndBehavior(opts["behavior"])
	if text, ok := opts["window"]; ok {
		i := strings.LastIndex(text, "/")
		minutes, err := strconv.ParseInt(text[i+1:], 10, 64)
		if err != nil {
			panic(err)
		}
		schedule.Windows = []iot.Window{{Cron: strings.ReplaceAll(text[:i], "_", " "), Minutes: minutes}}
	}
	if schedule.Start == "" && schedule.End == "" && schedule.EndBehavior == "" && schedule.Windows == nil {
		return nil
	}
	return &schedule
}

// all lets the next n things with a pending execution of a job report a status. What they
// are told is not shown.
func (s *scene) all(id iot.JobID, status, count string) string {
	n, err := strconv.Atoi(count)
	if err != nil {
		return err.Error()
	}
	for _, pending := range []iot.ExecutionStatus{iot.InProgress, iot.Queued} {
		list, _, err := s.engine.JobExecutions(context.Background(), id, pending, iot.Page{Limit: n})
		if err != nil {
			return err.Error()
		}
		for _, x := range list[:min(n, len(list))] {
			r := &iot.Request{Op: iot.OpUpdate, Thing: x.Thing, JobID: id, Status: iot.ParseExecutionStatus(status), Actor: "thing"}
			if _, err := s.engine.Do(context.Background(), r); err != nil {
				return err.Error()
			}
			n--
		}
	}
	synctest.Wait()
	for _, line := range s.hear() {
		if strings.HasPrefix(line, "event "+string(id)+" ") {
			s.tell("%s", line)
		}
	}
	if n > 0 {
		return fmt.Sprintf("%d too few", n)
	}
	return ""
}

func (s *scene) arns(names []string) []string {
	var arns []string
	for _, n := range names {
		if g, ok := strings.CutPrefix(n, "+"); ok {
			arns = append(arns, s.realm.ARN(iot.KindGroup, g))
		} else {
			arns = append(arns, s.realm.ARN(iot.KindThing, n))
		}
	}
	return arns
}

func (s *scene) join(tx store.Tx, groupName string, things []string) error {
	g, err := tx.GroupByName(iot.GroupName(groupName))
	if err != nil {
		return err
	}
	seq, err := tx.Sequence(len(things))
	if err != nil {
		return err
	}
	var members []iot.Member
	for i, n := range things {
		t, err := tx.ThingByName(iot.ThingName(n))
		if err != nil {
			return err
		}
		members = append(members, iot.Member{Seq: seq + int64(i), GroupID: g.ID, ThingID: t.ID, Thing: t.Name})
	}
	fresh, err := tx.InsertMembers(members)
	if err != nil {
		return err
	}
	return s.engine.Joined(tx, iot.At(time.Now()), fresh, "key:test")
}

func (s *scene) update(f func(store.Tx) error) string {
	return s.outcome("", s.db.Update(context.Background(), f))
}

func (s *scene) outcome(text string, err error) string {
	if err == nil {
		return text
	}
	var e *iot.Error
	if !errors.As(err, &e) {
		return "broken: " + err.Error()
	}
	out := string(e.Code)
	if e.State != nil {
		out += fmt.Sprintf(" (%s v%d)", e.State.Status, e.State.Version)
	}
	return out
}

// checkInvariants compares what is stored twice: queues with executions, and counts with
// the latest execution of each thing.
func (s *scene) checkInvariants(after string) {
	err := s.db.View(context.Background(), func(tx store.Reader) error {
		jobs, err := tx.Jobs(store.JobFilter{}, store.JobKey{}, 1000)
		if err != nil {
			return err
		}
		for _, j := range jobs {
			all, err := tx.ExecutionsOfJob(j.ID, iot.NoStatus, 0, 10000)
			if err != nil {
				return err
			}
			latest := make(map[int64]iot.Execution)
			for _, x := range all {
				if x.Number > latest[x.ThingID].Number {
					latest[x.ThingID] = x
				}
				queues, err := tx.QueuesByID([]int64{x.ThingID})
				if err != nil {
					return err
				}
				p := queues[0].BySeq(x.Seq)
				if (p != nil) != x.Status.Pending() {
					s.t.Errorf("after %q: %s: pending in the table %v, in the queue %v", after, short(&x), x.Status.Pending(), p != nil)
				} else if p != nil && (p.Status != x.Status || p.Version != x.Version || p.Number != x.Number) {
					s.t.Errorf("after %q: the table has %s, the queue %s", after, short(&x), short(p))
				}
			}
			var counts, executed iot.Counts
			for _, x := range latest {
				counts[x.Status]++
				for _, y := range slices.Backward(all) { // the most recent attempt that was executed
					if y.ThingID == x.ThingID && y.Status.Executed() {
						executed[y.Status]++
						break
					}
				}
			}
			if executed != j.Executed {
				s.t.Errorf("after %q: executed counts of %s are %v, its executions say %v", after, j.JobID, j.Executed, executed)
			}
			if counts != j.Counts {
				s.t.Errorf("after %q: counts of %s are %v, its executions say %v", after, j.JobID, j.Counts, counts)
			}
		}
		return nil
	})
	if err != nil {
		s.t.Errorf("after %q: %v", after, err)
	}
}
