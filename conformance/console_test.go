package conformance

import (
	"context"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/iot"
	"github.com/aws/aws-sdk-go-v2/service/iot/types"
	"github.com/chromedp/cdproto/log"
	"github.com/chromedp/cdproto/network"
	"github.com/chromedp/cdproto/runtime"
	"github.com/chromedp/chromedp"
	"github.com/chromedp/chromedp/kb"

	"drover/internal/envtest"
)

var screenshots = flag.String("screenshots", "", "folder for pictures of the console")

// browser is headless Chromium with somebody in front of it. What pages complain about, and what they
// ask of other hosts, fails the test.
type browser struct {
	*fleet
	tab context.Context
}

func newBrowser(f *fleet) *browser {
	f.t.Helper()
	options := append(chromedp.DefaultExecAllocatorOptions[:], chromedp.ExecPath(envtest.Command(f.t, "chromium")), chromedp.NoSandbox, chromedp.WindowSize(1440, 900))
	alloc, stop := chromedp.NewExecAllocator(f.ctx, options...)
	tab, end := chromedp.NewContext(alloc)
	f.t.Cleanup(func() { end(); stop() })
	var mu sync.Mutex
	var complaints []string
	f.must(chromedp.Listen(tab, func(event any) {
		complaint := ""
		switch e := event.(type) {
		case *runtime.EventExceptionThrown:
			complaint = "exception: " + e.ExceptionDetails.Text
		case *log.EventEntryAdded:
			if e.Entry.Level == log.EntryLevelError && !strings.Contains(e.Entry.Text, "401") { // who signs in wrongly
				complaint = e.Entry.URL + ": " + e.Entry.Text
			}
		case *network.EventRequestWillBeSent:
			if !strings.HasPrefix(e.Request.URL, f.http+"/") && !strings.HasPrefix(e.Request.URL, "data:") {
				complaint = "asks " + e.Request.URL
			}
		}
		if complaint != "" {
			mu.Lock()
			complaints = append(complaints, complaint)
			mu.Unlock()
		}
	}))
	f.t.Cleanup(func() {
		mu.Lock()
		defer mu.Unlock()
		for _, c := range complaints {
			f.t.Errorf("in the browser: %s", c)
		}
	})
	_, err := chromedp.Call(tab, network.Enable, network.EnableParams{})
	f.must(err)
	_, err = chromedp.Call(tab, log.Enable, struct{}{})
	f.must(err)
	return &browser{f, tab}
}

// do carries out what somebody does.
func (b *browser) do(steps ...chromedp.Action[chromedp.Void]) {
	b.t.Helper()
	ctx, cancel := context.WithTimeout(b.tab, 30*time.Second)
	defer cancel()
	if err := chromedp.Do(ctx, steps...); err != nil {
		at, _ := chromedp.Run(b.tab, chromedp.Location())
		text, _ := chromedp.Run(b.tab, chromedp.Evaluate[string]("document.body ? document.body.innerText : ''"))
		b.t.Fatalf("%v, at %s:\n%s", err, at, text)
	}
}

// evaluated is what a script returns.
func evaluated[T any](b *browser, script string) T {
	b.t.Helper()
	v, err := chromedp.Run(b.tab, chromedp.Evaluate[T](script))
	if err != nil {
		b.t.Fatalf("%s: %v", script, err)
	}
	return v
}

func (b *browser) open(path string) {
	b.t.Helper()
	b.do(chromedp.Navigate(b.http + path))
}

// until waits until a script is true, on whatever page there is then.
func (b *browser) until(script string) {
	b.t.Helper()
	b.eventually(script, func() bool {
		done, err := chromedp.Run(b.tab, chromedp.Evaluate[bool](script))
		return err == nil && done
	})
}

// sees waits until a text is on the page.
func (b *browser) sees(text string) {
	b.t.Helper()
	b.until(fmt.Sprintf("document.readyState === 'complete' && document.body.innerText.includes(%q)", text))
}

// click clicks the link or button with a text, and waits for the page that comes.
func (b *browser) click(text string) {
	b.t.Helper()
	b.leaving(fmt.Sprintf(`[...document.querySelectorAll("a,button")].find(e => e.innerText.includes(%q)).click()`, text))
}

// leaving waits for the page that a script leads to.
func (b *browser) leaving(script string) {
	b.t.Helper()
	evaluated[bool](b, "window.here = true; "+script+"; true")
	b.until("!window.here && document.readyState === 'complete'")
}

// fill fills fields of a form in: names and values in turn.
func (b *browser) fill(fields ...string) {
	b.t.Helper()
	for i := 0; i < len(fields); i += 2 {
		evaluated[bool](b, fmt.Sprintf("document.querySelector('[name=%s]').value = %q; true", fields[i], fields[i+1]))
	}
}

// picture keeps how a page looks, wide and on a phone, if somebody wants to look.
func (b *browser) picture(name string) {
	b.t.Helper()
	if *screenshots == "" {
		return
	}
	for width, suffix := range map[int64]string{1440: "", 390: "-phone"} {
		b.do(chromedp.EmulateViewport(width, 900))
		png, err := chromedp.Run(b.tab, chromedp.FullScreenshot(100))
		b.must(err)
		b.must(os.WriteFile(filepath.Join(*screenshots, "console-"+name+suffix+".png"), png, 0o644))
	}
	b.do(chromedp.EmulateViewport(1440, 900))
}

// fits checks that a page is not wider than a phone.
func (b *browser) fits(path string) {
	b.t.Helper()
	b.do(chromedp.EmulateViewport(390, 800))
	b.open(path)
	if width := evaluated[int](b, "document.documentElement.scrollWidth"); width > 390 {
		b.t.Errorf("%s is %d wide on a phone", path, width)
	}
	b.do(chromedp.EmulateViewport(1440, 900))
}

// accessible checks a page for what assistive technology needs: names of everything that can be operated,
// labels, headings, a language, headers of tables, texts for pictures.
func (b *browser) accessible(path string) {
	b.t.Helper()
	b.open(path)
	for _, problem := range evaluated[[]string](b, `(() => {
		const found = [], say = (what, e) => found.push(what + ": " + e.outerHTML.slice(0, 120));
		if (!document.documentElement.lang) found.push("no language");
		if (!document.title) found.push("no title");
		if (document.querySelectorAll("h1").length !== 1) found.push("not one h1");
		if (document.querySelectorAll("main").length !== 1) found.push("not one main");
		let level = 0;
		for (const h of document.querySelectorAll("h1,h2,h3,h4")) { const l = +h.tagName[1]; if (l > level + 1) say("heading skips a level", h); level = l; }
		for (const e of document.querySelectorAll("a[href],button")) if (!e.textContent.trim() && !e.getAttribute("aria-label")) say("has no name", e);
		for (const e of document.querySelectorAll("input:not([type=hidden]),select,textarea")) if (!e.labels.length) say("has no label", e);
		for (const e of document.querySelectorAll("svg")) if (!e.getAttribute("aria-hidden") && !e.getAttribute("aria-label")) say("has no text", e);
		for (const e of document.querySelectorAll("table")) if (!e.querySelector("th[scope]")) say("has no headers", e);
		for (const e of document.querySelectorAll("[tabindex]")) if (+e.getAttribute("tabindex") > 0) say("changes the order of tabs", e);
		for (const e of document.querySelectorAll("[style],[onclick]")) say("is inline", e);
		const ids = new Set(); for (const e of document.querySelectorAll("[id]")) { if (ids.has(e.id) && !e.closest("defs")) say("id twice", e); ids.add(e.id); }
		const light = (color) => { const c = color.match(/[\d.]+/g).slice(0, 3).map(v => { v /= 255; return v <= .04045 ? v / 12.92 : ((v + .055) / 1.055) ** 2.4; }); return .2126 * c[0] + .7152 * c[1] + .0722 * c[2]; };
		const ground = (e) => { for (; e; e = e.parentElement) { const c = getComputedStyle(e).backgroundColor; if (!/, 0\)$/.test(c)) return c; } return "rgb(255,255,255)"; };
		for (const e of document.querySelectorAll("body *")) {
			if (![...e.childNodes].some(n => n.nodeType === 3 && n.textContent.trim()) || e.closest("svg") || !e.offsetParent || e.tagName === "TITLE") continue;
			const a = light(getComputedStyle(e).color), g = light(ground(e)), ratio = (Math.max(a, g) + .05) / (Math.min(a, g) + .05);
			if (ratio < 4.5) say("has too little contrast, " + ratio.toFixed(2), e);
		}
		return found;
	})()`) {
		b.t.Errorf("%s: %s", path, problem)
	}
}

// TestConsole: somebody signs in, watches a job end, makes one by the form and cancels it.
func TestConsole(t *testing.T) {
	f := fleetOn(t, ownServer(t))
	b := newBrowser(f)
	b.open("/console/jobs?status=CANCELED")
	b.fill("name", f.key, "password", "wrong")
	b.click("Sign in")
	b.sees("do not belong together")
	b.picture("sign-in")
	b.fill("password", f.secret)
	b.click("Sign in")
	b.sees("There are no such jobs") // where he wanted to go

	for i := range 6 {
		f.typed(fmt.Sprint("pump-", i), map[string]string{"site": "north", "line": itoa(i % 2)})
	}
	_, err := f.api.CreateThingGroup(f.ctx, &iot.CreateThingGroupInput{ThingGroupName: aws.String("pumps")})
	f.must(err)
	for i := range 6 {
		_, err := f.api.AddThingToThingGroup(f.ctx, &iot.AddThingToThingGroupInput{ThingGroupName: aws.String("pumps"), ThingName: aws.String(fmt.Sprint("pump-", i))})
		f.must(err)
	}
	_, err = f.api.CreateJob(f.ctx, &iot.CreateJobInput{JobId: aws.String("firmware-7"), Description: aws.String("Firmware 7 for all pumps"), Targets: []string{f.groupARN("pumps")},
		Document:    aws.String(`{"operation":"update","version":7,"files":["a.bin"]}`),
		AbortConfig: &types.AbortConfig{CriteriaList: []types.AbortCriteria{{Action: types.AbortActionCancel, FailureType: types.JobExecutionFailureTypeAll, MinNumberOfExecutedThings: aws.Int32(10), ThresholdPercentage: aws.Float64(40)}}}})
	f.must(err)
	f.eventually("all have it", func() bool { return len(f.executions("firmware-7")) == 6 })
	b.open("/console/jobs")
	b.sees("Firmware 7 for all pumps")
	b.picture("jobs")
	b.click("firmware-7")
	b.sees("queued 6")
	for i := range 6 { // while somebody watches
		d := f.connect(fmt.Sprint("pump-", i))
		status, details := "SUCCEEDED", ""
		if i == 4 {
			status, details = "FAILED", `,"statusDetails":{"error":"no space left"}`
		}
		if i == 5 {
			break
		}
		d.accepted("firmware-7/update", fmt.Sprintf(`{"status":%q%s}`, status, details))
	}
	b.sees("failed 1")
	b.picture("job-live")
	b.do(chromedp.Reload())
	b.sees("error: no space left")
	b.sees("stops when 40 % of at least 10")
	b.picture("job")

	b.click("Cancel…")
	b.sees("It has not ended on one device")
	b.fill("comment", "seen enough")
	b.picture("cancel")
	b.click("Cancel the job")
	b.sees("it is being canceled")
	f.eventually("job is canceled", func() bool {
		out, err := f.api.DescribeJob(f.ctx, &iot.DescribeJobInput{JobId: aws.String("firmware-7")})
		f.must(err)
		return out.Job.Status == types.JobStatusCanceled && aws.ToString(out.Job.Comment) == "seen enough"
	})

	b.open("/console/new-job")
	b.fill("id", "reboot", "targets", "pumps", "document", `{"operation":"reboot"}`, "rate", "50", "percent", "20", "least", "3")
	b.click("Rehearse")
	b.sees("Rehearsal with 6 devices")
	b.sees("aws iot create-job --job-id reboot")
	b.picture("new-job")
	b.click("Create the job for 6 devices")
	b.sees("The job reboot was created")
	out, err := f.api.DescribeJob(f.ctx, &iot.DescribeJobInput{JobId: aws.String("reboot")})
	f.must(err)
	if aws.ToInt32(out.Job.JobExecutionsRolloutConfig.MaximumPerMinute) != 50 || fmt.Sprint(out.Job.Targets) != fmt.Sprint([]string{f.groupARN("pumps")}) {
		t.Errorf("%+v", out.Job)
	}
	b.open("/console/things/pump-4")
	b.sees("no space left")
	b.sees("connected")
	b.picture("thing")
	b.open("/console/groups/pumps")
	b.sees("pump-3")
	b.open("/console/things?q=pump-2")
	b.sees("site: north")
	for _, path := range []string{"/console/", "/console/jobs", "/console/jobs/firmware-7", "/console/jobs/reboot/delete", "/console/new-job", "/console/things", "/console/things/pump-1", "/console/groups", "/console/groups/pumps", "/console/nowhere"} {
		if path != "/console/nowhere" { // a page that is not there is an error of the browser's, too
			b.accessible(path)
			b.fits(path)
		}
	}
	b.open("/console/")
	b.picture("overview")

	// By keyboard alone: the first stop skips to the content, the next ones are the navigation.
	b.open("/console/")
	b.do(chromedp.KeyEvent(kb.Tab), chromedp.KeyEvent(kb.Tab), chromedp.KeyEvent(kb.Tab), chromedp.KeyEvent(kb.Tab))
	if focused := evaluated[string](b, "document.activeElement.innerText"); focused != "Jobs" {
		t.Errorf("the fourth stop is %q", focused)
	}
	b.do(chromedp.KeyEvent(kb.Enter))
	b.sees("Job id")

	b.click("Sign out")
	b.sees("Sign in with an API key")
	b.open("/console/jobs")
	b.sees("Sign in with an API key")
}
