package iot

import (
	"encoding/json"
	"maps"
	"slices"
	"strings"
)

// ManagedTemplate is a job template that comes with the service (spec §10.19).
type ManagedTemplate struct {
	Name         string
	Version      string
	Description  string
	Environments []string
	Parameters   []TemplateParameter
	Document     string // with ${aws:iot:parameter:KEY} for each parameter
}

// TemplateParameter is something that the document of a managed template asks for.
type TemplateParameter struct {
	Key         string
	Description string
	Example     string
	Optional    bool // if it is not given, the empty text takes its place
}

var (
	runAsUser = TemplateParameter{Key: "runAsUser", Optional: true, Example: "ec2-user",
		Description: "Run the handler as this user. If empty, it runs as the user of the device client."}
	pathToHandler = TemplateParameter{Key: "pathToHandler", Optional: true, Example: "/usr/bin/handlers",
		Description: "Folder of the handler on the device. If empty, the handler folder of the device client."}
	packages = TemplateParameter{Key: "packages", Example: "nginx, jq",
		Description: "Packages, separated by blanks or commas."}
	services = TemplateParameter{Key: "services", Example: "nginx, cron",
		Description: "Services, separated by blanks or commas."}
	downloadURL = TemplateParameter{Key: "downloadUrl", Example: "https://example.com/firmware.bin",
		Description: "URL of the file."}
	filePath = TemplateParameter{Key: "filePath", Example: "/tmp/firmware.bin",
		Description: "Where the file is stored on the device."}
)

// ManagedTemplates returns the templates that come with the service, by name.
func ManagedTemplates() []ManagedTemplate {
	return []ManagedTemplate{
		managed("AWS-Download-File", "Downloads a file.", "Download-File", "download-file.sh", downloadURL, filePath),
		managed("AWS-Install-Application", "Installs applications.", "Install-Application", "install-packages.sh", packages),
		managed("AWS-Reboot", "Reboots the device.", "Reboot", "reboot.sh"),
		managed("AWS-Remove-Application", "Removes applications.", "Remove-Application", "remove-packages.sh", packages),
		managed("AWS-Restart-Application", "Restarts services.", "Restart-Application", "restart-services.sh", services),
		managed("AWS-Start-Application", "Starts services.", "Start-Application", "start-services.sh", services),
		managed("AWS-Stop-Application", "Stops services.", "Stop-Application", "stop-services.sh", services),
	}
}

const parameterPrefix = "${aws:iot:parameter:"

func managed(name, description, action, handler string, args ...TemplateParameter) ManagedTemplate {
	var quoted []string
	for _, a := range args {
		quoted = append(quoted, `"`+parameterPrefix+a.Key+`}"`)
	}
	input := `"handler":"` + handler + `",`
	if len(quoted) > 0 {
		input += `"args":[` + strings.Join(quoted, ",") + `],`
	}
	return ManagedTemplate{
		Name: name, Version: "1.0", Description: description, Environments: []string{"LINUX"},
		Parameters: append(slices.Clone(args), pathToHandler, runAsUser),
		Document: `{"version":"1.0","steps":[{"action":{"name":"` + action + `","type":"runHandler","input":{` + input +
			`"path":"` + parameterPrefix + `pathToHandler}"},"runAsUser":"` + parameterPrefix + `runAsUser}"}}]}`,
	}
}

// FillParameters puts values into the document of a managed template. It returns an
// InvalidRequest error for a required parameter that is missing and for one that the
// template does not have.
func FillParameters(doc string, parameters []TemplateParameter, given map[string]string) (string, error) {
	var replace []string
	known := make(map[string]bool)
	for _, p := range parameters {
		value, ok := given[p.Key]
		if !ok && !p.Optional {
			return "", Errorf(InvalidRequest, "The document parameter %s is required", p.Key)
		}
		known[p.Key] = true
		text, err := json.Marshal(value)
		if err != nil {
			return "", Invalid("documentParameters."+p.Key, value, "Member must be text")
		}
		// The placeholder stands inside a JSON string.
		replace = append(replace, parameterPrefix+p.Key+"}", string(text[1:len(text)-1]))
	}
	for _, key := range slices.Sorted(maps.Keys(given)) {
		if !known[key] {
			return "", Errorf(InvalidRequest, "The template has no document parameter %s", key)
		}
	}
	return strings.NewReplacer(replace...).Replace(doc), nil
}
