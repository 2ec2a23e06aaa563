package iot

// NewTemplate is what CreateJobTemplate asks for.
type NewTemplate struct {
	TemplateID      string
	JobARN          string // job to take from what is not given; "" for none
	Document        string
	DocumentSource  string // URL that Document was read from, "" if it was given
	Description     string
	Config          JobConfig
	Windows         []Window
	PackageVersions []string
	Tags            []Tag
	Actor           string
}
