package controlplane

import (
	"cmp"
	"context"
	"strings"

	"drover/internal/iot"
	"drover/internal/wire"
)

// Jobs is what the operations on jobs and executions ask of the job engine. Errors are
// *iot.Error if the caller caused them.
type Jobs interface {
	CreateJob(context.Context, iot.NewJob) (*iot.Job, error)
	Job(context.Context, iot.JobID) (*iot.Job, error)
	JobDocument(context.Context, iot.JobID) (string, error)
	Deployment(context.Context, iot.JobID) (iot.Deployment, error)
	Jobs(context.Context, iot.JobQuery, iot.Page) (jobs []*iot.Job, next string, err error)
	UpdateJob(context.Context, iot.JobUpdate) error
	CancelJob(context.Context, iot.JobCancellation) (*iot.Job, error)
	DeleteJob(context.Context, iot.JobDeletion) error
	AssociateTargets(context.Context, iot.NewTargets) (*iot.Job, error)
	Downloads(context.Context, iot.JobID) (iot.Downloads, error)

	JobExecutions(context.Context, iot.JobID, iot.ExecutionStatus, iot.Page) (executions []iot.Execution, next string, err error)
	ThingExecutions(context.Context, iot.ThingName, iot.ExecutionQuery, iot.Page) (executions []iot.Execution, next string, err error)
	Execution(ctx context.Context, thing iot.ThingName, job iot.JobID, number int64) (iot.Execution, error) // number 0 = the latest
	CancelExecution(context.Context, iot.ExecutionCancellation) error
	DeleteExecution(context.Context, iot.ExecutionDeletion) error

	CreateTemplate(context.Context, iot.NewTemplate) (*iot.Template, error)
	Template(ctx context.Context, id string) (*iot.Template, error)
	Templates(context.Context, iot.Page) (templates []*iot.Template, next string, err error)
	DeleteTemplate(ctx context.Context, id, actor string) error
}

// Sources reads the documents that requests name by URL.
type Sources interface {
	// Fetch returns the document at a documentSource. Errors are *iot.Error.
	Fetch(ctx context.Context, source string) (string, error)
}

// document returns the document of a request, which is given or fetched from its source; ""
// if it has neither.
func (s *Server) document(ctx context.Context, document, source *string) (string, error) {
	switch {
	case document != nil && source != nil:
		return "", iot.Errorf(iot.InvalidRequest, "Give either document or documentSource, not both")
	case source == nil:
		return value(document), nil
	case s.sources == nil:
		return "", iot.Errorf(iot.InvalidRequest, "There is no S3 store to read documentSource from")
	}
	return s.sources.Fetch(ctx, *source)
}

// defaultJobPage is the size of a page of jobs or executions that the request does not set (spec §10.0).
const defaultJobPage = 50

// presignedURLConfig is PresignedUrlConfig.
type presignedURLConfig struct {
	RoleArn      *string `json:"roleArn,omitempty" len:"20,2048"`
	ExpiresInSec *int64  `json:"expiresInSec,omitempty" range:"60,3600"`
}

func (c *presignedURLConfig) config() *iot.PresignedURLConfig {
	if c == nil {
		return nil
	}
	return &iot.PresignedURLConfig{RoleARN: value(c.RoleArn), ExpiresInSec: value(c.ExpiresInSec)}
}

func newPresignedURLConfig(c *iot.PresignedURLConfig) *presignedURLConfig {
	if c == nil {
		return nil
	}
	return &presignedURLConfig{RoleArn: optional(c.RoleARN), ExpiresInSec: optional(c.ExpiresInSec)}
}

// createJobRequest is CreateJobRequest (spec §10.1).
type createJobRequest struct {
	JobID                      string            `json:"jobId" in:"label" len:"1,64" pattern:"[a-zA-Z0-9_-]+"`
	Targets                    []string          `json:"targets" required:"true" size:"1," itemlen:",2048"`
	Document                   *string           `json:"document" bytes:",32768"`
	DocumentSource             *string           `json:"documentSource" len:"1,1350"`
	DocumentParameters         map[string]string `json:"documentParameters" keylen:"1,128" keypattern:"[a-zA-Z0-9_-]+" vallen:"1,30720" valpattern:"[^\\p{C}]+"`
	Description                *string           `json:"description" len:",2028" pattern:"[^\\p{C}]+"`
	TargetSelection            string            `json:"targetSelection" enum:"CONTINUOUS,SNAPSHOT"`
	Tags                       []tag             `json:"tags"`
	NamespaceID                *string           `json:"namespaceId" pattern:"[a-zA-Z0-9_-]+"`
	JobTemplateArn             *string           `json:"jobTemplateArn" len:"1,1600" pattern:"arn:[!-~]+"`
	SchedulingConfig           *schedulingConfig `json:"schedulingConfig"`
	DestinationPackageVersions []string          `json:"destinationPackageVersions" size:",25" itemlen:"1,1600" itempattern:"arn:[!-~]+"`
	jobConfigs
}

// jobReference is what several operations answer with: which job they were about.
type jobReference struct {
	JobArn      string `json:"jobArn"`
	JobID       string `json:"jobId"`
	Description string `json:"description,omitempty"`
}

func (s *Server) reference(j *iot.Job) *jobReference {
	return &jobReference{JobArn: s.realm.ARN(iot.KindJob, string(j.JobID)), JobID: string(j.JobID), Description: j.Description}
}

func (s *Server) createJob(ctx context.Context, in *createJobRequest) (*jobReference, error) {
	if err := in.check(); err != nil {
		return nil, err
	}
	config, err := in.config()
	if err != nil {
		return nil, err
	}
	// Before anything is looked up: a transaction does not wait for another server.
	document, err := s.document(ctx, in.Document, in.DocumentSource)
	if err != nil {
		return nil, err
	}
	j, err := s.jobs.CreateJob(ctx, iot.NewJob{
		JobID:           iot.JobID(in.JobID),
		Targets:         in.Targets,
		Document:        document,
		DocumentSource:  value(in.DocumentSource),
		Description:     value(in.Description),
		Selection:       iot.Selection(in.TargetSelection),
		Namespace:       value(in.NamespaceID),
		Config:          config,
		Schedule:        in.SchedulingConfig.schedule(),
		TemplateARN:     value(in.JobTemplateArn),
		Parameters:      in.DocumentParameters,
		PackageVersions: in.DestinationPackageVersions,
		Tags:            newTags(in.Tags),
		Actor:           actor(ctx),
	})
	if err != nil {
		return nil, err
	}
	return s.reference(j), nil
}

// check refuses what is wrong with the request as a whole (spec §9.1).
func (in *createJobRequest) check() error {
	switch {
	case in.Document == nil && in.DocumentSource == nil && in.JobTemplateArn == nil:
		return iot.Errorf(iot.InvalidRequest, "Either document or documentSource is required")
	case in.JobTemplateArn == nil && len(in.DocumentParameters) > 0:
		return iot.Errorf(iot.InvalidRequest, "documentParameters can only be given with the jobTemplateArn of a managed template")
	}
	return iot.CheckNewTags(newTags(in.Tags))
}

// describeJobRequest is DescribeJobRequest (spec §10.2).
type describeJobRequest struct {
	JobID string `json:"jobId" in:"label" len:"1,64" pattern:"[a-zA-Z0-9_-]+"`
	// BeforeSubstitution asks for destinationPackageVersions as they were given, with $default (spec §9.5).
	BeforeSubstitution bool `json:"beforeSubstitution" in:"query"`
}

// describeJobResponse is DescribeJobResponse.
type describeJobResponse struct {
	DocumentSource string   `json:"documentSource,omitempty"`
	Job            jobShape `json:"job"`
}

// jobShape is Job.
type jobShape struct {
	JobArn                     string                `json:"jobArn"`
	JobID                      string                `json:"jobId"`
	TargetSelection            string                `json:"targetSelection"`
	Status                     string                `json:"status"`
	ForceCanceled              bool                  `json:"forceCanceled"`
	ReasonCode                 string                `json:"reasonCode,omitempty"`
	Comment                    string                `json:"comment,omitempty"`
	Targets                    []string              `json:"targets"`
	Description                string                `json:"description,omitempty"`
	CreatedAt                  wire.Timestamp        `json:"createdAt"`
	LastUpdatedAt              wire.Timestamp        `json:"lastUpdatedAt"`
	CompletedAt                wire.Timestamp        `json:"completedAt,omitzero"`
	JobProcessDetails          jobProcessDetails     `json:"jobProcessDetails"`
	NamespaceID                string                `json:"namespaceId,omitempty"`
	IsConcurrent               bool                  `json:"isConcurrent"`
	DestinationPackageVersions []string              `json:"destinationPackageVersions,omitempty"`
	JobTemplateArn             string                `json:"jobTemplateArn,omitempty"`
	DocumentParameters         map[string]string     `json:"documentParameters,omitempty"`
	SchedulingConfig           *schedulingConfig     `json:"schedulingConfig,omitempty"`
	ScheduledJobRollouts       []scheduledJobRollout `json:"scheduledJobRollouts,omitempty"`
	jobConfigs
}

// jobProcessDetails is JobProcessDetails: things by the status of their latest execution of
// the job, all eight always there (spec §4.5).
type jobProcessDetails struct {
	ProcessingTargets        []string `json:"processingTargets,omitempty"` // only while the job is rolled out
	NumberOfCanceledThings   int64    `json:"numberOfCanceledThings"`
	NumberOfSucceededThings  int64    `json:"numberOfSucceededThings"`
	NumberOfFailedThings     int64    `json:"numberOfFailedThings"`
	NumberOfRejectedThings   int64    `json:"numberOfRejectedThings"`
	NumberOfQueuedThings     int64    `json:"numberOfQueuedThings"`
	NumberOfInProgressThings int64    `json:"numberOfInProgressThings"`
	NumberOfRemovedThings    int64    `json:"numberOfRemovedThings"`
	NumberOfTimedOutThings   int64    `json:"numberOfTimedOutThings"`
}

func (s *Server) describeJob(ctx context.Context, in *describeJobRequest) (*describeJobResponse, error) {
	j, err := s.jobs.Job(ctx, iot.JobID(in.JobID))
	if err != nil {
		return nil, err
	}
	targets := make([]string, len(j.Targets))
	for i, t := range j.Targets {
		targets[i] = t.ARN
	}
	versions := j.PackageVersions
	if len(versions) > 0 && !in.BeforeSubstitution {
		d, err := s.jobs.Deployment(ctx, j.JobID)
		if err != nil {
			return nil, err
		}
		if d.Versions != nil {
			versions = d.Versions
		}
	}
	return &describeJobResponse{DocumentSource: j.DocumentSource, Job: jobShape{
		JobArn:          s.realm.ARN(iot.KindJob, string(j.JobID)),
		JobID:           string(j.JobID),
		TargetSelection: string(j.Selection),
		Status:          string(j.Status),
		ForceCanceled:   j.ForceCanceled,
		ReasonCode:      j.ReasonCode,
		Comment:         j.Comment,
		Targets:         targets,
		Description:     j.Description,
		CreatedAt:       timestamp(j.CreatedAt),
		LastUpdatedAt:   timestamp(j.UpdatedAt),
		CompletedAt:     timestamp(j.CompletedAt),
		JobProcessDetails: jobProcessDetails{
			ProcessingTargets:        j.Processing(),
			NumberOfCanceledThings:   j.Counts[iot.Canceled],
			NumberOfSucceededThings:  j.Counts[iot.Succeeded],
			NumberOfFailedThings:     j.Counts[iot.Failed],
			NumberOfRejectedThings:   j.Counts[iot.Rejected],
			NumberOfQueuedThings:     j.Counts[iot.Queued],
			NumberOfInProgressThings: j.Counts[iot.InProgress],
			NumberOfRemovedThings:    j.Counts[iot.Removed],
			NumberOfTimedOutThings:   j.Counts[iot.TimedOut],
		},
		NamespaceID:                j.Namespace,
		IsConcurrent:               j.Concurrent(),
		DestinationPackageVersions: versions,
		JobTemplateArn:             j.TemplateARN,
		DocumentParameters:         j.Parameters,
		SchedulingConfig:           newSchedulingConfig(j.Schedule),
		ScheduledJobRollouts:       s.scheduledRollouts(j),
		jobConfigs:                 newJobConfigs(j.Config),
	}}, nil
}

// getJobDocumentRequest is GetJobDocumentRequest (spec §10.3).
type getJobDocumentRequest struct {
	JobID string `json:"jobId" in:"label" len:"1,64" pattern:"[a-zA-Z0-9_-]+"`
	// BeforeSubstitution asks for the document as it was before the parameters of a managed
	// template, and what it has of package versions, were filled in. Placeholders for presigned URLs stay as they are (spec §9.5).
	BeforeSubstitution bool `json:"beforeSubstitution" in:"query"`
}

// getJobDocumentResponse is GetJobDocumentResponse.
type getJobDocumentResponse struct {
	Document string `json:"document"`
}

func (s *Server) getJobDocument(ctx context.Context, in *getJobDocumentRequest) (*getJobDocumentResponse, error) {
	document, err := s.jobs.JobDocument(ctx, iot.JobID(in.JobID))
	if err != nil {
		return nil, err
	}
	if in.BeforeSubstitution {
		j, err := s.jobs.Job(ctx, iot.JobID(in.JobID))
		if err != nil {
			return nil, err
		}
		return &getJobDocumentResponse{Document: s.beforeSubstitution(j, document)}, nil
	}
	d, err := s.jobs.Deployment(ctx, iot.JobID(in.JobID))
	if err != nil {
		return nil, err
	}
	return &getJobDocumentResponse{Document: cmp.Or(d.Document, document)}, nil
}

// beforeSubstitution returns the document of the managed template that j's was made from, and
// j's own if it was not: a document that is given with a template wins over the template's.
func (s *Server) beforeSubstitution(j *iot.Job, document string) string {
	for _, t := range iot.ManagedTemplates() {
		arn := s.newManagedTemplate(t).TemplateArn
		if j.TemplateARN != arn && j.TemplateARN != strings.TrimSuffix(arn, ":"+t.Version) {
			continue
		}
		if filled, err := iot.FillParameters(t.Document, t.Parameters, j.Parameters); err == nil && filled == document {
			return t.Document
		}
	}
	return document
}

// listJobsRequest is ListJobsRequest (spec §10.4).
type listJobsRequest struct {
	Status          string  `json:"status" in:"query" enum:"IN_PROGRESS,CANCELED,COMPLETED,DELETION_IN_PROGRESS,SCHEDULED"`
	TargetSelection string  `json:"targetSelection" in:"query" enum:"CONTINUOUS,SNAPSHOT"`
	MaxResults      *int32  `json:"maxResults" in:"query" range:"1,250"`
	NextToken       *string `json:"nextToken" in:"query"`
	ThingGroupName  *string `json:"thingGroupName" in:"query" len:"1,128" pattern:"[a-zA-Z0-9:_-]+"`
	ThingGroupID    *string `json:"thingGroupId" in:"query" len:"1,128" pattern:"[a-zA-Z0-9-]+"`
	NamespaceID     *string `json:"namespaceId" in:"query" pattern:"[a-zA-Z0-9_-]+"`
}

// listJobsResponse is ListJobsResponse.
type listJobsResponse struct {
	Jobs      []jobSummary `json:"jobs"`
	NextToken *string      `json:"nextToken,omitempty"`
}

// jobSummary is JobSummary.
type jobSummary struct {
	JobArn          string         `json:"jobArn"`
	JobID           string         `json:"jobId"`
	ThingGroupID    string         `json:"thingGroupId,omitempty"` // only in lists of one group's jobs
	TargetSelection string         `json:"targetSelection"`
	Status          string         `json:"status"`
	CreatedAt       wire.Timestamp `json:"createdAt"`
	LastUpdatedAt   wire.Timestamp `json:"lastUpdatedAt"`
	CompletedAt     wire.Timestamp `json:"completedAt,omitzero"`
	IsConcurrent    bool           `json:"isConcurrent"`
}

func (s *Server) listJobs(ctx context.Context, in *listJobsRequest) (*listJobsResponse, error) {
	query := iot.JobQuery{
		Status:    iot.JobStatus(in.Status),
		Selection: iot.Selection(in.TargetSelection),
		GroupName: iot.GroupName(value(in.ThingGroupName)),
		GroupUUID: value(in.ThingGroupID),
		Namespace: in.NamespaceID,
	}
	page, err := s.page("ListJobs", query, in.NextToken, in.MaxResults, defaultJobPage)
	if err != nil {
		return nil, err
	}
	jobs, next, err := s.jobs.Jobs(ctx, query, page)
	if err != nil {
		return nil, err
	}
	// The filter may name the group, the summaries show its id.
	groupID := query.GroupUUID
	if len(jobs) > 0 && groupID == "" && query.GroupName != "" {
		group, _, err := s.registry.Group(ctx, query.GroupName)
		if err != nil {
			return nil, err
		}
		groupID = group.UUID
	}
	out := &listJobsResponse{
		Jobs:      make([]jobSummary, len(jobs)),
		NextToken: s.nextToken("ListJobs", query, next),
	}
	for i, j := range jobs {
		out.Jobs[i] = jobSummary{
			JobArn:          s.realm.ARN(iot.KindJob, string(j.JobID)),
			JobID:           string(j.JobID),
			ThingGroupID:    groupID,
			TargetSelection: string(j.Selection),
			Status:          string(j.Status),
			CreatedAt:       timestamp(j.CreatedAt),
			LastUpdatedAt:   timestamp(j.UpdatedAt),
			CompletedAt:     timestamp(j.CompletedAt),
			IsConcurrent:    j.Concurrent(),
		}
	}
	return out, nil
}

// updateJobRequest is UpdateJobRequest (spec §10.5): what is given replaces what was, the rest stays.
type updateJobRequest struct {
	JobID       string  `json:"jobId" in:"label" len:"1,64" pattern:"[a-zA-Z0-9_-]+"`
	NamespaceID *string `json:"namespaceId" in:"query" pattern:"[a-zA-Z0-9_-]+"`
	Description *string `json:"description" len:",2028" pattern:"[^\\p{C}]+"`
	jobConfigs
}

func (s *Server) updateJob(ctx context.Context, in *updateJobRequest) (*wire.Empty, error) {
	config, err := in.config()
	if err != nil {
		return nil, err
	}
	minutes, err := in.TimeoutConfig.minutes()
	if err != nil {
		return nil, err
	}
	return &wire.Empty{}, s.jobs.UpdateJob(ctx, iot.JobUpdate{
		JobID:       iot.JobID(in.JobID),
		Namespace:   in.NamespaceID,
		Description: in.Description,
		Presigned:   config.Presigned,
		Rollout:     config.Rollout,
		Abort:       config.Abort,
		Timeout:     minutes,
		Retry:       config.Retry,
		Actor:       actor(ctx),
	})
}

// cancelJobRequest is CancelJobRequest (spec §10.6). The model has force in the query, the
// guide in the body; the query wins (spec A-20).
type cancelJobRequest struct {
	JobID      string  `json:"jobId" in:"label" len:"1,64" pattern:"[a-zA-Z0-9_-]+"`
	Force      bool    `json:"force" in:"query,body"`
	ReasonCode *string `json:"reasonCode" len:",128" pattern:"[\\p{Upper}\\p{Digit}_]+"`
	Comment    *string `json:"comment" len:",2028" pattern:"[^\\p{C}]+"`
}

func (s *Server) cancelJob(ctx context.Context, in *cancelJobRequest) (*jobReference, error) {
	j, err := s.jobs.CancelJob(ctx, iot.JobCancellation{
		JobID:      iot.JobID(in.JobID),
		Force:      in.Force,
		ReasonCode: value(in.ReasonCode),
		Comment:    value(in.Comment),
		Actor:      actor(ctx),
	})
	if err != nil {
		return nil, err
	}
	return s.reference(j), nil
}

// deleteJobRequest is DeleteJobRequest (spec §10.7).
type deleteJobRequest struct {
	JobID       string  `json:"jobId" in:"label" len:"1,64" pattern:"[a-zA-Z0-9_-]+"`
	Force       bool    `json:"force" in:"query"`
	NamespaceID *string `json:"namespaceId" in:"query" pattern:"[a-zA-Z0-9_-]+"`
}

func (s *Server) deleteJob(ctx context.Context, in *deleteJobRequest) (*wire.Empty, error) {
	return &wire.Empty{}, s.jobs.DeleteJob(ctx, iot.JobDeletion{
		JobID:     iot.JobID(in.JobID),
		Namespace: in.NamespaceID,
		Force:     in.Force,
		Actor:     actor(ctx),
	})
}

// associateTargetsRequest is AssociateTargetsWithJobRequest (spec §10.8).
type associateTargetsRequest struct {
	JobID       string   `json:"jobId" in:"label" len:"1,64" pattern:"[a-zA-Z0-9_-]+"`
	Targets     []string `json:"targets" required:"true" size:"1," itemlen:",2048"`
	Comment     *string  `json:"comment" len:",2028" pattern:"[^\\p{C}]+"`
	NamespaceID *string  `json:"namespaceId" in:"query" pattern:"[a-zA-Z0-9_-]+"`
}

func (s *Server) associateTargetsWithJob(ctx context.Context, in *associateTargetsRequest) (*jobReference, error) {
	j, err := s.jobs.AssociateTargets(ctx, iot.NewTargets{
		JobID:     iot.JobID(in.JobID),
		Namespace: in.NamespaceID,
		Targets:   in.Targets,
		Comment:   value(in.Comment),
		Actor:     actor(ctx),
	})
	if err != nil {
		return nil, err
	}
	return s.reference(j), nil
}

// value returns what p points to, and the zero value for an absent member.
func value[T any](p *T) T {
	if p == nil {
		var zero T
		return zero
	}
	return *p
}

// optional returns a pointer to v, and nil for the zero value: such a member is left out.
func optional[T comparable](v T) *T {
	var zero T
	if v == zero {
		return nil
	}
	return &v
}

// timestamp is t on the wire: seconds, with milliseconds as a fraction (spec §0).
func timestamp(t iot.Time) wire.Timestamp { return wire.Timestamp{Time: t.Std()} }

// tag is Tag; its members, unlike all others, begin with capitals.
type tag struct {
	Key   string `json:"Key" required:"true" len:"1,128" pattern:"([\\p{L}\\p{Z}\\p{N}_.:/=+\\-@]*)"`
	Value string `json:"Value" len:",256"`
}

func newTags(tags []tag) []iot.Tag {
	out := make([]iot.Tag, len(tags))
	for i, t := range tags {
		out[i] = iot.Tag(t)
	}
	return out
}
