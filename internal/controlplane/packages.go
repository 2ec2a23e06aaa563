package controlplane

import (
	"context"
	"maps"
	"slices"

	"drover/internal/iot"
	"drover/internal/wire"
)

// Packages is what the operations on the software package catalog ask for. Errors are *iot.Error if the caller
// caused them. A token is the clientToken, "" for none.
type Packages interface {
	CreatePackage(ctx context.Context, n iot.NewPackage, token string) (iot.Package, error)
	UpdatePackage(ctx context.Context, u iot.PackageUpdate, token string) error
	DeletePackage(ctx context.Context, name, actor, token string) error
	Package(ctx context.Context, name string) (*iot.Package, error)
	Packages(context.Context, iot.Page) (packages []*iot.Package, next string, err error)
	CreateVersion(ctx context.Context, n iot.NewPackageVersion, token string) (*iot.PackageVersion, error)
	UpdateVersion(ctx context.Context, u iot.PackageVersionUpdate, token string) error
	DeleteVersion(ctx context.Context, pkg, version, actor, token string) error
	Version(ctx context.Context, pkg, version string) (*iot.PackageVersion, error)
	Versions(ctx context.Context, pkg string, status iot.VersionStatus, page iot.Page) (versions []*iot.PackageVersion, next string, err error)
	AssociateSBOM(ctx context.Context, pkg, version string, at iot.S3Location, actor, token string) (*iot.SBOM, error)
	DisassociateSBOM(ctx context.Context, pkg, version, actor, token string) error
	SBOMResults(ctx context.Context, pkg, version string, status iot.SBOMStatus, page iot.Page) (results []iot.SBOMResult, next string, err error)
	Configuration(context.Context) (iot.PackageConfiguration, error)
	Configure(ctx context.Context, u iot.PackageConfigurationUpdate, token string) error
}

// defaultPackagePage is how many packages, versions and results a page has if nobody says.
const defaultPackagePage = 100

// tagMap is TagMap.
type tagMap map[string]string

// newTagMap returns the tags by key. InvalidRequest for an empty map.
func newTagMap(m tagMap) ([]iot.Tag, error) {
	if m != nil && len(m) == 0 {
		return nil, iot.Invalid("tags", "{}", "Member must have length greater than or equal to 1")
	}
	tags := make([]iot.Tag, 0, len(m))
	for _, key := range slices.Sorted(maps.Keys(m)) {
		tags = append(tags, iot.Tag{Key: key, Value: m[key]})
	}
	return tags, nil
}

// createPackageRequest is CreatePackageRequest (registry spec §10.2).
type createPackageRequest struct {
	PackageName string  `json:"packageName" in:"label" len:"1,128" pattern:"[a-zA-Z0-9-_.]+"`
	Description *string `json:"description" len:",1024" pattern:"[^\\p{C}]+"`
	Tags        tagMap  `json:"tags"`
	ClientToken *string `json:"clientToken" in:"query" len:"36,64" pattern:"\\S{36,64}"`
}

// createPackageResponse is CreatePackageResponse.
type createPackageResponse struct {
	PackageName string  `json:"packageName"`
	PackageArn  string  `json:"packageArn"`
	Description *string `json:"description,omitempty"`
}

func (s *Server) createPackage(ctx context.Context, in *createPackageRequest) (*createPackageResponse, error) {
	tags, err := newTagMap(in.Tags)
	if err != nil {
		return nil, err
	}
	p, err := s.packages.CreatePackage(ctx, iot.NewPackage{Name: in.PackageName, Description: value(in.Description), Tags: tags, Actor: actor(ctx)}, value(in.ClientToken))
	if err != nil {
		return nil, err
	}
	return &createPackageResponse{PackageName: p.Name, PackageArn: s.realm.ARN(iot.KindPackage, p.Name), Description: optional(p.Description)}, nil
}

// updatePackageRequest is UpdatePackageRequest.
type updatePackageRequest struct {
	PackageName         string  `json:"packageName" in:"label" len:"1,128" pattern:"[a-zA-Z0-9-_.]+"`
	Description         *string `json:"description" len:",1024" pattern:"[^\\p{C}]+"`
	DefaultVersionName  *string `json:"defaultVersionName" len:"1,64" pattern:"[a-zA-Z0-9-_.]+"`
	UnsetDefaultVersion bool    `json:"unsetDefaultVersion"`
	ClientToken         *string `json:"clientToken" in:"query" len:"36,64" pattern:"\\S{36,64}"`
}

func (s *Server) updatePackage(ctx context.Context, in *updatePackageRequest) (*wire.Empty, error) {
	return &wire.Empty{}, s.packages.UpdatePackage(ctx, iot.PackageUpdate{
		Name: in.PackageName, Description: in.Description, DefaultVersion: in.DefaultVersionName, UnsetDefault: in.UnsetDefaultVersion, Actor: actor(ctx),
	}, value(in.ClientToken))
}

// deletePackageRequest is DeletePackageRequest.
type deletePackageRequest struct {
	PackageName string  `json:"packageName" in:"label" len:"1,128" pattern:"[a-zA-Z0-9-_.]+"`
	ClientToken *string `json:"clientToken" in:"query" len:"36,64" pattern:"\\S{36,64}"`
}

func (s *Server) deletePackage(ctx context.Context, in *deletePackageRequest) (*wire.Empty, error) {
	return &wire.Empty{}, s.packages.DeletePackage(ctx, in.PackageName, actor(ctx), value(in.ClientToken))
}

// getPackageRequest is GetPackageRequest.
type getPackageRequest struct {
	PackageName string `json:"packageName" in:"label" len:"1,128" pattern:"[a-zA-Z0-9-_.]+"`
}

// getPackageResponse is GetPackageResponse.
type getPackageResponse struct {
	PackageArn  string  `json:"packageArn"`
	Description *string `json:"description,omitempty"`
	packageSummary
}

// packageSummary is PackageSummary.
type packageSummary struct {
	PackageName        string         `json:"packageName"`
	DefaultVersionName *string        `json:"defaultVersionName,omitempty"`
	CreationDate       wire.Timestamp `json:"creationDate"`
	LastModifiedDate   wire.Timestamp `json:"lastModifiedDate"`
}

func newPackageSummary(p *iot.Package) packageSummary {
	return packageSummary{
		PackageName: p.Name, DefaultVersionName: optional(p.DefaultVersion), CreationDate: timestamp(p.CreatedAt), LastModifiedDate: timestamp(p.ModifiedAt),
	}
}

func (s *Server) getPackage(ctx context.Context, in *getPackageRequest) (*getPackageResponse, error) {
	p, err := s.packages.Package(ctx, in.PackageName)
	if err != nil {
		return nil, err
	}
	return &getPackageResponse{PackageArn: s.realm.ARN(iot.KindPackage, p.Name), Description: optional(p.Description), packageSummary: newPackageSummary(p)}, nil
}

// listPackagesRequest is ListPackagesRequest.
type listPackagesRequest struct {
	MaxResults *int32  `json:"maxResults" in:"query" range:"1,100"`
	NextToken  *string `json:"nextToken" in:"query"`
}

// listPackagesResponse is ListPackagesResponse.
type listPackagesResponse struct {
	PackageSummaries []packageSummary `json:"packageSummaries"`
	NextToken        *string          `json:"nextToken,omitempty"`
}

func (s *Server) listPackages(ctx context.Context, in *listPackagesRequest) (*listPackagesResponse, error) {
	const op = "ListPackages"
	page, err := s.page(op, nil, in.NextToken, in.MaxResults, defaultPackagePage)
	if err != nil {
		return nil, err
	}
	list, next, err := s.packages.Packages(ctx, page)
	if err != nil {
		return nil, err
	}
	out := &listPackagesResponse{PackageSummaries: make([]packageSummary, len(list)), NextToken: s.nextToken(op, nil, next)}
	for i, p := range list {
		out.PackageSummaries[i] = newPackageSummary(p)
	}
	return out, nil
}

// artifact is PackageVersionArtifact and Sbom.
type artifact struct {
	S3Location *s3Location `json:"s3Location,omitempty"`
}

// newS3Location returns nil for an artifact that was not given. InvalidRequest for one without bucket or key, though the
// model requires neither.
func newS3Location(member string, a *artifact) (*iot.S3Location, error) {
	if a == nil {
		return nil, nil
	}
	if a.S3Location == nil || a.S3Location.Bucket == nil || a.S3Location.Key == nil {
		return nil, iot.Errorf(iot.InvalidRequest, "'%s' needs an s3Location with bucket and key", member)
	}
	return &iot.S3Location{Bucket: *a.S3Location.Bucket, Key: *a.S3Location.Key, Version: value(a.S3Location.Version)}, nil
}

func newArtifact(l *iot.S3Location) *artifact {
	if l == nil {
		return nil
	}
	return &artifact{&s3Location{Bucket: &l.Bucket, Key: &l.Key, Version: optional(l.Version)}}
}

// createPackageVersionRequest is CreatePackageVersionRequest.
type createPackageVersionRequest struct {
	PackageName string            `json:"packageName" in:"label" len:"1,128" pattern:"[a-zA-Z0-9-_.]+"`
	VersionName string            `json:"versionName" in:"label" len:"1,64" pattern:"[a-zA-Z0-9-_.]+"`
	Description *string           `json:"description" len:",1024" pattern:"[^\\p{C}]+"`
	Attributes  map[string]string `json:"attributes"`
	Artifact    *artifact         `json:"artifact"`
	Recipe      *string           `json:"recipe" len:",3072"`
	Tags        tagMap            `json:"tags"`
	ClientToken *string           `json:"clientToken" in:"query" len:"36,64" pattern:"\\S{36,64}"`
}

// createPackageVersionResponse is CreatePackageVersionResponse.
type createPackageVersionResponse struct {
	PackageVersionArn string            `json:"packageVersionArn"`
	PackageName       string            `json:"packageName"`
	VersionName       string            `json:"versionName"`
	Description       *string           `json:"description,omitempty"`
	Attributes        map[string]string `json:"attributes,omitempty"`
	Status            string            `json:"status"`
}

func (s *Server) newPackageVersion(v *iot.PackageVersion) createPackageVersionResponse {
	return createPackageVersionResponse{
		PackageVersionArn: s.realm.PackageVersionARN(v.Package, v.Name), PackageName: v.Package, VersionName: v.Name,
		Description: optional(v.Description), Attributes: v.Attributes, Status: string(v.Status),
	}
}

func (s *Server) createPackageVersion(ctx context.Context, in *createPackageVersionRequest) (*createPackageVersionResponse, error) {
	tags, err := newTagMap(in.Tags)
	if err != nil {
		return nil, err
	}
	at, err := newS3Location("artifact", in.Artifact)
	if err != nil {
		return nil, err
	}
	v, err := s.packages.CreateVersion(ctx, iot.NewPackageVersion{
		Package: in.PackageName, Name: in.VersionName, Description: value(in.Description), Attributes: in.Attributes, Artifact: at, Recipe: value(in.Recipe),
		Tags: tags, Actor: actor(ctx),
	}, value(in.ClientToken))
	if err != nil {
		return nil, err
	}
	out := s.newPackageVersion(v)
	return &out, nil
}

// updatePackageVersionRequest is UpdatePackageVersionRequest.
type updatePackageVersionRequest struct {
	PackageName string            `json:"packageName" in:"label" len:"1,128" pattern:"[a-zA-Z0-9-_.]+"`
	VersionName string            `json:"versionName" in:"label" len:"1,64" pattern:"[a-zA-Z0-9-_.]+"`
	Description *string           `json:"description" len:",1024" pattern:"[^\\p{C}]+"`
	Attributes  map[string]string `json:"attributes"`
	Artifact    *artifact         `json:"artifact"`
	Action      string            `json:"action" enum:"PUBLISH,DEPRECATE"`
	Recipe      *string           `json:"recipe" len:",3072"`
	ClientToken *string           `json:"clientToken" in:"query" len:"36,64" pattern:"\\S{36,64}"`
}

func (s *Server) updatePackageVersion(ctx context.Context, in *updatePackageVersionRequest) (*wire.Empty, error) {
	at, err := newS3Location("artifact", in.Artifact)
	if err != nil {
		return nil, err
	}
	return &wire.Empty{}, s.packages.UpdateVersion(ctx, iot.PackageVersionUpdate{
		Package: in.PackageName, Name: in.VersionName, Description: in.Description, Attributes: in.Attributes, Artifact: at, Recipe: in.Recipe,
		Action: iot.VersionAction(in.Action), Actor: actor(ctx),
	}, value(in.ClientToken))
}

// deletePackageVersionRequest is DeletePackageVersionRequest and DisassociateSbomFromPackageVersionRequest.
type deletePackageVersionRequest struct {
	PackageName string  `json:"packageName" in:"label" len:"1,128" pattern:"[a-zA-Z0-9-_.]+"`
	VersionName string  `json:"versionName" in:"label" len:"1,64" pattern:"[a-zA-Z0-9-_.]+"`
	ClientToken *string `json:"clientToken" in:"query" len:"36,64" pattern:"\\S{36,64}"`
}

func (s *Server) deletePackageVersion(ctx context.Context, in *deletePackageVersionRequest) (*wire.Empty, error) {
	return &wire.Empty{}, s.packages.DeleteVersion(ctx, in.PackageName, in.VersionName, actor(ctx), value(in.ClientToken))
}

// getPackageVersionRequest is GetPackageVersionRequest.
type getPackageVersionRequest struct {
	PackageName string `json:"packageName" in:"label" len:"1,128" pattern:"[a-zA-Z0-9-_.]+"`
	VersionName string `json:"versionName" in:"label" len:"1,64" pattern:"[a-zA-Z0-9-_.]+"`
}

// getPackageVersionResponse is GetPackageVersionResponse. Creation never fails later, so there is no errorReason.
type getPackageVersionResponse struct {
	createPackageVersionResponse
	Artifact             *artifact      `json:"artifact,omitempty"`
	CreationDate         wire.Timestamp `json:"creationDate"`
	LastModifiedDate     wire.Timestamp `json:"lastModifiedDate"`
	Sbom                 *artifact      `json:"sbom,omitempty"`
	SbomValidationStatus string         `json:"sbomValidationStatus,omitempty"`
	Recipe               *string        `json:"recipe,omitempty"`
}

func (s *Server) getPackageVersion(ctx context.Context, in *getPackageVersionRequest) (*getPackageVersionResponse, error) {
	v, err := s.packages.Version(ctx, in.PackageName, in.VersionName)
	if err != nil {
		return nil, err
	}
	out := &getPackageVersionResponse{
		createPackageVersionResponse: s.newPackageVersion(v), Artifact: newArtifact(v.Artifact),
		CreationDate: timestamp(v.CreatedAt), LastModifiedDate: timestamp(v.ModifiedAt), Recipe: optional(v.Recipe),
	}
	if v.SBOM != nil {
		out.Sbom, out.SbomValidationStatus = newArtifact(&v.SBOM.Location), string(v.SBOM.Status)
	}
	return out, nil
}

// listPackageVersionsRequest is ListPackageVersionsRequest.
type listPackageVersionsRequest struct {
	PackageName string  `json:"packageName" in:"label" len:"1,128" pattern:"[a-zA-Z0-9-_.]+"`
	Status      string  `json:"status" in:"query" enum:"DRAFT,PUBLISHED,DEPRECATED"`
	MaxResults  *int32  `json:"maxResults" in:"query" range:"1,100"`
	NextToken   *string `json:"nextToken" in:"query"`
}

// packageVersionSummary is PackageVersionSummary.
type packageVersionSummary struct {
	PackageName      string         `json:"packageName"`
	VersionName      string         `json:"versionName"`
	Status           string         `json:"status"`
	CreationDate     wire.Timestamp `json:"creationDate"`
	LastModifiedDate wire.Timestamp `json:"lastModifiedDate"`
}

// listPackageVersionsResponse is ListPackageVersionsResponse.
type listPackageVersionsResponse struct {
	PackageVersionSummaries []packageVersionSummary `json:"packageVersionSummaries"`
	NextToken               *string                 `json:"nextToken,omitempty"`
}

func (s *Server) listPackageVersions(ctx context.Context, in *listPackageVersionsRequest) (*listPackageVersionsResponse, error) {
	const op = "ListPackageVersions"
	filters := []string{in.PackageName, in.Status}
	page, err := s.page(op, filters, in.NextToken, in.MaxResults, defaultPackagePage)
	if err != nil {
		return nil, err
	}
	list, next, err := s.packages.Versions(ctx, in.PackageName, iot.VersionStatus(in.Status), page)
	if err != nil {
		return nil, err
	}
	out := &listPackageVersionsResponse{PackageVersionSummaries: make([]packageVersionSummary, len(list)), NextToken: s.nextToken(op, filters, next)}
	for i, v := range list {
		out.PackageVersionSummaries[i] = packageVersionSummary{
			PackageName: v.Package, VersionName: v.Name, Status: string(v.Status), CreationDate: timestamp(v.CreatedAt), LastModifiedDate: timestamp(v.ModifiedAt),
		}
	}
	return out, nil
}

// associateSbomRequest is AssociateSbomWithPackageVersionRequest (registry spec §10.3).
type associateSbomRequest struct {
	PackageName string    `json:"packageName" in:"label" len:"1,128" pattern:"[a-zA-Z0-9-_.]+"`
	VersionName string    `json:"versionName" in:"label" len:"1,64" pattern:"[a-zA-Z0-9-_.]+"`
	Sbom        *artifact `json:"sbom" required:"true"`
	ClientToken *string   `json:"clientToken" in:"query" len:"36,64" pattern:"\\S{36,64}"`
}

// associateSbomResponse is AssociateSbomWithPackageVersionResponse.
type associateSbomResponse struct {
	PackageName          string    `json:"packageName"`
	VersionName          string    `json:"versionName"`
	Sbom                 *artifact `json:"sbom"`
	SbomValidationStatus string    `json:"sbomValidationStatus"`
}

func (s *Server) associateSbom(ctx context.Context, in *associateSbomRequest) (*associateSbomResponse, error) {
	at, err := newS3Location("sbom", in.Sbom)
	if err != nil {
		return nil, err
	}
	sbom, err := s.packages.AssociateSBOM(ctx, in.PackageName, in.VersionName, *at, actor(ctx), value(in.ClientToken))
	if err != nil {
		return nil, err
	}
	return &associateSbomResponse{PackageName: in.PackageName, VersionName: in.VersionName, Sbom: newArtifact(&sbom.Location), SbomValidationStatus: string(sbom.Status)}, nil
}

func (s *Server) disassociateSbom(ctx context.Context, in *deletePackageVersionRequest) (*wire.Empty, error) {
	return &wire.Empty{}, s.packages.DisassociateSBOM(ctx, in.PackageName, in.VersionName, actor(ctx), value(in.ClientToken))
}

// listSbomResultsRequest is ListSbomValidationResultsRequest.
type listSbomResultsRequest struct {
	PackageName      string  `json:"packageName" in:"label" len:"1,128" pattern:"[a-zA-Z0-9-_.]+"`
	VersionName      string  `json:"versionName" in:"label" len:"1,64" pattern:"[a-zA-Z0-9-_.]+"`
	ValidationResult string  `json:"validationResult" in:"query" enum:"FAILED,SUCCEEDED"`
	MaxResults       *int32  `json:"maxResults" in:"query" range:"1,100"`
	NextToken        *string `json:"nextToken" in:"query"`
}

// sbomResult is SbomValidationResultSummary.
type sbomResult struct {
	FileName         string  `json:"fileName"`
	ValidationResult string  `json:"validationResult"`
	ErrorCode        *string `json:"errorCode,omitempty"`
	ErrorMessage     *string `json:"errorMessage,omitempty"`
}

// listSbomResultsResponse is ListSbomValidationResultsResponse.
type listSbomResultsResponse struct {
	ValidationResultSummaries []sbomResult `json:"validationResultSummaries"`
	NextToken                 *string      `json:"nextToken,omitempty"`
}

func (s *Server) listSbomResults(ctx context.Context, in *listSbomResultsRequest) (*listSbomResultsResponse, error) {
	const op = "ListSbomValidationResults"
	filters := []string{in.PackageName, in.VersionName, in.ValidationResult}
	page, err := s.page(op, filters, in.NextToken, in.MaxResults, defaultPackagePage)
	if err != nil {
		return nil, err
	}
	list, next, err := s.packages.SBOMResults(ctx, in.PackageName, in.VersionName, iot.SBOMStatus(in.ValidationResult), page)
	if err != nil {
		return nil, err
	}
	out := &listSbomResultsResponse{ValidationResultSummaries: make([]sbomResult, len(list)), NextToken: s.nextToken(op, filters, next)}
	for i, r := range list {
		out.ValidationResultSummaries[i] = sbomResult{FileName: r.File, ValidationResult: string(r.Status), ErrorCode: optional(r.Error), ErrorMessage: optional(r.Message)}
	}
	return out, nil
}

// versionUpdateByJobs is VersionUpdateByJobsConfig.
type versionUpdateByJobs struct {
	Enabled *bool   `json:"enabled,omitempty"`
	RoleArn *string `json:"roleArn,omitempty" len:"20,2048"`
}

// packageConfiguration is GetPackageConfigurationResponse.
type packageConfiguration struct {
	VersionUpdateByJobsConfig *versionUpdateByJobs `json:"versionUpdateByJobsConfig"`
}

func (s *Server) getPackageConfiguration(ctx context.Context, _ *wire.Empty) (*packageConfiguration, error) {
	cfg, err := s.packages.Configuration(ctx)
	if err != nil {
		return nil, err
	}
	return &packageConfiguration{&versionUpdateByJobs{Enabled: &cfg.Enabled, RoleArn: optional(cfg.RoleARN)}}, nil
}

// updatePackageConfigurationRequest is UpdatePackageConfigurationRequest. The role is not needed: nobody assumes it.
type updatePackageConfigurationRequest struct {
	VersionUpdateByJobsConfig *versionUpdateByJobs `json:"versionUpdateByJobsConfig"`
	ClientToken               *string              `json:"clientToken" in:"query" len:"36,64" pattern:"\\S{36,64}"`
}

func (s *Server) updatePackageConfiguration(ctx context.Context, in *updatePackageConfigurationRequest) (*wire.Empty, error) {
	u := iot.PackageConfigurationUpdate{Actor: actor(ctx)}
	if c := in.VersionUpdateByJobsConfig; c != nil {
		u.Enabled, u.RoleARN = c.Enabled, c.RoleArn
	}
	return &wire.Empty{}, s.packages.Configure(ctx, u, value(in.ClientToken))
}
