package access

import (
	"encoding/json"
	"errors"

	"drover/internal/auth/policy"
	"drover/internal/iot"
	"drover/internal/store"
)

// claimPolicy is the name under which the policy of claims is told of. It has none.
const claimPolicy iot.PolicyName = "provisioning-claim"

// claim returns what the holder of a claim may: provision itself by the claim's template, until
// that expires, and nothing else (identity spec §7.5). Who holds no claim may nothing.
func (d *Decider) claim(rd store.Reader, id iot.CertificateID) (standing, error) {
	claim, err := rd.Claim(id)
	if errors.Is(err, store.ErrNotFound) {
		return standing{}, nil
	}
	if err != nil {
		return standing{}, err
	}
	p, err := d.claimPolicy(claim.Template)
	return standing{names: []iot.PolicyName{claimPolicy}, policies: []*policy.Policy{p}, until: claim.Expires}, err
}

// claimPolicy makes the policy of the claims for a template.
func (d *Decider) claimPolicy(template string) (*policy.Policy, error) {
	var topics, filters []string
	for _, topic := range []string{
		"$aws/certificates/create/*", "$aws/certificates/create-from-csr/*", "$aws/provisioning-templates/" + template + "/provision/*",
	} {
		topics, filters = append(topics, d.topic+topic), append(filters, d.filter+topic)
	}
	type statement struct {
		Effect           string
		Action, Resource []string
	}
	text, err := json.Marshal(struct {
		Version   string
		Statement []statement
	}{"2012-10-17", []statement{
		{"Allow", []string{"iot:Connect"}, []string{d.client + "*"}},
		{"Allow", []string{"iot:Publish", "iot:Receive"}, topics},
		{"Allow", []string{"iot:Subscribe"}, filters},
	}})
	if err != nil {
		return nil, err
	}
	return policy.Parse(string(text), policy.DeviceLimit)
}
