package conformance

import (
	"bytes"
	"context"
	"crypto/tls"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
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
	f.t.Cleanup(func() {
		if f.t.Failed() {
			text, err := chromedp.Run(tab, chromedp.Evaluate[string]("location.pathname + '\\n' + document.body.innerText"))
			f.t.Logf("the page at the end: %s %v", text, err)
		}
	})
	var mu sync.Mutex
	var complaints []string
	f.must(chromedp.Listen(tab, func(event any) {
		complaint := ""
		switch e := event.(type) {
		case *runtime.EventExceptionThrown:
			complaint = "exception: " + e.ExceptionDetails.Text
		case *log.EventEntryAdded:
			// A page that refuses something is an answer like others.
			page := strings.Contains(e.Entry.Text, "status of 4") && !strings.Contains(e.Entry.URL, "/static/") && !strings.HasSuffix(e.Entry.URL, "/live")
			if e.Entry.Level == log.EntryLevelError && !page {
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

// signedIn is a browser in front of which somebody has signed in.
func signedIn(f *fleet) *browser {
	b := newBrowser(f)
	b.open("/console/")
	b.fill("name", f.key, "password", f.secret)
	b.click("Sign in")
	b.sees("Overview")
	return b
}

// TestConsoleAccess: somebody makes a policy, and a certificate with it for a device, which connects and
// is cut off when the certificate is revoked; makes an API key, and revokes it.
func TestConsoleAccess(t *testing.T) {
	oneServer(t, "the audit log")
	f := tlsFleet(t)
	b := signedIn(f)
	thing, policy, key := f.thing("pump"), f.name("device"), f.name("ci")
	b.open("/console/new-policy")
	b.fill("name", policy)
	b.click("Create the policy")
	b.sees("was created")
	b.open("/console/new-certificate?thing=" + thing)
	b.fill("policy", "nobody")
	b.click("Make it")
	b.sees("nobody")
	b.fill("policy", policy)
	b.click("Make it")
	b.sees("Its private key is shown this once")
	texts := evaluated[[]string](b, `[...document.querySelectorAll("pre")].map(e => e.innerText)`)
	if links := evaluated[[]string](b, `[...document.querySelectorAll("a[download]")].map(e => decodeURIComponent(e.href.split(",")[1]))`); len(texts) != 3 || strings.Join(links, "") != strings.Join(texts, "") {
		t.Errorf("files to download: %q, shown: %q", links, texts)
	}
	b.picture("new-certificate")
	pair, err := tls.X509KeyPair([]byte(texts[0]), []byte(texts[1]))
	f.must(err)
	d, err := f.overTLS(f.mqtts, f.config(with(identity{tls: pair})), thing, 5)
	f.must(err)
	b.open("/console/things/" + thing)
	b.sees("connected")
	b.leaving(`document.querySelector("a[href*='/console/certificates/']").click()`)
	b.sees(policy)
	b.picture("certificate")
	at := evaluated[string](b, "location.pathname")
	b.click("Revoke…")
	b.sees("Its device is disconnected at once")
	b.click("Revoke")
	b.sees("It is revoked.")
	select {
	case <-d.gone:
	case <-time.After(patience):
		t.Error("the device is still connected")
	}
	f.shut(f.mqtts, f.config(with(identity{tls: pair})))
	long := f.name(strings.Repeat("long", 20))
	_, err = f.api.CreatePolicy(f.ctx, &iot.CreatePolicyInput{PolicyName: &long, PolicyDocument: aws.String(`{"Version":"2012-10-17","Statement":[{"Effect":"Deny","Action":"iot:*","Resource":"*"}]}`)})
	f.must(err)
	b.fits("/console/policies")
	b.open("/console/policies/" + policy)
	b.picture("policy")
	b.fill("document", `{"Version":"2012-10-17","Statement":[{"Effect":"Deny","Action":"iot:*","Resource":"*"}]}`)
	b.click("Put it in force")
	b.sees("Version 2")
	b.click("Put version 1 in force")
	b.sees("Version 1")
	b.click("Delete version 2")
	b.click("Delete…")
	b.click("Delete")
	b.sees("attached") // the refusal says to what
	b.open(at)
	b.click("Delete…")
	b.click("Delete")
	b.sees("The certificate was deleted")
	b.open("/console/policies/" + policy + "/delete")
	b.click("Delete")
	b.open("/console/policies/" + policy)
	b.sees("Not found")

	b.open("/console/keys")
	b.fill("name", key)
	b.click("Make the key")
	b.sees("Its secret is shown this once")
	b.picture("keys")
	credentials := regexp.MustCompile(`aws_access_key_id = (\S+)\s+aws_secret_access_key = (\S+)`).FindStringSubmatch(evaluated[string](b, `document.querySelector("pre").innerText`))
	other, server := *f, *f.server
	other.server, server.key, server.secret = &server, credentials[1], credentials[2]
	lesser := signedIn(&other)
	lesser.open("/console/keys")
	lesser.sees("You may not do this")
	lesser.open("/console/things/" + thing)
	lesser.sees("In no group")
	b.leaving(fmt.Sprintf(`[...document.querySelectorAll("a")].find(e => e.textContent.includes("Revoke %s")).click()`, key))
	b.click("Revoke")
	b.sees("The key was revoked")
	lesser.open("/console/things/" + thing)
	lesser.sees("Sign in with an API key")
	b.open("/console/audit?operation=CreateKeysAndCertificate&who=" + f.key)
	b.sees("CreateKeysAndCertificate")
	b.picture("audit")
	for _, path := range []string{"/console/certificates", "/console/new-certificate", "/console/policies", "/console/new-policy", "/console/keys", "/console/audit"} {
		b.accessible(path)
		b.fits(path)
	}
}

// TestConsoleFiles: somebody uploads a file, with JavaScript and without, gets it back, and deletes it.
func TestConsoleFiles(t *testing.T) {
	oneServer(t, "the object store in the box")
	f := tlsFleet(t)
	b := signedIn(f)
	name := strings.ToLower(f.name("firmware"))
	b.open("/console/files")
	b.fill("name", "No")
	evaluated[bool](b, `document.querySelector("form.card").noValidate = true`)
	b.click("Create the bucket")
	b.sees("not valid")
	b.fill("name", name)
	b.click("Create the bucket")
	b.sees("Nothing is here")
	folder := t.TempDir()
	file := filepath.Join(folder, "ein Bild +1.bin")
	content := bytes.Repeat([]byte("drover\n"), 500_000)
	f.must(os.WriteFile(file, content, 0o600))
	b.open("/console/files/" + name + "?prefix=v7/")
	for _, script := range []bool{true, false} {
		if !script {
			f.must(os.Truncate(file, 1000))
			evaluated[bool](b, `document.querySelector("form[data-upload]").outerHTML += ""; true`) // without what listens
		}
		b.do(chromedp.SetUploadFiles("input[type=file]", []string{file}))
		b.click("Upload")
		b.sees("ein Bild +1.bin")
		b.sees(map[bool]string{true: "3.5 MB", false: "1 KB"}[script])
	}
	b.picture("files")
	got := evaluated[int](b, `(() => {
		const ask = new XMLHttpRequest();
		ask.open("GET", document.querySelector("a[download]").href, false);
		ask.overrideMimeType("text/plain; charset=x-user-defined");
		ask.send();
		return ask.getResponseHeader("content-disposition").startsWith("attachment") ? ask.responseText.length : -1;
	})()`)
	if got != 1000 {
		t.Errorf("%d bytes came back", got)
	}
	b.accessible("/console/files/" + name + "?prefix=v7/")
	b.fits("/console/files/" + name + "?prefix=v7/")
	b.accessible("/console/files")
	b.open("/console/files/" + name + "/delete")
	b.click("Delete")
	b.sees("not empty")
	b.open("/console/files/" + name + "?prefix=v7/")
	b.leaving(`document.querySelector("td a[href*='delete']").click()`)
	b.click("Delete")
	b.sees("was deleted")
	b.open("/console/files/" + name + "/delete")
	b.click("Delete")
	b.sees("was deleted")
}

// TestConsoleJobs: jobs by query, by list and by template; a job is changed while it goes on.
func TestConsoleJobs(t *testing.T) {
	f := fleetOn(t, ownServer(t))
	b := signedIn(f)
	b.open("/console/things?q=nobody")
	b.sees("There are no such things")
	_, err := f.api.UpdateIndexingConfiguration(f.ctx, &iot.UpdateIndexingConfigurationInput{ThingIndexingConfiguration: &types.ThingIndexingConfiguration{ThingIndexingMode: types.ThingIndexingModeRegistry}})
	f.must(err)
	var list strings.Builder
	for i := range 120 {
		name := fmt.Sprintf("pump-%03d", i)
		f.typed(name, map[string]string{"site": "north", "line": itoa(i % 2), "first": itoa(min(i, 1))})
		fmt.Fprintln(&list, name)
	}
	f.eventually("things are in the index", func() bool {
		out, err := f.api.SearchIndex(f.ctx, &iot.SearchIndexInput{QueryString: aws.String("attributes.site:north")})
		return err == nil && len(out.Things) > 0
	})
	targets := func(job string) (targets []string) {
		out, err := f.api.DescribeJob(f.ctx, &iot.DescribeJobInput{JobId: &job})
		f.must(err)
		return out.Job.Targets
	}
	b.open("/console/things?q=attributes.first:0")
	b.sees("pump-000")
	b.click("New job for these…")
	b.fill("id", "one", "document", `{"a":1}`)
	b.click("Check")
	b.sees("Create the job for 1 device")
	b.click("Create the job")
	b.sees("was created")
	if got := targets("one"); len(got) != 1 || got[0] != f.thingARN("pump-000") {
		t.Errorf("%v", got)
	}
	b.open("/console/new-job?query=attributes.site:north")
	b.fill("id", "many", "document", `{"a":1}`, "rate", "10")
	b.click("Check")
	b.sees("job-many is made for it")
	b.sees("aws iot create-dynamic-thing-group")
	b.click("Create the job")
	b.sees("was created")
	f.eventually("ten have it", func() bool { return len(f.executions("many")) == 10 })
	b.open("/console/groups/job-many")
	b.sees("120 things")
	f.typed("pump-more", map[string]string{"site": "north"})
	b.sees("121 things") // by itself
	names := filepath.Join(t.TempDir(), "list.txt")
	f.must(os.WriteFile(names, []byte(list.String()), 0o600))
	document := filepath.Join(t.TempDir(), "document.json")
	f.must(os.WriteFile(document, []byte(`{"from":"a file"}`), 0o600))
	b.open("/console/new-job")
	b.fill("id", "listed", "rate", "1000")
	b.do(chromedp.SetUploadFiles("input[name=list]", []string{names}), chromedp.SetUploadFiles("input[name=file]", []string{document}))
	b.click("Check")
	b.sees("for 120 devices")
	b.sees("the things of the list")
	b.click("Create the job")
	b.sees("was created")
	b.sees("a file")
	f.eventually("all have it", func() bool { return len(f.executions("listed")) == 120 })

	b.open("/console/jobs/many")
	b.sees("at most 10 devices a minute now")
	b.click("Change…")
	b.fill("rate", "1", "base", "x", "factor", "2", "after", "1000")
	b.click("Change it")
	b.sees("is not a number")
	b.fill("rate", "500", "base", "", "factor", "", "after", "", "percent", "30", "least", "7", "description", "faster")
	b.picture("edit-job")
	b.click("Change it")
	b.sees("many was changed")
	out, err := f.api.DescribeJob(f.ctx, &iot.DescribeJobInput{JobId: aws.String("many")})
	f.must(err)
	if j := out.Job; aws.ToInt32(j.JobExecutionsRolloutConfig.MaximumPerMinute) != 500 || aws.ToString(j.Description) != "faster" || len(j.AbortConfig.CriteriaList) != 1 {
		t.Errorf("%+v", j)
	}

	template, err := f.api.CreateJobTemplate(f.ctx, &iot.CreateJobTemplateInput{JobTemplateId: aws.String("reboot"), Description: aws.String("reboot"), Document: aws.String(`{"operation":"reboot"}`),
		JobExecutionsRolloutConfig: &types.JobExecutionsRolloutConfig{MaximumPerMinute: aws.Int32(77)}})
	f.must(err)
	b.open("/console/new-job?target=pump-001")
	b.fill("id", "templated", "template", *template.JobTemplateArn, "rate", "")
	evaluated[bool](b, `document.querySelector("[name=continuous]").checked = true`)
	b.click("Rehearse")
	b.sees("Rehearsal with 1 devices")
	b.click("Create the job")
	b.sees("At most 77 devices a minute")
	b.click("Add targets…")
	b.fill("targets", "pump-002")
	b.click("Check")
	b.click("Add 1 device")
	b.sees("is not a thing group")
	b.fill("targets", "job-listed")
	b.click("Check")
	b.click("Add 120 devices")
	b.sees("templated has more targets")
	if got := targets("templated"); len(got) != 2 {
		t.Errorf("%v", got)
	}
	b.accessible("/console/jobs/templated/targets")
	b.accessible("/console/jobs/templated/edit")
	b.fits("/console/jobs/templated/edit")
	b.open("/console/jobs/templated")
	b.click("Who did what to it")
	b.sees("AssociateTargetsWithJob")
}
