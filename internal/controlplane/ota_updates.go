package controlplane

import (
	"context"

	"drover/internal/iot"
	"drover/internal/wire"
)

// OTAUpdates is what the operations on OTA updates ask for. Errors are *iot.Error if the caller caused
// them.
type OTAUpdates interface {
	CreateUpdate(context.Context, iot.NewOTAUpdate) (*iot.OTAUpdate, error)
	DeleteUpdate(context.Context, iot.OTADeletion) error
	Update(ctx context.Context, id string) (*iot.OTAUpdate, error)
	Updates(context.Context, iot.OTAStatus, iot.Page) (updates []*iot.OTAUpdate, next string, err error)
}

// otaUpdateFile is OTAUpdateFile.
type otaUpdateFile struct {
	FileName     *string           `json:"fileName,omitempty"`
	FileType     *int64            `json:"fileType,omitempty" range:"0,255"`
	FileVersion  *string           `json:"fileVersion,omitempty"`
	FileLocation *fileLocation     `json:"fileLocation,omitempty"`
	CodeSigning  *codeSigning      `json:"codeSigning,omitempty"`
	Attributes   map[string]string `json:"attributes,omitempty" vallen:",4096"`
}

// fileLocation is FileLocation.
type fileLocation struct {
	Stream     *streamReference `json:"stream,omitempty"`
	S3Location *s3Location      `json:"s3Location,omitempty"`
}

// streamReference is Stream.
type streamReference struct {
	StreamID *string `json:"streamId" len:"1,128" pattern:"[a-zA-Z0-9_-]+"`
	FileID   *int64  `json:"fileId" range:"0,255"`
}

// codeSigning is CodeSigning.
type codeSigning struct {
	AwsSignerJobID           *string                   `json:"awsSignerJobId,omitempty"`
	StartSigningJobParameter *startSigningJobParameter `json:"startSigningJobParameter,omitempty"`
	CustomCodeSigning        *customCodeSigning        `json:"customCodeSigning,omitempty"`
}

// startSigningJobParameter is StartSigningJobParameter.
type startSigningJobParameter struct {
	SigningProfileParameter *signingProfileParameter `json:"signingProfileParameter,omitempty"`
	SigningProfileName      *string                  `json:"signingProfileName,omitempty"`
	Destination             *signingDestination      `json:"destination,omitempty"`
}

// signingProfileParameter is SigningProfileParameter.
type signingProfileParameter struct {
	CertificateArn          *string `json:"certificateArn,omitempty"`
	Platform                *string `json:"platform,omitempty"`
	CertificatePathOnDevice *string `json:"certificatePathOnDevice,omitempty"`
}

// signingDestination is Destination.
type signingDestination struct {
	S3Destination *s3Destination `json:"s3Destination,omitempty"`
}

// s3Destination is S3Destination.
type s3Destination struct {
	Bucket *string `json:"bucket,omitempty" len:"1,"`
	Prefix *string `json:"prefix,omitempty"`
}

// customCodeSigning is CustomCodeSigning.
type customCodeSigning struct {
	Signature          *codeSigningSignature        `json:"signature,omitempty"`
	CertificateChain   *codeSigningCertificateChain `json:"certificateChain,omitempty"`
	HashAlgorithm      *string                      `json:"hashAlgorithm,omitempty"`
	SignatureAlgorithm *string                      `json:"signatureAlgorithm,omitempty"`
}

// codeSigningSignature is CodeSigningSignature.
type codeSigningSignature struct {
	InlineDocument []byte `json:"inlineDocument,omitempty"`
}

// codeSigningCertificateChain is CodeSigningCertificateChain.
type codeSigningCertificateChain struct {
	CertificateName *string `json:"certificateName,omitempty"`
	InlineDocument  *string `json:"inlineDocument,omitempty"`
}

// file returns the file as the rules have it. InvalidRequest for what is only half said, and for signatures that
// a signer would have to make (registry spec §9.3).
func (f *otaUpdateFile) file() (iot.OTAFile, error) {
	out := iot.OTAFile{Name: value(f.FileName), Type: f.FileType, Version: value(f.FileVersion), Attributes: f.Attributes}
	if l := f.FileLocation; l != nil {
		if l.Stream != nil {
			if l.Stream.StreamID == nil || l.Stream.FileID == nil {
				return out, iot.Errorf(iot.InvalidRequest, "The fileLocation of %q needs the streamId and the fileId of its stream", out.Name)
			}
			out.Stream, out.StreamFile = *l.Stream.StreamID, *l.Stream.FileID
		}
		if s3 := l.S3Location; s3 != nil {
			out.Object = &iot.StreamFile{Bucket: value(s3.Bucket), Key: value(s3.Key), ObjectVersion: value(s3.Version)}
		}
	}
	c := f.CodeSigning
	if c == nil {
		return out, nil
	}
	methods := 0
	for _, given := range []bool{c.AwsSignerJobID != nil, c.StartSigningJobParameter != nil, c.CustomCodeSigning != nil} {
		if given {
			methods++
		}
	}
	custom := c.CustomCodeSigning
	switch {
	case methods > 1:
		return out, iot.Errorf(iot.InvalidRequest, "The codeSigning of %q has %d methods; it can have one", out.Name, methods)
	case c.AwsSignerJobID != nil:
		return out, iot.Errorf(iot.InvalidRequest, "Code signing is not configured: drover has no signer whose job awsSignerJobId could name. Sign the file yourself and give the signature as customCodeSigning")
	case c.StartSigningJobParameter != nil:
		return out, iot.Errorf(iot.InvalidRequest, "Code signing is not configured: drover has no signer to start a job of (startSigningJobParameter). Sign the file yourself and give the signature as customCodeSigning")
	case custom == nil:
		return out, nil
	}
	out.Signature = &iot.OTASignature{Hash: value(custom.HashAlgorithm), Algorithm: value(custom.SignatureAlgorithm)}
	if custom.Signature != nil {
		out.Signature.Value = custom.Signature.InlineDocument
	}
	if chain := custom.CertificateChain; chain != nil {
		out.Signature.CertificateName, out.Signature.Certificate = value(chain.CertificateName), value(chain.InlineDocument)
	}
	return out, nil
}

// newOTAUpdateFile shows a file with where devices find it.
func newOTAUpdateFile(u *iot.OTAUpdate, f *iot.OTAFile) otaUpdateFile {
	out := otaUpdateFile{FileName: optional(f.Name), FileType: f.Type, FileVersion: optional(f.Version), FileLocation: &fileLocation{}, Attributes: f.Attributes}
	if u.Stream != "" {
		out.FileLocation.Stream = &streamReference{StreamID: &u.Stream, FileID: &f.StreamFile}
	} else {
		out.FileLocation.S3Location = &s3Location{Bucket: &f.Object.Bucket, Key: &f.Object.Key, Version: optional(f.Object.ObjectVersion)}
	}
	if s := f.Signature; s != nil {
		out.CodeSigning = &codeSigning{CustomCodeSigning: &customCodeSigning{
			Signature:     &codeSigningSignature{s.Value},
			HashAlgorithm: &s.Hash, SignatureAlgorithm: &s.Algorithm,
			CertificateChain: &codeSigningCertificateChain{optional(s.CertificateName), optional(s.Certificate)},
		}}
	}
	return out
}

// awsJobAbortConfig is AwsJobAbortConfig: AbortConfig with another name for its list.
type awsJobAbortConfig struct {
	AbortCriteriaList []abortCriteria `json:"abortCriteriaList" required:"true" size:"1,"`
}

// awsJobPresignedURLConfig is AwsJobPresignedUrlConfig.
type awsJobPresignedURLConfig struct {
	ExpiresInSec *int64 `json:"expiresInSec,omitempty" range:"60,3600"`
}

// createOTAUpdateRequest is CreateOTAUpdateRequest (registry spec §9.1).
type createOTAUpdateRequest struct {
	OTAUpdateID                   string                      `json:"otaUpdateId" in:"label" len:"1,128" pattern:"[a-zA-Z0-9_-]+"`
	Description                   *string                     `json:"description" len:",2028" pattern:"[^\\p{C}]+"`
	Targets                       []string                    `json:"targets" required:"true" size:"1,"`
	Protocols                     []string                    `json:"protocols" size:"1,2" itemenum:"MQTT,HTTP"`
	TargetSelection               string                      `json:"targetSelection" enum:"CONTINUOUS,SNAPSHOT"`
	AwsJobExecutionsRolloutConfig *jobExecutionsRolloutConfig `json:"awsJobExecutionsRolloutConfig"`
	AwsJobPresignedURLConfig      *awsJobPresignedURLConfig   `json:"awsJobPresignedUrlConfig"`
	AwsJobAbortConfig             *awsJobAbortConfig          `json:"awsJobAbortConfig"`
	AwsJobTimeoutConfig           *timeoutConfig              `json:"awsJobTimeoutConfig"`
	Files                         []otaUpdateFile             `json:"files" required:"true" size:"1,50"`
	RoleArn                       string                      `json:"roleArn" required:"true" len:"20,2048"`
	AdditionalParameters          map[string]string           `json:"additionalParameters" vallen:",4096"`
	Tags                          []tag                       `json:"tags"`
}

// createOTAUpdateResponse is CreateOTAUpdateResponse.
type createOTAUpdateResponse struct {
	OTAUpdateID     string `json:"otaUpdateId"`
	AwsIotJobID     string `json:"awsIotJobId"`
	OTAUpdateArn    string `json:"otaUpdateArn"`
	AwsIotJobArn    string `json:"awsIotJobArn"`
	OTAUpdateStatus string `json:"otaUpdateStatus"`
}

// config is how the job is to be carried out.
func (in *createOTAUpdateRequest) config() (c iot.JobConfig, err error) {
	if c.Rollout, err = in.AwsJobExecutionsRolloutConfig.config(); err != nil {
		return c, err
	}
	if a := in.AwsJobAbortConfig; a != nil {
		if c.Abort, err = (&abortConfig{a.AbortCriteriaList}).config(); err != nil {
			return c, err
		}
	}
	minutes, err := in.AwsJobTimeoutConfig.minutes()
	if err != nil {
		return c, err
	}
	c.TimeoutMinutes = value(minutes)
	if p := in.AwsJobPresignedURLConfig; p != nil {
		c.Presigned = &iot.PresignedURLConfig{ExpiresInSec: value(p.ExpiresInSec)}
	}
	return c, nil
}

func (s *Server) createOTAUpdate(ctx context.Context, in *createOTAUpdateRequest) (*createOTAUpdateResponse, error) {
	config, err := in.config()
	if err != nil {
		return nil, err
	}
	files := make([]iot.OTAFile, len(in.Files))
	for i := range in.Files {
		if files[i], err = in.Files[i].file(); err != nil {
			return nil, err
		}
	}
	u, err := s.updates.CreateUpdate(ctx, iot.NewOTAUpdate{
		ID: in.OTAUpdateID, Tags: newTags(in.Tags),
		OTADefinition: iot.OTADefinition{
			Description: value(in.Description), Targets: in.Targets, Protocols: in.Protocols, Selection: iot.Selection(in.TargetSelection), Config: config,
			RoleARN: in.RoleArn, Files: files, Parameters: in.AdditionalParameters, Actor: actor(ctx),
		},
	})
	if err != nil {
		return nil, err
	}
	return &createOTAUpdateResponse{
		OTAUpdateID: u.ID, OTAUpdateArn: s.realm.ARN(iot.KindOTAUpdate, u.ID), OTAUpdateStatus: string(u.Status),
		AwsIotJobID: string(u.JobID()), AwsIotJobArn: s.realm.ARN(iot.KindJob, string(u.JobID())),
	}, nil
}

// getOTAUpdateRequest is GetOTAUpdateRequest.
type getOTAUpdateRequest struct {
	OTAUpdateID string `json:"otaUpdateId" in:"label" len:"1,128" pattern:"[a-zA-Z0-9_-]+"`
}

// getOTAUpdateResponse is GetOTAUpdateResponse.
type getOTAUpdateResponse struct {
	OTAUpdateInfo otaUpdateInfo `json:"otaUpdateInfo"`
}

// otaUpdateInfo is OTAUpdateInfo.
type otaUpdateInfo struct {
	otaUpdateSummary
	LastModifiedDate              wire.Timestamp              `json:"lastModifiedDate"`
	Description                   string                      `json:"description,omitempty"`
	Targets                       []string                    `json:"targets"`
	Protocols                     []string                    `json:"protocols"`
	AwsJobExecutionsRolloutConfig *jobExecutionsRolloutConfig `json:"awsJobExecutionsRolloutConfig,omitempty"`
	AwsJobPresignedURLConfig      *awsJobPresignedURLConfig   `json:"awsJobPresignedUrlConfig,omitempty"`
	TargetSelection               string                      `json:"targetSelection"`
	OTAUpdateFiles                []otaUpdateFile             `json:"otaUpdateFiles"`
	OTAUpdateStatus               string                      `json:"otaUpdateStatus"`
	AwsIotJobID                   string                      `json:"awsIotJobId"`
	AwsIotJobArn                  string                      `json:"awsIotJobArn"`
	ErrorInfo                     *errorInfo                  `json:"errorInfo,omitempty"`
	AdditionalParameters          map[string]string           `json:"additionalParameters,omitempty"`
}

// errorInfo is ErrorInfo.
type errorInfo struct {
	Code    string `json:"code"`
	Message string `json:"message"`
}

func (s *Server) getOTAUpdate(ctx context.Context, in *getOTAUpdateRequest) (*getOTAUpdateResponse, error) {
	u, err := s.updates.Update(ctx, in.OTAUpdateID)
	if err != nil {
		return nil, err
	}
	out := otaUpdateInfo{
		otaUpdateSummary: s.otaUpdateSummary(u), LastModifiedDate: timestamp(u.ModifiedAt), Description: u.Description, Targets: u.Targets, Protocols: u.Protocols,
		AwsJobExecutionsRolloutConfig: newRolloutConfig(u.Config.Rollout), AwsJobPresignedURLConfig: &awsJobPresignedURLConfig{optional(u.Config.Presigned.ExpiresInSec)},
		TargetSelection: string(u.Selection), OTAUpdateFiles: make([]otaUpdateFile, len(u.Files)), OTAUpdateStatus: string(u.Status),
		AwsIotJobID: string(u.JobID()), AwsIotJobArn: s.realm.ARN(iot.KindJob, string(u.JobID())), AdditionalParameters: u.Parameters,
	}
	for i := range u.Files {
		out.OTAUpdateFiles[i] = newOTAUpdateFile(u, &u.Files[i])
	}
	if u.Error != nil {
		out.ErrorInfo = &errorInfo{u.Error.Code, u.Error.Message}
	}
	return &getOTAUpdateResponse{out}, nil
}

// listOTAUpdatesRequest is ListOTAUpdatesRequest.
type listOTAUpdatesRequest struct {
	MaxResults      *int32  `json:"maxResults" in:"query" range:"1,250"`
	NextToken       *string `json:"nextToken" in:"query"`
	OTAUpdateStatus string  `json:"otaUpdateStatus" in:"query" enum:"CREATE_PENDING,CREATE_IN_PROGRESS,CREATE_COMPLETE,CREATE_FAILED,DELETE_IN_PROGRESS,DELETE_FAILED"`
}

// listOTAUpdatesResponse is ListOTAUpdatesResponse.
type listOTAUpdatesResponse struct {
	OTAUpdates []otaUpdateSummary `json:"otaUpdates"`
	NextToken  *string            `json:"nextToken,omitempty"`
}

// otaUpdateSummary is OTAUpdateSummary.
type otaUpdateSummary struct {
	OTAUpdateID  string         `json:"otaUpdateId"`
	OTAUpdateArn string         `json:"otaUpdateArn"`
	CreationDate wire.Timestamp `json:"creationDate"`
}

func (s *Server) otaUpdateSummary(u *iot.OTAUpdate) otaUpdateSummary {
	return otaUpdateSummary{OTAUpdateID: u.ID, OTAUpdateArn: s.realm.ARN(iot.KindOTAUpdate, u.ID), CreationDate: timestamp(u.CreatedAt)}
}

func (s *Server) listOTAUpdates(ctx context.Context, in *listOTAUpdatesRequest) (*listOTAUpdatesResponse, error) {
	const op = "ListOTAUpdates"
	page, err := s.page(op, in.OTAUpdateStatus, in.NextToken, in.MaxResults, defaultRegistryPage)
	if err != nil {
		return nil, err
	}
	updates, next, err := s.updates.Updates(ctx, iot.OTAStatus(in.OTAUpdateStatus), page)
	if err != nil {
		return nil, err
	}
	out := &listOTAUpdatesResponse{OTAUpdates: make([]otaUpdateSummary, len(updates)), NextToken: s.nextToken(op, in.OTAUpdateStatus, next)}
	for i, u := range updates {
		out.OTAUpdates[i] = s.otaUpdateSummary(u)
	}
	return out, nil
}

// deleteOTAUpdateRequest is DeleteOTAUpdateRequest.
type deleteOTAUpdateRequest struct {
	OTAUpdateID       string `json:"otaUpdateId" in:"label" len:"1,128" pattern:"[a-zA-Z0-9_-]+"`
	DeleteStream      bool   `json:"deleteStream" in:"query"`
	ForceDeleteAWSJob bool   `json:"forceDeleteAWSJob" in:"query"`
}

func (s *Server) deleteOTAUpdate(ctx context.Context, in *deleteOTAUpdateRequest) (*wire.Empty, error) {
	return &wire.Empty{}, s.updates.DeleteUpdate(ctx, iot.OTADeletion{ID: in.OTAUpdateID, Stream: in.DeleteStream, ForceJob: in.ForceDeleteAWSJob, Actor: actor(ctx)})
}
