package controlplane

import (
	"context"
	"reflect"

	"drover/internal/wire"
)

// operations lists all operations that are served. The others of the service are answered by
// package wire with an error that names them.
func operations() []operation {
	return []operation{
		op("AddThingToThingGroup", (*Server).addThingToThingGroup),
		op("AssociateTargetsWithJob", (*Server).associateTargetsWithJob),
		op("AttachPolicy", (*Server).attachPolicy),
		op("AttachPrincipalPolicy", (*Server).attachPrincipalPolicy),
		op("AttachThingPrincipal", (*Server).attachThingPrincipal),
		op("CancelJob", (*Server).cancelJob),
		op("CancelJobExecution", (*Server).cancelJobExecution),
		op("ClearDefaultAuthorizer", (*Server).clearDefaultAuthorizer),
		op("CreateAuthorizer", (*Server).createAuthorizer),
		op("CreateCertificateFromCsr", (*Server).createCertificateFromCsr),
		op("CreateJob", (*Server).createJob),
		op("CreateJobTemplate", (*Server).createJobTemplate),
		op("CreateKeysAndCertificate", (*Server).createKeysAndCertificate),
		op("CreatePolicy", (*Server).createPolicy),
		op("CreatePolicyVersion", (*Server).createPolicyVersion),
		op("CreateProvisioningClaim", (*Server).createProvisioningClaim),
		op("CreateProvisioningTemplate", (*Server).createProvisioningTemplate),
		op("CreateProvisioningTemplateVersion", (*Server).createProvisioningTemplateVersion),
		op("CreateThing", (*Server).createThing),
		op("CreateThingGroup", (*Server).createThingGroup),
		op("CreateThingType", (*Server).createThingType),
		op("DeleteAuthorizer", (*Server).deleteAuthorizer),
		op("DeleteCACertificate", (*Server).deleteCACertificate),
		op("DeleteCertificate", (*Server).deleteCertificate),
		op("DeleteJob", (*Server).deleteJob),
		op("DeleteJobExecution", (*Server).deleteJobExecution),
		op("DeleteJobTemplate", (*Server).deleteJobTemplate),
		op("DeletePolicy", (*Server).deletePolicy),
		op("DeletePolicyVersion", (*Server).deletePolicyVersion),
		op("DeleteProvisioningTemplate", (*Server).deleteProvisioningTemplate),
		op("DeleteProvisioningTemplateVersion", (*Server).deleteProvisioningTemplateVersion),
		op("DeleteRegistrationCode", (*Server).deleteRegistrationCode),
		op("DeleteThing", (*Server).deleteThing),
		op("DeleteThingGroup", (*Server).deleteThingGroup),
		op("DeleteThingType", (*Server).deleteThingType),
		op("DeprecateThingType", (*Server).deprecateThingType),
		op("DescribeAuthorizer", (*Server).describeAuthorizer),
		op("DescribeCACertificate", (*Server).describeCACertificate),
		op("DescribeCertificate", (*Server).describeCertificate),
		op("DescribeDefaultAuthorizer", (*Server).describeDefaultAuthorizer),
		op("DescribeEndpoint", (*Server).describeEndpoint),
		op("DescribeEventConfigurations", (*Server).describeEventConfigurations),
		op("DescribeJob", (*Server).describeJob),
		op("DescribeJobExecution", (*Server).describeJobExecution),
		op("DescribeJobTemplate", (*Server).describeJobTemplate),
		op("DescribeManagedJobTemplate", (*Server).describeManagedJobTemplate),
		op("DescribeProvisioningTemplate", (*Server).describeProvisioningTemplate),
		op("DescribeProvisioningTemplateVersion", (*Server).describeProvisioningTemplateVersion),
		op("DescribeThing", (*Server).describeThing),
		op("DescribeThingGroup", (*Server).describeThingGroup),
		op("DescribeThingType", (*Server).describeThingType),
		op("DetachPolicy", (*Server).detachPolicy),
		op("DetachPrincipalPolicy", (*Server).detachPrincipalPolicy),
		op("DetachThingPrincipal", (*Server).detachThingPrincipal),
		op("GetEffectivePolicies", (*Server).getEffectivePolicies),
		op("GetJobDocument", (*Server).getJobDocument),
		op("GetPolicy", (*Server).getPolicy),
		op("GetPolicyVersion", (*Server).getPolicyVersion),
		op("GetRegistrationCode", (*Server).getRegistrationCode),
		op("ListAttachedPolicies", (*Server).listAttachedPolicies),
		op("ListAuthorizers", (*Server).listAuthorizers),
		op("ListCACertificates", (*Server).listCACertificates),
		op("ListCertificates", (*Server).listCertificates),
		op("ListCertificatesByCA", (*Server).listCertificatesByCA),
		op("ListJobExecutionsForJob", (*Server).listJobExecutionsForJob),
		op("ListJobExecutionsForThing", (*Server).listJobExecutionsForThing),
		op("ListJobTemplates", (*Server).listJobTemplates),
		op("ListJobs", (*Server).listJobs),
		op("ListManagedJobTemplates", (*Server).listManagedJobTemplates),
		op("ListPolicies", (*Server).listPolicies),
		op("ListPolicyPrincipals", (*Server).listPolicyPrincipals),
		op("ListPolicyVersions", (*Server).listPolicyVersions),
		op("ListPrincipalPolicies", (*Server).listPrincipalPolicies),
		op("ListPrincipalThings", (*Server).listPrincipalThings),
		op("ListPrincipalThingsV2", (*Server).listPrincipalThingsV2),
		op("ListProvisioningTemplateVersions", (*Server).listProvisioningTemplateVersions),
		op("ListProvisioningTemplates", (*Server).listProvisioningTemplates),
		op("ListTagsForResource", (*Server).listTagsForResource),
		op("ListTargetsForPolicy", (*Server).listTargetsForPolicy),
		op("ListThingGroups", (*Server).listThingGroups),
		op("ListThingGroupsForThing", (*Server).listThingGroupsForThing),
		op("ListThingPrincipals", (*Server).listThingPrincipals),
		op("ListThingPrincipalsV2", (*Server).listThingPrincipalsV2),
		op("ListThingTypes", (*Server).listThingTypes),
		op("ListThings", (*Server).listThings),
		op("ListThingsInThingGroup", (*Server).listThingsInThingGroup),
		op("RegisterCACertificate", (*Server).registerCACertificate),
		op("RegisterCertificate", (*Server).registerCertificate),
		op("RegisterCertificateWithoutCA", (*Server).registerCertificateWithoutCA),
		op("RegisterThing", (*Server).registerThing),
		op("RemoveThingFromThingGroup", (*Server).removeThingFromThingGroup),
		op("SetDefaultAuthorizer", (*Server).setDefaultAuthorizer),
		op("SetDefaultPolicyVersion", (*Server).setDefaultPolicyVersion),
		op("TagResource", (*Server).tagResource),
		op("TestAuthorization", (*Server).testAuthorization),
		op("TestInvokeAuthorizer", (*Server).testInvokeAuthorizer),
		op("UntagResource", (*Server).untagResource),
		op("UpdateAuthorizer", (*Server).updateAuthorizer),
		op("UpdateCACertificate", (*Server).updateCACertificate),
		op("UpdateCertificate", (*Server).updateCertificate),
		op("UpdateEventConfigurations", (*Server).updateEventConfigurations),
		op("UpdateJob", (*Server).updateJob),
		op("UpdateProvisioningTemplate", (*Server).updateProvisioningTemplate),
		op("UpdateThing", (*Server).updateThing),
		op("UpdateThingGroup", (*Server).updateThingGroup),
		op("UpdateThingGroupsForThing", (*Server).updateThingGroupsForThing),
		op("UpdateThingType", (*Server).updateThingType),
	}
}

// operation is one operation and what it takes and gives.
type operation struct {
	name     string
	in, out  reflect.Type // structs
	register func(*Server)
}

// op makes the entry of an operation. The name is that of the service's model.
func op[In, Out any](name string, handle func(*Server, context.Context, *In) (*Out, error)) operation {
	return operation{
		name: name,
		in:   reflect.TypeFor[In](),
		out:  reflect.TypeFor[Out](),
		register: func(s *Server) {
			wire.Handle(s.service, name, func(ctx context.Context, in *In) (*Out, error) {
				if err := s.admit(name); err != nil {
					return nil, err
				}
				return handle(s, ctx, in)
			})
		},
	}
}
