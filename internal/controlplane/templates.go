package controlplane

import (
	"context"
	"strconv"
	"strings"

	"drover/internal/iot"
	"drover/internal/wire"
)

// createJobTemplateRequest is CreateJobTemplateRequest (spec §10.14).
type createJobTemplateRequest struct {
	JobTemplateID              string              `json:"jobTemplateId" in:"label" len:"1,64" pattern:"[a-zA-Z0-9_-]+"`
	JobArn                     *string             `json:"jobArn"`
	DocumentSource             *string             `json:"documentSource" len:"1,1350"`
	Document                   *string             `json:"document" bytes:",32768"`
	Description                *string             `json:"description" required:"true" len:",2028" pattern:"[^\\p{C}]+"`
	Tags                       []tag               `json:"tags"`
	MaintenanceWindows         []maintenanceWindow `json:"maintenanceWindows"`
	DestinationPackageVersions []string            `json:"destinationPackageVersions" size:",25" itemlen:"1,1600" itempattern:"arn:[!-~]+"`
	jobConfigs
}

// jobTemplateReference is CreateJobTemplateResponse.
type jobTemplateReference struct {
	JobTemplateArn string `json:"jobTemplateArn"`
	JobTemplateID  string `json:"jobTemplateId"`
}

func (s *Server) createJobTemplate(ctx context.Context, in *createJobTemplateRequest) (*jobTemplateReference, error) {
	if in.JobArn == nil && in.Document == nil && in.DocumentSource == nil {
		return nil, iot.Errorf(iot.InvalidRequest, "One of jobArn, document and documentSource is required")
	}
	if err := iot.CheckNewTags(newTags(in.Tags)); err != nil {
		return nil, err
	}
	config, err := in.config()
	if err != nil {
		return nil, err
	}
	document, err := s.document(ctx, in.Document, in.DocumentSource)
	if err != nil {
		return nil, err
	}
	t, err := s.jobs.CreateTemplate(ctx, iot.NewTemplate{
		TemplateID: in.JobTemplateID, JobARN: value(in.JobArn), Description: value(in.Description),
		Document: document, DocumentSource: value(in.DocumentSource),
		Config: config, Windows: windows(in.MaintenanceWindows), PackageVersions: in.DestinationPackageVersions,
		Tags: newTags(in.Tags), Actor: actor(ctx),
	})
	if err != nil {
		return nil, s.conflict(err)
	}
	return &jobTemplateReference{JobTemplateArn: s.templateARN(t), JobTemplateID: t.TemplateID}, nil
}

func (s *Server) templateARN(t *iot.Template) string {
	return s.realm.ARN(iot.KindTemplate, t.TemplateID)
}

// jobTemplateRequest is DescribeJobTemplateRequest and DeleteJobTemplateRequest.
type jobTemplateRequest struct {
	JobTemplateID string `json:"jobTemplateId" in:"label" len:"1,64" pattern:"[a-zA-Z0-9_-]+"`
}

// describeJobTemplateResponse is DescribeJobTemplateResponse (spec §10.15).
type describeJobTemplateResponse struct {
	JobTemplateArn             string              `json:"jobTemplateArn"`
	JobTemplateID              string              `json:"jobTemplateId"`
	Description                string              `json:"description,omitempty"`
	DocumentSource             string              `json:"documentSource,omitempty"`
	Document                   string              `json:"document,omitempty"`
	CreatedAt                  wire.Timestamp      `json:"createdAt"`
	MaintenanceWindows         []maintenanceWindow `json:"maintenanceWindows,omitempty"`
	DestinationPackageVersions []string            `json:"destinationPackageVersions,omitempty"`
	jobConfigs
}

func (s *Server) describeJobTemplate(ctx context.Context, in *jobTemplateRequest) (*describeJobTemplateResponse, error) {
	t, err := s.jobs.Template(ctx, in.JobTemplateID)
	if err != nil {
		return nil, err
	}
	return &describeJobTemplateResponse{
		JobTemplateArn: s.templateARN(t), JobTemplateID: t.TemplateID, Description: t.Description, DocumentSource: t.DocumentSource,
		Document: t.Document, CreatedAt: timestamp(t.CreatedAt), MaintenanceWindows: newWindows(t.Windows), DestinationPackageVersions: t.PackageVersions,
		jobConfigs: newJobConfigs(t.Config),
	}, nil
}

// listJobTemplatesRequest is ListJobTemplatesRequest (spec §10.16).
type listJobTemplatesRequest struct {
	MaxResults *int32  `json:"maxResults" in:"query" range:"1,250"`
	NextToken  *string `json:"nextToken" in:"query"`
}

// listJobTemplatesResponse is ListJobTemplatesResponse.
type listJobTemplatesResponse struct {
	JobTemplates []jobTemplateSummary `json:"jobTemplates"`
	NextToken    *string              `json:"nextToken,omitempty"`
}

type jobTemplateSummary struct {
	JobTemplateArn string         `json:"jobTemplateArn"`
	JobTemplateID  string         `json:"jobTemplateId"`
	Description    string         `json:"description,omitempty"`
	CreatedAt      wire.Timestamp `json:"createdAt"`
}

func (s *Server) listJobTemplates(ctx context.Context, in *listJobTemplatesRequest) (*listJobTemplatesResponse, error) {
	page, err := s.page("ListJobTemplates", nil, in.NextToken, in.MaxResults, defaultJobPage)
	if err != nil {
		return nil, err
	}
	list, next, err := s.jobs.Templates(ctx, page)
	if err != nil {
		return nil, err
	}
	out := &listJobTemplatesResponse{JobTemplates: make([]jobTemplateSummary, len(list)), NextToken: s.nextToken("ListJobTemplates", nil, next)}
	for i, t := range list {
		out.JobTemplates[i] = jobTemplateSummary{
			JobTemplateArn: s.templateARN(t), JobTemplateID: t.TemplateID, Description: t.Description, CreatedAt: timestamp(t.CreatedAt),
		}
	}
	return out, nil
}

func (s *Server) deleteJobTemplate(ctx context.Context, in *jobTemplateRequest) (*wire.Empty, error) {
	return &wire.Empty{}, s.jobs.DeleteTemplate(ctx, in.JobTemplateID, actor(ctx))
}

// describeManagedJobTemplateRequest is DescribeManagedJobTemplateRequest (spec §10.18).
type describeManagedJobTemplateRequest struct {
	TemplateName    string  `json:"templateName" in:"label" len:"1,64"`
	TemplateVersion *string `json:"templateVersion" in:"query" pattern:"[1-9]+.[0-9]+"`
}

// describeManagedJobTemplateResponse is DescribeManagedJobTemplateResponse.
type describeManagedJobTemplateResponse struct {
	managedJobTemplate
	DocumentParameters []documentParameter `json:"documentParameters"`
	Document           string              `json:"document"`
}

// managedJobTemplate is ManagedJobTemplateSummary.
type managedJobTemplate struct {
	TemplateArn     string   `json:"templateArn"`
	TemplateName    string   `json:"templateName"`
	Description     string   `json:"description"`
	Environments    []string `json:"environments"`
	TemplateVersion string   `json:"templateVersion"`
}

type documentParameter struct {
	Key         string `json:"key"`
	Description string `json:"description"`
	Example     string `json:"example"`
	Optional    bool   `json:"optional"`
}

func (s *Server) newManagedTemplate(t iot.ManagedTemplate) managedJobTemplate {
	// The service's own: the account in the ARN is empty (spec §1.1).
	arn := strings.Replace(s.realm.ARN(iot.KindTemplate, t.Name+":"+t.Version), ":"+s.realm.Account+":", "::", 1)
	return managedJobTemplate{
		TemplateArn: arn, TemplateName: t.Name, Description: t.Description, Environments: t.Environments, TemplateVersion: t.Version,
	}
}

func (s *Server) describeManagedJobTemplate(_ context.Context, in *describeManagedJobTemplateRequest) (*describeManagedJobTemplateResponse, error) {
	for _, t := range iot.ManagedTemplates() {
		if t.Name != in.TemplateName || in.TemplateVersion != nil && *in.TemplateVersion != t.Version {
			continue
		}
		out := &describeManagedJobTemplateResponse{managedJobTemplate: s.newManagedTemplate(t), Document: t.Document}
		for _, p := range t.Parameters {
			out.DocumentParameters = append(out.DocumentParameters, documentParameter{Key: p.Key, Description: p.Description, Example: p.Example, Optional: p.Optional})
		}
		return out, nil
	}
	return nil, iot.Errorf(iot.NotFound, "Managed job template %s cannot be found", strings.TrimSpace(in.TemplateName+" "+value(in.TemplateVersion)))
}

// listManagedJobTemplatesRequest is ListManagedJobTemplatesRequest (spec §10.19).
type listManagedJobTemplatesRequest struct {
	TemplateName *string `json:"templateName" in:"query" len:"1,64"`
	MaxResults   *int32  `json:"maxResults" in:"query" range:"1,250"`
	NextToken    *string `json:"nextToken" in:"query"`
}

// listManagedJobTemplatesResponse is ListManagedJobTemplatesResponse.
type listManagedJobTemplatesResponse struct {
	ManagedJobTemplates []managedJobTemplate `json:"managedJobTemplates"`
	NextToken           *string              `json:"nextToken,omitempty"`
}

func (s *Server) listManagedJobTemplates(_ context.Context, in *listManagedJobTemplatesRequest) (*listManagedJobTemplatesResponse, error) {
	page, err := s.page("ListManagedJobTemplates", value(in.TemplateName), in.NextToken, in.MaxResults, defaultJobPage)
	if err != nil {
		return nil, err
	}
	skip := 0
	if page.Cursor != "" {
		if skip, err = strconv.Atoi(page.Cursor); err != nil || skip < 0 {
			return nil, iot.Errorf(iot.InvalidRequest, "Invalid nextToken")
		}
	}
	out := &listManagedJobTemplatesResponse{ManagedJobTemplates: []managedJobTemplate{}}
	for i, t := range iot.ManagedTemplates() {
		if i < skip || in.TemplateName != nil && *in.TemplateName != t.Name {
			continue
		}
		if len(out.ManagedJobTemplates) == page.Limit {
			out.NextToken = s.nextToken("ListManagedJobTemplates", value(in.TemplateName), strconv.Itoa(i))
			break
		}
		out.ManagedJobTemplates = append(out.ManagedJobTemplates, s.newManagedTemplate(t))
	}
	if in.TemplateName != nil && len(out.ManagedJobTemplates) == 0 && skip == 0 {
		return nil, iot.Errorf(iot.NotFound, "Managed job template %s cannot be found", *in.TemplateName)
	}
	return out, nil
}
