package controlplane

import (
	"context"
	"reflect"

	"drover/internal/wire"
)

// operations lists all operations that are served, and the resources that the caller needs
// permission for, as AWS has them; the action is that of the operation's name. The others of the
// service are answered by package wire with an error that names them.
func operations() []operation {
	return []operation{
		op("AddThingToBillingGroup", (*Server).addThingToBillingGroup, "thing/{thingName}", "{thingArn}", "billinggroup/{billingGroupName}", "{billingGroupArn}"),
		op("AddThingToThingGroup", (*Server).addThingToThingGroup, "thing/{thingName}", "{thingArn}", "thinggroup/{thingGroupName}", "{thingGroupArn}"),
		op("AssociateSbomWithPackageVersion", (*Server).associateSbom, "package/{packageName}/version/{versionName}"),
		op("AssociateTargetsWithJob", (*Server).associateTargetsWithJob, "job/{jobId}", "{targets}"),
		op("AttachPolicy", (*Server).attachPolicy, "{target}"),
		op("AttachPrincipalPolicy", (*Server).attachPrincipalPolicy, "{principal}"),
		op("AttachThingPrincipal", (*Server).attachThingPrincipal, "{principal}"),
		op("CancelJob", (*Server).cancelJob, "job/{jobId}"),
		op("CancelJobExecution", (*Server).cancelJobExecution, "job/{jobId}", "thing/{thingName}"),
		op("ClearDefaultAuthorizer", (*Server).clearDefaultAuthorizer, "*"),
		op("CreateAuthorizer", (*Server).createAuthorizer, "authorizer/{authorizerName}"),
		op("CreateBillingGroup", (*Server).createBillingGroup, "billinggroup/{billingGroupName}"),
		op("CreateCertificateFromCsr", (*Server).createCertificateFromCsr, "*"),
		op("CreateCommand", (*Server).createCommand, "command/{commandId}"),
		op("CreateDynamicThingGroup", (*Server).createDynamicThingGroup, "thinggroup/{thingGroupName}"),
		op("CreateJob", (*Server).createJob, "job/{jobId}", "{targets}", "{jobTemplateArn}"),
		op("CreateJobTemplate", (*Server).createJobTemplate, "jobtemplate/{jobTemplateId}", "{jobArn}"),
		op("CreateKeysAndCertificate", (*Server).createKeysAndCertificate, "*"),
		op("CreateOTAUpdate", (*Server).createOTAUpdate, "otaupdate/{otaUpdateId}"),
		op("CreatePackage", (*Server).createPackage, "package/{packageName}"),
		op("CreatePackageVersion", (*Server).createPackageVersion, "package/{packageName}", "package/{packageName}/version/{versionName}"),
		op("CreatePolicy", (*Server).createPolicy, "policy/{policyName}"),
		op("CreatePolicyVersion", (*Server).createPolicyVersion, "policy/{policyName}"),
		op("CreateProvisioningClaim", (*Server).createProvisioningClaim, "provisioningtemplate/{templateName}"),
		op("CreateProvisioningTemplate", (*Server).createProvisioningTemplate, "provisioningtemplate/{templateName}"),
		op("CreateProvisioningTemplateVersion", (*Server).createProvisioningTemplateVersion, "provisioningtemplate/{templateName}"),
		op("CreateStream", (*Server).createStream, "stream/{streamId}"),
		op("CreateThing", (*Server).createThing, "thing/{thingName}"),
		op("CreateThingGroup", (*Server).createThingGroup, "thinggroup/{thingGroupName}"),
		op("CreateThingType", (*Server).createThingType, "thingtype/{thingTypeName}"),
		op("DeleteAuthorizer", (*Server).deleteAuthorizer, "authorizer/{authorizerName}"),
		op("DeleteBillingGroup", (*Server).deleteBillingGroup, "billinggroup/{billingGroupName}"),
		op("DeleteCACertificate", (*Server).deleteCACertificate, "cacert/{certificateId}"),
		op("DeleteCertificate", (*Server).deleteCertificate, "cert/{certificateId}"),
		op("DeleteCommand", (*Server).deleteCommand, "command/{commandId}"),
		op("DeleteCommandExecution", (*Server).deleteCommandExecution, "{targetArn}"),
		op("DeleteDynamicThingGroup", (*Server).deleteDynamicThingGroup, "thinggroup/{thingGroupName}"),
		op("DeleteJob", (*Server).deleteJob, "job/{jobId}"),
		op("DeleteJobExecution", (*Server).deleteJobExecution, "job/{jobId}", "thing/{thingName}"),
		op("DeleteJobTemplate", (*Server).deleteJobTemplate, "jobtemplate/{jobTemplateId}"),
		op("DeleteOTAUpdate", (*Server).deleteOTAUpdate, "otaupdate/{otaUpdateId}"),
		op("DeletePackage", (*Server).deletePackage, "package/{packageName}"),
		op("DeletePackageVersion", (*Server).deletePackageVersion, "package/{packageName}/version/{versionName}"),
		op("DeletePolicy", (*Server).deletePolicy, "policy/{policyName}"),
		op("DeletePolicyVersion", (*Server).deletePolicyVersion, "policy/{policyName}"),
		op("DeleteProvisioningTemplate", (*Server).deleteProvisioningTemplate, "provisioningtemplate/{templateName}"),
		op("DeleteProvisioningTemplateVersion", (*Server).deleteProvisioningTemplateVersion, "provisioningtemplate/{templateName}"),
		op("DeleteRegistrationCode", (*Server).deleteRegistrationCode, "*"),
		op("DeleteStream", (*Server).deleteStream, "stream/{streamId}"),
		op("DeleteThing", (*Server).deleteThing, "thing/{thingName}"),
		op("DeleteThingGroup", (*Server).deleteThingGroup, "thinggroup/{thingGroupName}"),
		op("DeleteThingType", (*Server).deleteThingType, "thingtype/{thingTypeName}"),
		op("DeprecateThingType", (*Server).deprecateThingType, "thingtype/{thingTypeName}"),
		op("DescribeAuthorizer", (*Server).describeAuthorizer, "authorizer/{authorizerName}"),
		op("DescribeBillingGroup", (*Server).describeBillingGroup, "billinggroup/{billingGroupName}"),
		op("DescribeCACertificate", (*Server).describeCACertificate, "cacert/{certificateId}"),
		op("DescribeCertificate", (*Server).describeCertificate, "cert/{certificateId}"),
		op("DescribeDefaultAuthorizer", (*Server).describeDefaultAuthorizer, "*"),
		op("DescribeEndpoint", (*Server).describeEndpoint, "*"),
		op("DescribeEventConfigurations", (*Server).describeEventConfigurations, "*"),
		op("DescribeIndex", (*Server).describeIndex, "index/{indexName}"),
		op("DescribeJob", (*Server).describeJob, "job/{jobId}"),
		op("DescribeJobExecution", (*Server).describeJobExecution, "job/{jobId}", "thing/{thingName}"),
		op("DescribeJobTemplate", (*Server).describeJobTemplate, "jobtemplate/{jobTemplateId}"),
		op("DescribeManagedJobTemplate", (*Server).describeManagedJobTemplate, "*"),
		op("DescribeProvisioningTemplate", (*Server).describeProvisioningTemplate, "provisioningtemplate/{templateName}"),
		op("DescribeProvisioningTemplateVersion", (*Server).describeProvisioningTemplateVersion, "provisioningtemplate/{templateName}"),
		op("DescribeStream", (*Server).describeStream, "stream/{streamId}"),
		op("DescribeThing", (*Server).describeThing, "thing/{thingName}"),
		op("DescribeThingGroup", (*Server).describeThingGroup, "thinggroup/{thingGroupName}"),
		op("DescribeThingType", (*Server).describeThingType, "thingtype/{thingTypeName}"),
		op("DetachPolicy", (*Server).detachPolicy, "{target}"),
		op("DetachPrincipalPolicy", (*Server).detachPrincipalPolicy, "{principal}"),
		op("DetachThingPrincipal", (*Server).detachThingPrincipal, "{principal}"),
		op("DisassociateSbomFromPackageVersion", (*Server).disassociateSbom, "package/{packageName}/version/{versionName}"),
		op("GetBucketsAggregation", (*Server).getBucketsAggregation, "index/{indexName}"),
		op("GetCardinality", (*Server).getCardinality, "index/{indexName}"),
		op("GetCommand", (*Server).getCommand, "command/{commandId}"),
		op("GetCommandExecution", (*Server).getCommandExecution, "{targetArn}"),
		op("GetEffectivePolicies", (*Server).getEffectivePolicies, "{principal}"),
		op("GetIndexingConfiguration", (*Server).getIndexingConfiguration, "*"),
		op("GetJobDocument", (*Server).getJobDocument, "job/{jobId}"),
		op("GetOTAUpdate", (*Server).getOTAUpdate, "otaupdate/{otaUpdateId}"),
		op("GetPackage", (*Server).getPackage, "package/{packageName}"),
		op("GetPackageConfiguration", (*Server).getPackageConfiguration, "*"),
		op("GetPackageVersion", (*Server).getPackageVersion, "package/{packageName}/version/{versionName}"),
		op("GetPercentiles", (*Server).getPercentiles, "index/{indexName}"),
		op("GetPolicy", (*Server).getPolicy, "policy/{policyName}"),
		op("GetPolicyVersion", (*Server).getPolicyVersion, "policy/{policyName}"),
		op("GetRegistrationCode", (*Server).getRegistrationCode, "*"),
		op("GetStatistics", (*Server).getStatistics, "index/{indexName}"),
		op("GetThingConnectivityData", (*Server).getThingConnectivityData, "thing/{thingName}"),
		op("ListAttachedPolicies", (*Server).listAttachedPolicies, "{target}"),
		op("ListAuthorizers", (*Server).listAuthorizers, "*"),
		op("ListBillingGroups", (*Server).listBillingGroups, "*"),
		op("ListCACertificates", (*Server).listCACertificates, "*"),
		op("ListCertificates", (*Server).listCertificates, "*"),
		op("ListCertificatesByCA", (*Server).listCertificatesByCA, "cacert/{caCertificateId}"),
		op("ListCommandExecutions", (*Server).listCommandExecutions, "{commandArn}", "{targetArn}"),
		op("ListCommands", (*Server).listCommands, "*"),
		op("ListIndices", (*Server).listIndices, "*"),
		op("ListJobExecutionsForJob", (*Server).listJobExecutionsForJob, "job/{jobId}"),
		op("ListJobExecutionsForThing", (*Server).listJobExecutionsForThing, "thing/{thingName}"),
		op("ListJobTemplates", (*Server).listJobTemplates, "*"),
		op("ListJobs", (*Server).listJobs, "*"),
		op("ListManagedJobTemplates", (*Server).listManagedJobTemplates, "*"),
		op("ListOTAUpdates", (*Server).listOTAUpdates, "*"),
		op("ListPackageVersions", (*Server).listPackageVersions, "*"),
		op("ListPackages", (*Server).listPackages, "*"),
		op("ListPolicies", (*Server).listPolicies, "*"),
		op("ListPolicyPrincipals", (*Server).listPolicyPrincipals, "policy/{policyName}"),
		op("ListPolicyVersions", (*Server).listPolicyVersions, "policy/{policyName}"),
		op("ListPrincipalPolicies", (*Server).listPrincipalPolicies, "{principal}"),
		op("ListPrincipalThings", (*Server).listPrincipalThings, "{principal}"),
		op("ListPrincipalThingsV2", (*Server).listPrincipalThingsV2, "{principal}"),
		op("ListProvisioningTemplateVersions", (*Server).listProvisioningTemplateVersions, "provisioningtemplate/{templateName}"),
		op("ListProvisioningTemplates", (*Server).listProvisioningTemplates, "*"),
		op("ListSbomValidationResults", (*Server).listSbomResults, "package/{packageName}/version/{versionName}"),
		op("ListStreams", (*Server).listStreams, "*"),
		op("ListTagsForResource", (*Server).listTagsForResource, "{resourceArn}"),
		op("ListTargetsForPolicy", (*Server).listTargetsForPolicy, "policy/{policyName}"),
		op("ListThingGroups", (*Server).listThingGroups, "*"),
		op("ListThingGroupsForThing", (*Server).listThingGroupsForThing, "thing/{thingName}"),
		op("ListThingPrincipals", (*Server).listThingPrincipals, "thing/{thingName}"),
		op("ListThingPrincipalsV2", (*Server).listThingPrincipalsV2, "thing/{thingName}"),
		op("ListThingTypes", (*Server).listThingTypes, "*"),
		op("ListThings", (*Server).listThings, "*"),
		op("ListThingsInBillingGroup", (*Server).listThingsInBillingGroup, "billinggroup/{billingGroupName}"),
		op("ListThingsInThingGroup", (*Server).listThingsInThingGroup, "thinggroup/{thingGroupName}"),
		op("RegisterCACertificate", (*Server).registerCACertificate, "*"),
		op("RegisterCertificate", (*Server).registerCertificate, "*"),
		op("RegisterCertificateWithoutCA", (*Server).registerCertificateWithoutCA, "*"),
		op("RegisterThing", (*Server).registerThing, "*"),
		op("RemoveThingFromBillingGroup", (*Server).removeThingFromBillingGroup, "thing/{thingName}", "{thingArn}", "billinggroup/{billingGroupName}", "{billingGroupArn}"),
		op("RemoveThingFromThingGroup", (*Server).removeThingFromThingGroup, "thing/{thingName}", "{thingArn}", "thinggroup/{thingGroupName}", "{thingGroupArn}"),
		op("SearchIndex", (*Server).searchIndex, "index/{indexName}"),
		op("SetDefaultAuthorizer", (*Server).setDefaultAuthorizer, "authorizer/{authorizerName}"),
		op("SetDefaultPolicyVersion", (*Server).setDefaultPolicyVersion, "policy/{policyName}"),
		op("TagResource", (*Server).tagResource, "{resourceArn}"),
		op("TestAuthorization", (*Server).testAuthorization, "{principal}"),
		op("TestInvokeAuthorizer", (*Server).testInvokeAuthorizer, "authorizer/{authorizerName}"),
		op("UntagResource", (*Server).untagResource, "{resourceArn}"),
		op("UpdateAuthorizer", (*Server).updateAuthorizer, "authorizer/{authorizerName}"),
		op("UpdateBillingGroup", (*Server).updateBillingGroup, "billinggroup/{billingGroupName}"),
		op("UpdateCACertificate", (*Server).updateCACertificate, "cacert/{certificateId}"),
		op("UpdateCertificate", (*Server).updateCertificate, "cert/{certificateId}"),
		op("UpdateCommand", (*Server).updateCommand, "command/{commandId}"),
		op("UpdateDynamicThingGroup", (*Server).updateDynamicThingGroup, "thinggroup/{thingGroupName}"),
		op("UpdateEventConfigurations", (*Server).updateEventConfigurations, "*"),
		op("UpdateIndexingConfiguration", (*Server).updateIndexingConfiguration, "*"),
		op("UpdateJob", (*Server).updateJob, "job/{jobId}"),
		op("UpdatePackage", (*Server).updatePackage, "package/{packageName}"),
		op("UpdatePackageConfiguration", (*Server).updatePackageConfiguration, "*"),
		op("UpdatePackageVersion", (*Server).updatePackageVersion, "package/{packageName}/version/{versionName}"),
		op("UpdateProvisioningTemplate", (*Server).updateProvisioningTemplate, "provisioningtemplate/{templateName}"),
		op("UpdateStream", (*Server).updateStream, "stream/{streamId}"),
		op("UpdateThing", (*Server).updateThing, "thing/{thingName}"),
		op("UpdateThingGroup", (*Server).updateThingGroup, "thinggroup/{thingGroupName}"),
		op("UpdateThingGroupsForThing", (*Server).updateThingGroupsForThing, "thing/{thingName}", "thinggroup/{thingGroupsToAdd}", "thinggroup/{thingGroupsToRemove}"),
		op("UpdateThingType", (*Server).updateThingType, "thingtype/{thingTypeName}"),
	}
}

// operation is one operation and what it takes and gives.
type operation struct {
	name      string
	in, out   reflect.Type // structs
	resources []string
	register  func(*Server)
}

// op makes the entry of an operation. The name is that of the service's model; for the resources
// see newResource.
func op[In, Out any](name string, handle func(*Server, context.Context, *In) (*Out, error), resources ...string) operation {
	in := reflect.TypeFor[In]()
	parsed := make([]resource, len(resources))
	for i, text := range resources {
		parsed[i] = newResource(in, text)
	}
	return operation{
		name:      name,
		in:        in,
		out:       reflect.TypeFor[Out](),
		resources: resources,
		register: func(s *Server) {
			wire.Handle(s.service, name, func(ctx context.Context, in *In) (*Out, error) {
				if err := s.permitOperation(ctx, name, parsed, reflect.ValueOf(in).Elem()); err != nil {
					return nil, err
				}
				if err := s.admit(name); err != nil {
					return nil, err
				}
				return handle(s, ctx, in)
			})
		},
	}
}
