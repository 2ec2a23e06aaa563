package console

import (
	"html/template"
	"net/http"
	"net/url"
	"strings"
	"time"

	"drover/internal/iot"
)

// What devices and programs are let in with: certificates, policies, API keys. All of it goes through
// the API.

const accessPage = "50"

// pageQuery asks for a page of a list of the kind that has markers.
func (r *request) pageQuery() url.Values {
	q := url.Values{"pageSize": {accessPage}}
	if after := r.FormValue("after"); after != "" {
		q.Set("marker", after)
	}
	return q
}

// certificate is one as the API describes it.
type certificate struct {
	ARN      string  `json:"certificateArn"`
	ID       string  `json:"certificateId"`
	Status   string  `json:"status"`
	Created  seconds `json:"creationDate"`
	Changed  seconds `json:"lastModifiedDate"`
	CA       string  `json:"caCertificateId"`
	PEM      string  `json:"certificatePem"`
	Validity struct {
		From  seconds `json:"notBefore"`
		Until seconds `json:"notAfter"`
	} `json:"validity"`
}

// certificates lists certificates, the newest first.
func (r *request) certificates() error {
	var out struct {
		Certificates []certificate
		NextMarker   string
	}
	if err := r.call(http.MethodGet, "/certificates", r.pageQuery(), nil, &out); err != nil {
		return err
	}
	return r.render(http.StatusOK, "certificates", "Certificates", map[string]any{"Certificates": out.Certificates, "Next": out.NextMarker, "First": r.FormValue("after") == ""})
}

// policyRef names a policy.
type policyRef struct {
	Name string `json:"policyName"`
}

// certificate shows one certificate, and what it is for.
func (r *request) certificate() error {
	id := r.PathValue("id")
	var out struct {
		CertificateDescription certificate
	}
	if err := r.call(http.MethodGet, "/certificates/"+url.PathEscape(id), nil, nil, &out); err != nil {
		return err
	}
	c := out.CertificateDescription
	data := map[string]any{"Certificate": c}
	if r.can("iot:ListPrincipalThings", "*") {
		var things struct{ Things []string }
		if err := r.call(http.MethodGet, "/principals/things", nil, nil, &things, "x-amzn-principal", c.ARN); err != nil {
			return err
		}
		data["Things"] = things.Things
	}
	if r.can("iot:ListAttachedPolicies", "*") {
		var policies struct{ Policies []policyRef }
		if err := r.call(http.MethodPost, "/attached-policies/"+url.PathEscape(c.ARN), nil, nil, &policies); err != nil {
			return err
		}
		data["Policies"] = policies.Policies
	}
	return r.render(http.StatusOK, "certificate", "Certificate "+shortened(id), data)
}

// newCertificate shows the form for a certificate with a key.
func (r *request) newCertificate() error {
	if err := r.may("iot:CreateKeysAndCertificate", "*"); err != nil {
		return err
	}
	return r.render(http.StatusOK, "new-certificate", "New certificate", map[string]any{"Thing": r.FormValue("thing")})
}

// createCertificate makes a certificate with a key and shows them this once. What cannot be attached
// to is found out before anything is made.
func (r *request) createCertificate() error {
	thing, policy := strings.TrimSpace(r.FormValue("thing")), strings.TrimSpace(r.FormValue("policy"))
	data := map[string]any{"Thing": thing, "Policy": policy}
	again := func(err error) error {
		text, ok := told(err)
		if !ok {
			return err
		}
		data["Error"] = text
		return r.render(http.StatusBadRequest, "new-certificate", "New certificate", data)
	}
	if thing != "" {
		if err := r.call(http.MethodGet, "/things/"+url.PathEscape(thing), nil, nil, nil); err != nil {
			return again(err)
		}
	}
	if policy != "" {
		if err := r.call(http.MethodGet, "/policies/"+url.PathEscape(policy), nil, nil, nil); err != nil {
			return again(err)
		}
	}
	var out struct {
		certificate
		KeyPair struct{ PublicKey, PrivateKey string }
	}
	if err := r.call(http.MethodPost, "/keys-and-certificate", url.Values{"setAsActive": {"true"}}, nil, &out); err != nil {
		return again(err)
	}
	data["Made"], data["ID"] = true, out.ID
	data["Files"] = []download{pemFile(out.ID, "certificate.pem", out.PEM), pemFile(out.ID, "private.key", out.KeyPair.PrivateKey), pemFile(out.ID, "public.key", out.KeyPair.PublicKey)}
	var late []string // it is made: what fails from here on must not hide the key
	if thing != "" {
		if err := r.call(http.MethodPut, "/things/"+url.PathEscape(thing)+"/principals", nil, nil, nil, "x-amzn-principal", out.ARN); err != nil {
			late = append(late, r.complain("The thing could not be attached", err))
		}
	}
	if policy != "" {
		if err := r.call(http.MethodPut, "/target-policies/"+url.PathEscape(policy), nil, map[string]string{"target": out.ARN}, nil); err != nil {
			late = append(late, r.complain("The policy could not be attached", err))
		}
	}
	data["Error"] = strings.Join(late, " ")
	return r.render(http.StatusOK, "new-certificate", "New certificate", data)
}

// complain says what failed, and logs it if the caller is not the reason.
func (r *request) complain(what string, err error) string {
	text, ok := told(err)
	if !ok {
		r.log.ErrorContext(r.Context(), "console request failed", "what", what, "err", err)
		text = "the log of the server says why."
	}
	return what + ": " + text
}

// download is a file that is in the page.
type download struct {
	Name, Text string
	URL        template.URL
}

func pemFile(id, kind, text string) download {
	return download{Name: shortened(id)[:12] + "-" + kind, Text: text, URL: template.URL("data:application/x-pem-file;charset=us-ascii," + url.PathEscape(text))}
}

// confirmation is what somebody is asked before something is done.
type confirmation struct {
	Title, What, Text, Verb, Back string
	Hidden                        [][2]string // names and values
}

func (r *request) confirm(c confirmation) error {
	return r.render(http.StatusOK, "confirm", c.Title, c)
}

// certificateDeeds are what can be done to a certificate; those with a text are asked about first.
var certificateDeeds = map[string]struct{ status, title, text, verb, done string }{
	"activate":   {status: "ACTIVE", done: "It is active: its device may connect."},
	"deactivate": {"INACTIVE", "Deactivate this certificate?", "Its device is disconnected and cannot connect until the certificate is active again.", "Deactivate", "It is not active any more."},
	"revoke":     {"REVOKED", "Revoke this certificate?", "Its device is disconnected at once, and cannot connect any more.", "Revoke", "It is revoked."},
	"delete":     {"", "Delete this certificate?", "It is detached from its things and policies and forgotten.", "Delete", "The certificate was deleted."},
}

func (r *request) certificateAction() error {
	d, ok := certificateDeeds[r.PathValue("action")]
	if !ok || d.text == "" {
		return r.nowhere()
	}
	id := r.PathValue("id")
	return r.confirm(confirmation{Title: d.title, What: id, Text: d.text, Verb: d.verb, Back: Path + "certificates/" + url.PathEscape(id)})
}

func (r *request) doCertificateAction() error {
	id, action := r.PathValue("id"), r.PathValue("action")
	path := "/certificates/" + url.PathEscape(id)
	back := Path + "certificates/" + url.PathEscape(id)
	arn := r.Realm.ARN(iot.KindCert, id)
	name := strings.TrimSpace(r.FormValue("name"))
	d := certificateDeeds[action]
	var err error
	switch action {
	case "activate", "deactivate", "revoke":
		err = r.call(http.MethodPut, path, url.Values{"newStatus": {d.status}}, nil, nil)
	case "delete":
		err, back = r.deleteCertificate(id, arn), Path+"certificates"
	case "attach-policy":
		err = r.call(http.MethodPut, "/target-policies/"+url.PathEscape(name), nil, map[string]string{"target": arn}, nil)
	case "detach-policy":
		err = r.call(http.MethodPost, "/target-policies/"+url.PathEscape(name), nil, map[string]string{"target": arn}, nil)
	case "attach-thing":
		err = r.call(http.MethodPut, "/things/"+url.PathEscape(name)+"/principals", nil, nil, nil, "x-amzn-principal", arn)
	case "detach-thing":
		err = r.call(http.MethodDelete, "/things/"+url.PathEscape(name)+"/principals", nil, nil, nil, "x-amzn-principal", arn)
	default:
		return r.nowhere()
	}
	if err != nil {
		return err
	}
	if d.done != "" {
		r.notify("%s", d.done)
	}
	return r.redirect(back)
}

// deleteCertificate deletes a certificate that is not active, with what is attached to it, as the API asks for.
func (r *request) deleteCertificate(id, arn string) error {
	var things struct{ Things []string }
	if err := r.call(http.MethodGet, "/principals/things", nil, nil, &things, "x-amzn-principal", arn); err != nil {
		return err
	}
	for _, t := range things.Things {
		if err := r.call(http.MethodDelete, "/things/"+url.PathEscape(t)+"/principals", nil, nil, nil, "x-amzn-principal", arn); err != nil {
			return err
		}
	}
	return r.call(http.MethodDelete, "/certificates/"+url.PathEscape(id), url.Values{"forceDelete": {"true"}}, nil, nil)
}

// policies lists the policies of devices.
func (r *request) policies() error {
	var out struct {
		Policies   []policyRef
		NextMarker string
	}
	if err := r.call(http.MethodGet, "/policies", r.pageQuery(), nil, &out); err != nil {
		return err
	}
	return r.render(http.StatusOK, "policies", "Policies", map[string]any{"Policies": out.Policies, "Next": out.NextMarker, "First": r.FormValue("after") == ""})
}

// policy shows a policy: a version of it, all versions, and what it is attached to.
func (r *request) policy() error {
	name := r.PathValue("name")
	path := "/policies/" + url.PathEscape(name)
	var policy struct {
		DefaultVersionID string  `json:"defaultVersionId"`
		Document         string  `json:"policyDocument"`
		Created          seconds `json:"creationDate"`
	}
	if err := r.call(http.MethodGet, path, nil, nil, &policy); err != nil {
		return err
	}
	data := map[string]any{"Name": name, "Document": pretty(policy.Document), "Version": policy.DefaultVersionID, "Created": policy.Created.Time()}
	if v := r.FormValue("version"); v != "" {
		var version struct {
			Document string `json:"policyDocument"`
		}
		if err := r.call(http.MethodGet, path+"/version/"+url.PathEscape(v), nil, nil, &version); err != nil {
			return err
		}
		data["Document"], data["Version"] = pretty(version.Document), v
	}
	if r.can("iot:ListPolicyVersions", r.Realm.ARN(iot.KindPolicy, name)) {
		var versions struct {
			PolicyVersions []struct {
				ID      string  `json:"versionId"`
				Default bool    `json:"isDefaultVersion"`
				Created seconds `json:"createDate"`
			}
		}
		if err := r.call(http.MethodGet, path+"/version", nil, nil, &versions); err != nil {
			return err
		}
		data["Versions"] = versions.PolicyVersions
	}
	if r.can("iot:ListTargetsForPolicy", r.Realm.ARN(iot.KindPolicy, name)) {
		var targets struct{ Targets []string }
		if err := r.call(http.MethodPost, "/policy-targets/"+url.PathEscape(name), nil, nil, &targets); err != nil {
			return err
		}
		data["Targets"] = r.links(targets.Targets)
	}
	return r.render(http.StatusOK, "policy", name, data)
}

// link leads to the page of a resource; without an address it has none.
type link struct{ Text, URL string }

// links are those of ARNs.
func (r *request) links(arns []string) []link {
	list := make([]link, len(arns))
	for i, arn := range arns {
		list[i] = link{Text: arn}
		for kind, page := range map[string]string{iot.KindCert: "certificates/", iot.KindGroup: "groups/", iot.KindThing: "things/"} {
			if name, ok := strings.CutPrefix(arn, r.Realm.ARN(kind, "")); ok {
				list[i] = link{shortened(name), Path + page + url.PathEscape(name)}
				if kind != iot.KindCert {
					list[i].Text = name
				}
			}
		}
	}
	return list
}

// devicePolicy lets a device do what devices do, and no other's business. It is what the form begins with.
const devicePolicy = `{
  "Version": "2012-10-17",
  "Statement": [
    {
      "Effect": "Allow",
      "Action": "iot:Connect",
      "Resource": "arn:aws:iot:*:*:client/${iot:Connection.Thing.ThingName}"
    },
    {
      "Effect": "Allow",
      "Action": ["iot:Publish", "iot:Receive"],
      "Resource": "arn:aws:iot:*:*:topic/$aws/things/${iot:Connection.Thing.ThingName}/*"
    },
    {
      "Effect": "Allow",
      "Action": "iot:Subscribe",
      "Resource": "arn:aws:iot:*:*:topicfilter/$aws/things/${iot:Connection.Thing.ThingName}/*"
    }
  ]
}`

func (r *request) newPolicy() error {
	if err := r.may("iot:ListPolicies", "*"); err != nil {
		return err
	}
	return r.render(http.StatusOK, "new-policy", "New policy", map[string]any{"Document": devicePolicy})
}

func (r *request) createPolicy() error {
	name, document := strings.TrimSpace(r.FormValue("name")), r.FormValue("document")
	err := r.call(http.MethodPost, "/policies/"+url.PathEscape(name), nil, map[string]string{"policyDocument": document}, nil)
	if err != nil {
		text, ok := told(err)
		if !ok {
			return err
		}
		return r.render(http.StatusBadRequest, "new-policy", "New policy", map[string]any{"Name": name, "Document": document, "Error": text})
	}
	r.notify("The policy %s was created.", name)
	return r.redirect(Path + "policies/" + url.PathEscape(name))
}

func (r *request) policyAction() error {
	name, back := r.PathValue("name"), Path+"policies/"+url.PathEscape(r.PathValue("name"))
	if r.PathValue("action") != "delete" {
		return r.nowhere()
	}
	return r.confirm(confirmation{Title: "Delete this policy?", What: name, Text: "All its versions are deleted. One that is attached to something is not deleted.", Verb: "Delete", Back: back})
}

func (r *request) doPolicyAction() error {
	name := r.PathValue("name")
	path, back := "/policies/"+url.PathEscape(name), Path+"policies/"+url.PathEscape(name)
	version := url.PathEscape(r.FormValue("version"))
	var err error
	switch r.PathValue("action") {
	case "version":
		err = r.call(http.MethodPost, path+"/version", url.Values{"setAsDefault": {"true"}}, map[string]string{"policyDocument": r.FormValue("document")}, nil)
	case "default":
		err = r.call(http.MethodPatch, path+"/version/"+version, nil, nil, nil)
	case "delete-version":
		err = r.call(http.MethodDelete, path+"/version/"+version, nil, nil, nil)
	case "delete":
		err, back = r.deletePolicy(path), Path+"policies"
	default:
		return r.nowhere()
	}
	if err != nil {
		return err
	}
	return r.redirect(back)
}

// deletePolicy deletes a policy with its versions, of which the API wants all but the default one gone before.
func (r *request) deletePolicy(path string) error {
	var versions struct {
		PolicyVersions []struct {
			ID      string `json:"versionId"`
			Default bool   `json:"isDefaultVersion"`
		}
	}
	if err := r.call(http.MethodGet, path+"/version", nil, nil, &versions); err != nil {
		return err
	}
	for _, v := range versions.PolicyVersions {
		if v.Default {
			continue
		}
		if err := r.call(http.MethodDelete, path+"/version/"+v.ID, nil, nil, nil); err != nil {
			return err
		}
	}
	return r.call(http.MethodDelete, path, nil, nil, nil)
}

// keysPath is where the server manages API keys.
const keysPath = "/_drover/keys"

// apiKey is an API key without its secret.
type apiKey struct {
	ID      string    `json:"accessKeyId"`
	Name    string    `json:"name"`
	Policy  string    `json:"policy"`
	Created time.Time `json:"createdAt"`
}

// keyPolicies are what the form for an API key offers to begin with.
var keyPolicies = []link{
	{"Everything of AWS IoT", `{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":["iot:*","s3:*"],"Resource":"*"}]}`},
	{"Jobs: see, create, cancel", `{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":["iot:Describe*","iot:List*","iot:Get*","iot:SearchIndex","iot:*Job","iot:*JobExecution"],"Resource":"*"}]}`},
	{"See everything", `{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":["iot:Describe*","iot:List*","iot:Get*","iot:SearchIndex"],"Resource":"*"}]}`},
}

func (r *request) keys() error { return r.showKeys(http.StatusOK, map[string]any{}) }

func (r *request) showKeys(status int, data map[string]any) error {
	var out struct{ Keys []apiKey }
	if err := r.call(http.MethodGet, keysPath, nil, nil, &out); err != nil {
		return err
	}
	data["Keys"], data["Begin"] = out.Keys, keyPolicies
	if data["Policy"] == nil {
		data["Policy"] = pretty(keyPolicies[2].URL)
	}
	return r.render(status, "keys", "API keys", data)
}

func (r *request) createKey() error {
	name, policy := strings.TrimSpace(r.FormValue("name")), r.FormValue("policy")
	var made struct {
		ID     string `json:"accessKeyId"`
		Secret string `json:"secretAccessKey"`
	}
	if err := r.call(http.MethodPost, keysPath, nil, map[string]string{"name": name, "policy": policy}, &made); err != nil {
		text, ok := told(err)
		if !ok {
			return err
		}
		return r.showKeys(http.StatusBadRequest, map[string]any{"Name": name, "Policy": policy, "Error": text})
	}
	text := "[" + name + "]\naws_access_key_id = " + made.ID + "\naws_secret_access_key = " + made.Secret + "\n"
	return r.showKeys(http.StatusOK, map[string]any{"Made": made,
		"File": download{Name: "credentials-" + name, Text: text, URL: template.URL("data:text/plain;charset=utf-8," + url.PathEscape(text))}})
}

func (r *request) keyAction() error {
	id := r.PathValue("id")
	return r.confirm(confirmation{Title: "Revoke this API key?", What: id, Text: "Whoever uses it is refused from now on, and signed out of the console. This cannot be undone.", Verb: "Revoke", Back: Path + "keys"})
}

func (r *request) revokeKey() error {
	if err := r.call(http.MethodDelete, keysPath, url.Values{"key": {r.PathValue("id")}}, nil, nil); err != nil {
		return err
	}
	r.notify("The key was revoked.")
	return r.redirect(Path + "keys")
}
