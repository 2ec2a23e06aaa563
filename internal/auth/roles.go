package auth

import "drover/internal/auth/policy"

// Role is what a user of the console may do, if he has no policy of his own.
type Role struct {
	Name, Text string
	Policy     string // document
}

// Roles are all of them, each may what the one before it may. This is the one place where they are written
// down.
var Roles = []Role{
	{"viewer", "sees the fleet, its jobs and what is in the object store, and changes nothing", `{
  "Version": "2012-10-17",
  "Statement": [
    {"Effect": "Allow", "Action": [` + viewerMay + `], "Resource": "*"}
  ]
}`},
	{"operator", "also runs jobs, commands and updates, keeps things and groups, and fills the object store", `{
  "Version": "2012-10-17",
  "Statement": [
    {"Effect": "Allow", "Action": [` + viewerMay + `,
      "iot:CreateJob", "iot:UpdateJob", "iot:CancelJob", "iot:DeleteJob", "iot:AssociateTargetsWithJob",
      "iot:CancelJobExecution", "iot:DeleteJobExecution", "iot:CreateJobTemplate", "iot:DeleteJobTemplate",
      "iot:CreateThing", "iot:UpdateThing", "iot:DeleteThing", "iot:CreateThingType", "iot:UpdateThingType", "iot:DeprecateThingType",
      "iot:CreateThingGroup", "iot:UpdateThingGroup", "iot:DeleteThingGroup",
      "iot:CreateDynamicThingGroup", "iot:UpdateDynamicThingGroup", "iot:DeleteDynamicThingGroup",
      "iot:AddThingToThingGroup", "iot:RemoveThingFromThingGroup", "iot:UpdateThingGroupsForThing",
      "iot:CreateBillingGroup", "iot:UpdateBillingGroup", "iot:DeleteBillingGroup", "iot:AddThingToBillingGroup", "iot:RemoveThingFromBillingGroup",
      "iot:CreateStream", "iot:UpdateStream", "iot:DeleteStream", "iot:CreateOTAUpdate", "iot:DeleteOTAUpdate",
      "iot:CreateCommand", "iot:UpdateCommand", "iot:DeleteCommand", "iot:DeleteCommandExecution", "iot:StartCommandExecution",
      "iot:CreatePackage", "iot:UpdatePackage", "iot:DeletePackage", "iot:CreatePackageVersion", "iot:UpdatePackageVersion", "iot:DeletePackageVersion",
      "iot:AssociateSbomWithPackageVersion", "iot:DisassociateSbomFromPackageVersion",
      "iot:TagResource", "iot:UntagResource", "s3:GetObject", "s3:PutObject", "s3:DeleteObject"], "Resource": "*"}
  ]
}`},
	{"administrator", "may do everything, also make keys and users", `{
  "Version": "2012-10-17",
  "Statement": [
    {"Effect": "Allow", "Action": "*", "Resource": "*"}
  ]
}`},
}

const viewerMay = `
      "iot:Describe*", "iot:List*", "iot:Get*", "iot:SearchIndex",
      "iotjobsdata:DescribeJobExecution", "iotjobsdata:GetPendingJobExecutions",
      "drover:ReadDownloads", "drover:ReadClients", "s3:ListAllMyBuckets", "s3:ListBucket", "s3:GetBucketLocation"`

// RoleNamed returns the role of a name, and whether there is one.
func RoleNamed(name string) (Role, bool) {
	for _, r := range Roles {
		if r.Name == name {
			return r, true
		}
	}
	return Role{}, false
}

// policyOf parses what somebody with a role, or with a policy of his own if that is "", may do.
func policyOf(role, document string) (*policy.Policy, error) {
	if role != "" {
		r, ok := RoleNamed(role)
		if !ok {
			return nil, errNoRole(role)
		}
		document = r.Policy
	}
	return policy.Parse(document, policy.KeyLimit)
}

// rolePolicies are the policies of the roles.
var rolePolicies = func() map[string]*policy.Policy {
	m := make(map[string]*policy.Policy, len(Roles))
	for _, r := range Roles {
		p, err := policyOf(r.Name, "")
		if err != nil {
			panic(err) // a constant of this package
		}
		m[r.Name] = p
	}
	return m
}()

// Owner returns what a person may do. It reports false for a role that there is not.
func (p *Person) Owner() (Owner, bool) {
	policy, ok := rolePolicies[p.Role]
	return Owner{Name: p.Name, Policy: policy}, ok
}
