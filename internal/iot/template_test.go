package iot

import (
	"encoding/json"
	"slices"
	"strings"
	"testing"
)

// TestManagedTemplates compares the templates with the table of spec §10.19.
func TestManagedTemplates(t *testing.T) {
	type input struct {
		Handler string   `json:"handler"`
		Args    []string `json:"args"`
		Path    string   `json:"path"`
	}
	type document struct {
		Version string `json:"version"`
		Steps   []struct {
			Action struct {
				Name      string `json:"name"`
				Type      string `json:"type"`
				Input     input  `json:"input"`
				RunAsUser string `json:"runAsUser"`
			} `json:"action"`
		} `json:"steps"`
	}
	want := map[string]struct {
		action, handler string
		required        []string
	}{
		"AWS-Reboot":              {"Reboot", "reboot.sh", nil},
		"AWS-Download-File":       {"Download-File", "download-file.sh", []string{"downloadUrl", "filePath"}},
		"AWS-Install-Application": {"Install-Application", "install-packages.sh", []string{"packages"}},
		"AWS-Remove-Application":  {"Remove-Application", "remove-packages.sh", []string{"packages"}},
		"AWS-Start-Application":   {"Start-Application", "start-services.sh", []string{"services"}},
		"AWS-Stop-Application":    {"Stop-Application", "stop-services.sh", []string{"services"}},
		"AWS-Restart-Application": {"Restart-Application", "restart-services.sh", []string{"services"}},
	}
	templates := ManagedTemplates()
	if len(templates) != len(want) || !slices.IsSortedFunc(templates, func(a, b ManagedTemplate) int { return strings.Compare(a.Name, b.Name) }) {
		t.Errorf("%d templates, want %d in the order of their names", len(templates), len(want))
	}
	for _, m := range templates {
		w := want[m.Name]
		var doc document
		if err := json.Unmarshal([]byte(m.Document), &doc); err != nil || len(doc.Steps) != 1 {
			t.Errorf("%s: %v %s", m.Name, err, m.Document)
			continue
		}
		action := doc.Steps[0].Action
		var required, optional, args []string
		for _, p := range m.Parameters {
			if p.Optional {
				optional = append(optional, p.Key)
			} else {
				required = append(required, p.Key)
				args = append(args, "${aws:iot:parameter:"+p.Key+"}")
			}
			if p.Description == "" || p.Example == "" {
				t.Errorf("%s: nobody knows what %s is", m.Name, p.Key)
			}
		}
		if m.Version != "1.0" || doc.Version != "1.0" || m.Description == "" || !slices.Equal(m.Environments, []string{"LINUX"}) {
			t.Errorf("%+v", m)
		}
		if action.Name != w.action || action.Type != "runHandler" || action.Input.Handler != w.handler || !slices.Equal(action.Input.Args, args) ||
			action.Input.Path != "${aws:iot:parameter:pathToHandler}" || action.RunAsUser != "${aws:iot:parameter:runAsUser}" {
			t.Errorf("%s: %+v", m.Name, action)
		}
		if !slices.Equal(required, w.required) || !slices.Equal(optional, []string{"pathToHandler", "runAsUser"}) {
			t.Errorf("%s asks for %v, and for %v if one likes", m.Name, required, optional)
		}
	}
}

func TestS134FillParameters(t *testing.T) {
	const doc = `{"a":"${aws:iot:parameter:file}","b":["${aws:iot:parameter:file}","${aws:iot:parameter:user}"],"c":"${aws:iot:parameter:none}"}`
	parameters := []TemplateParameter{{Key: "file"}, {Key: "user", Optional: true}}
	for _, test := range []struct {
		name  string
		given map[string]string
		doc   string
		want  string
	}{
		{"all", map[string]string{"file": "f", "user": "u"}, `{"a":"f","b":["f","u"],"c":"${aws:iot:parameter:none}"}`, ""},
		{"an optional one is not given", map[string]string{"file": "f"}, `{"a":"f","b":["f",""],"c":"${aws:iot:parameter:none}"}`, ""},
		{"text that JSON has to escape", map[string]string{"file": "a\"b\\c\nd"}, `{"a":"a\"b\\c\nd","b":["a\"b\\c\nd",""],"c":"${aws:iot:parameter:none}"}`, ""},
		{"a value is not looked at again", map[string]string{"file": "${aws:iot:parameter:user}", "user": "u"}, `{"a":"${aws:iot:parameter:user}","b":["${aws:iot:parameter:user}","u"],"c":"${aws:iot:parameter:none}"}`, ""},
		{"a required one is missing", map[string]string{"user": "u"}, "", "The document parameter file is required"},
		{"nothing is given", nil, "", "The document parameter file is required"},
		{"one that is not known", map[string]string{"file": "f", "zone": "z", "other": "x"}, "", "The template has no document parameter other"},
	} {
		got, err := FillParameters(doc, parameters, test.given)
		checkError(t, test.name, err, test.want)
		if got != test.doc {
			t.Errorf("%s: %s, want %s", test.name, got, test.doc)
		}
	}
	if _, err := FillParameters("{}", nil, map[string]string{"a": "b"}); ErrorCode(err) != InvalidRequest {
		t.Errorf("a parameter of a document without any: %v", err)
	}
}

// FuzzFillParameters: whatever is given, the device reads it as it was given.
func FuzzFillParameters(f *testing.F) {
	f.Add(`a "quoted" \ text`, "b")
	f.Add("\x00\x7f\u2028</script>", "${aws:iot:parameter:runAsUser}")
	f.Add("\xff", "")
	f.Fuzz(func(t *testing.T, required, user string) {
		for _, m := range ManagedTemplates() {
			given := map[string]string{"runAsUser": user}
			for _, p := range m.Parameters {
				if !p.Optional {
					given[p.Key] = required
				}
			}
			text, err := FillParameters(m.Document, m.Parameters, given)
			if err != nil {
				t.Fatal(err)
			}
			var doc struct {
				Steps []struct {
					Action struct {
						Input     struct{ Args []string }
						RunAsUser string
					}
				}
			}
			if err := json.Unmarshal([]byte(text), &doc); err != nil {
				t.Fatalf("%s with %q and %q: %v", m.Name, required, user, err)
			}
			action := doc.Steps[0].Action
			if !same(action.RunAsUser, user) {
				t.Errorf("%s: runAsUser %q, want %q", m.Name, action.RunAsUser, user)
			}
			for _, arg := range action.Input.Args {
				if !same(arg, required) {
					t.Errorf("%s: %q, want %q", m.Name, arg, required)
				}
			}
		}
	})
}

// same reports whether got is given, each byte that is not UTF-8 replaced.
func same(got, given string) bool { return got == string([]rune(given)) }
