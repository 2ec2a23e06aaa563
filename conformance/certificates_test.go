package conformance

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/iot"
	"github.com/aws/aws-sdk-go-v2/service/iot/types"
)

// The X.509 registry. Statements with a B are those of identity and broker.

// authority is a CA of a test.
type authority struct {
	t    *testing.T
	key  crypto.Signer
	cert *x509.Certificate
	pem  string
}

// identity is a certificate of a test, with its key.
type identity struct {
	pem, id string
	tls     tls.Certificate
}

func toPEM(kind string, der []byte) string {
	return string(pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}))
}

func newKey(t *testing.T) *ecdsa.PrivateKey {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func newAuthority(t *testing.T, subject string) *authority {
	t.Helper()
	a := &authority{t: t, key: newKey(t)}
	template := &x509.Certificate{
		Subject: pkix.Name{CommonName: subject}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(24 * time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, a.key.Public(), a.key)
	if err != nil {
		t.Fatal(err)
	}
	if a.cert, err = x509.ParseCertificate(der); err != nil {
		t.Fatal(err)
	}
	a.pem = toPEM("CERTIFICATE", der)
	return a
}

// sign makes a certificate for a new key. Options change it before it is signed.
func (a *authority) sign(name string, options ...func(*x509.Certificate)) identity {
	a.t.Helper()
	return signed(a.t, a.cert, a.key, name, options...)
}

// selfSigned makes a certificate that nobody vouches for.
func selfSigned(t *testing.T, name string, options ...func(*x509.Certificate)) identity {
	t.Helper()
	return signed(t, nil, nil, name, options...)
}

func signed(t *testing.T, parent *x509.Certificate, signer crypto.Signer, name string, options ...func(*x509.Certificate)) identity {
	t.Helper()
	key := newKey(t)
	template := &x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: pkix.Name{CommonName: name},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(24 * time.Hour),
		KeyUsage: x509.KeyUsageDigitalSignature, BasicConstraintsValid: true,
	}
	for _, o := range options {
		o(template)
	}
	if parent == nil {
		parent, signer = template, key
	}
	der, err := x509.CreateCertificate(rand.Reader, template, parent, key.Public(), signer)
	if err != nil {
		t.Fatal(err)
	}
	sum := sha256.Sum256(der)
	return identity{
		pem: toPEM("CERTIFICATE", der), id: hex.EncodeToString(sum[:]),
		tls: tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key},
	}
}

func (f *fleet) certARN(id string) string { return f.arn("cert", id) }

// newCertificate lets the server make a certificate and returns it with its key.
func (f *fleet) newCertificate(active bool) identity {
	f.t.Helper()
	out, err := f.api.CreateKeysAndCertificate(f.ctx, &iot.CreateKeysAndCertificateInput{SetAsActive: active})
	f.must(err)
	pair, err := tls.X509KeyPair([]byte(*out.CertificatePem), []byte(*out.KeyPair.PrivateKey))
	f.must(err)
	return identity{pem: *out.CertificatePem, id: *out.CertificateId, tls: pair}
}

// registerAlone registers a certificate without a CA.
func (f *fleet) registerAlone(c identity, status types.CertificateStatus) {
	f.t.Helper()
	_, err := f.api.RegisterCertificateWithoutCA(f.ctx, &iot.RegisterCertificateWithoutCAInput{CertificatePem: &c.pem, Status: status})
	f.must(err)
}

// registerCA registers a CA that starts active unless an option says otherwise.
func (f *fleet) registerCA(a *authority, options ...func(*iot.RegisterCACertificateInput)) (id string, err error) {
	f.t.Helper()
	code, err := f.api.GetRegistrationCode(f.ctx, &iot.GetRegistrationCodeInput{})
	f.must(err)
	in := &iot.RegisterCACertificateInput{
		CaCertificate: &a.pem, VerificationCertificate: aws.String(a.sign(*code.RegistrationCode).pem), SetAsActive: true,
	}
	for _, o := range options {
		o(in)
	}
	out, err := f.api.RegisterCACertificate(f.ctx, in)
	if err != nil {
		return "", err
	}
	return *out.CertificateId, nil
}

func (f *fleet) mustCA(a *authority, options ...func(*iot.RegisterCACertificateInput)) string {
	f.t.Helper()
	id, err := f.registerCA(a, options...)
	f.must(err)
	return id
}

func (f *fleet) setStatus(id string, status types.CertificateStatus) error {
	_, err := f.api.UpdateCertificate(f.ctx, &iot.UpdateCertificateInput{CertificateId: &id, NewStatus: status})
	return err
}

func (f *fleet) certificate(id string) *types.CertificateDescription {
	f.t.Helper()
	out, err := f.api.DescribeCertificate(f.ctx, &iot.DescribeCertificateInput{CertificateId: &id})
	f.must(err)
	return out.CertificateDescription
}

func (f *fleet) attach(thing, id string, kind types.ThingPrincipalType) error {
	_, err := f.api.AttachThingPrincipal(f.ctx, &iot.AttachThingPrincipalInput{
		ThingName: &thing, Principal: aws.String(f.certARN(id)), ThingPrincipalType: kind,
	})
	return err
}

func (f *fleet) detach(thing, id string) error {
	_, err := f.api.DetachThingPrincipal(f.ctx, &iot.DetachThingPrincipalInput{ThingName: &thing, Principal: aws.String(f.certARN(id))})
	return err
}

func (f *fleet) deleteCertificate(id string, force bool) error {
	_, err := f.api.DeleteCertificate(f.ctx, &iot.DeleteCertificateInput{CertificateId: &id, ForceDelete: force})
	return err
}

func TestB145CreateKeysAndCertificate(t *testing.T) {
	f := newFleet(t)
	for active, want := range map[bool]types.CertificateStatus{false: types.CertificateStatusInactive, true: types.CertificateStatusActive} {
		out, err := f.api.CreateKeysAndCertificate(f.ctx, &iot.CreateKeysAndCertificateInput{SetAsActive: active})
		f.must(err)
		if _, err := tls.X509KeyPair([]byte(*out.CertificatePem), []byte(*out.KeyPair.PrivateKey)); err != nil {
			t.Errorf("the key is not that of the certificate: %v", err)
		}
		if !strings.HasPrefix(*out.KeyPair.PublicKey, "-----BEGIN PUBLIC KEY-----") || !strings.HasPrefix(*out.KeyPair.PrivateKey, "-----BEGIN RSA PRIVATE KEY-----") {
			t.Errorf("keys %.40q, %.40q", *out.KeyPair.PublicKey, *out.KeyPair.PrivateKey)
		}
		c := f.certificate(*out.CertificateId)
		if c.Status != want || c.CertificateMode != types.CertificateModeDefault || *c.CustomerVersion != 1 || *c.CertificateArn != f.certARN(*out.CertificateId) {
			t.Errorf("setAsActive %v: %s %s version %d %s", active, c.Status, c.CertificateMode, *c.CustomerVersion, *c.CertificateArn)
		}
		if want := time.Date(2049, 12, 31, 23, 59, 59, 0, time.UTC); !c.Validity.NotAfter.Equal(want) {
			t.Errorf("valid until %s, want %s", c.Validity.NotAfter, want)
		}
	}
}

func TestB146CertificateID(t *testing.T) {
	f := newFleet(t)
	c := f.newCertificate(false)
	sum := sha256.Sum256(c.tls.Certificate[0])
	if c.id != hex.EncodeToString(sum[:]) {
		t.Errorf("id %s, the certificate's SHA-256 is %x", c.id, sum)
	}
	// An id in capitals is the same.
	if got := f.certificate(strings.ToUpper(c.id)); *got.CertificateId != c.id {
		t.Errorf("id %s", *got.CertificateId)
	}
	_, err := f.api.DescribeCertificate(f.ctx, &iot.DescribeCertificateInput{CertificateId: aws.String(strings.Repeat("0", 64))})
	f.refused(err, "ResourceNotFoundException", 404)
	for _, id := range []string{"00", strings.Repeat("g", 64)} {
		_, err := f.api.DescribeCertificate(f.ctx, &iot.DescribeCertificateInput{CertificateId: &id})
		f.refused(err, "InvalidRequestException", 400)
	}
}

func csr(t *testing.T, key crypto.Signer, name string) string {
	t.Helper()
	der, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{Subject: pkix.Name{CommonName: name}}, key)
	if err != nil {
		t.Fatal(err)
	}
	return toPEM("CERTIFICATE REQUEST", der)
}

func TestB147SameRequestTwice(t *testing.T) {
	f := newFleet(t)
	in := &iot.CreateCertificateFromCsrInput{CertificateSigningRequest: aws.String(csr(t, newKey(t), "pump-7"))}
	one, err := f.api.CreateCertificateFromCsr(f.ctx, in)
	f.must(err)
	two, err := f.api.CreateCertificateFromCsr(f.ctx, in)
	f.must(err)
	if *one.CertificateId == *two.CertificateId {
		t.Error("one id for two certificates")
	}
	block, _ := pem.Decode([]byte(*one.CertificatePem))
	c, err := x509.ParseCertificate(block.Bytes)
	f.must(err)
	if c.Subject.CommonName != "pump-7" {
		t.Errorf("subject %s", c.Subject)
	}
}

func TestB148KeysOfRequests(t *testing.T) {
	f := newFleet(t)
	create := func(key crypto.Signer) error {
		_, err := f.api.CreateCertificateFromCsr(f.ctx, &iot.CreateCertificateFromCsrInput{CertificateSigningRequest: aws.String(csr(t, key, "x"))})
		return err
	}
	weak, err := rsa.GenerateKey(rand.Reader, 1024)
	f.must(err)
	f.refused(create(weak), "InvalidRequestException", 400)
	f.must(create(newKey(t)))
	_, err = f.api.CreateCertificateFromCsr(f.ctx, &iot.CreateCertificateFromCsrInput{CertificateSigningRequest: aws.String("hello")})
	f.refused(err, "InvalidRequestException", 400)
}

func TestB149B150RegisterCertificateNeedsItsCA(t *testing.T) {
	f := newFleet(t)
	register := func(c identity) error {
		_, err := f.api.RegisterCertificate(f.ctx, &iot.RegisterCertificateInput{CertificatePem: &c.pem})
		return err
	}
	known, stranger := newAuthority(t, f.name("ca")), newAuthority(t, f.name("ca"))
	f.refused(register(known.sign("x")), "CertificateValidationException", 400)
	ca := f.mustCA(known)
	f.must(register(known.sign("x")))
	// The same subject, another key.
	f.refused(register(stranger.sign("x")), "CertificateValidationException", 400)
	f.refused(register(identity{pem: "hello"}), "CertificateValidationException", 400)

	_, err := f.api.UpdateCACertificate(f.ctx, &iot.UpdateCACertificateInput{CertificateId: &ca, NewStatus: types.CACertificateStatusInactive})
	f.must(err)
	f.refused(register(known.sign("x")), "CertificateStateException", 406)
}

func TestB151RegisteringTwice(t *testing.T) {
	f := newFleet(t)
	c := selfSigned(t, "x")
	f.registerAlone(c, "")
	_, err := f.api.RegisterCertificateWithoutCA(f.ctx, &iot.RegisterCertificateWithoutCAInput{CertificatePem: &c.pem})
	f.refused(err, "ResourceAlreadyExistsException", 409)
	var exists *types.ResourceAlreadyExistsException
	if !errors.As(err, &exists) || aws.ToString(exists.ResourceId) != c.id || aws.ToString(exists.ResourceArn) != f.certARN(c.id) {
		t.Errorf("%+v", exists)
	}
}

func TestB152RegisterWithoutCA(t *testing.T) {
	f := newFleet(t)
	for _, status := range []types.CertificateStatus{"", types.CertificateStatusActive, types.CertificateStatusInactive, types.CertificateStatusRevoked} {
		c := selfSigned(t, "x")
		f.registerAlone(c, status)
		got := f.certificate(c.id)
		if status == "" {
			status = types.CertificateStatusInactive
		}
		if got.CertificateMode != types.CertificateModeSniOnly || got.CaCertificateId != nil || got.Status != status {
			t.Errorf("%s: %s %s %s", status, got.Status, got.CertificateMode, aws.ToString(got.CaCertificateId))
		}
	}
	c := selfSigned(t, "x")
	_, err := f.api.RegisterCertificateWithoutCA(f.ctx, &iot.RegisterCertificateWithoutCAInput{CertificatePem: &c.pem, Status: types.CertificateStatusPendingActivation})
	f.refused(err, "InvalidRequestException", 400)
}

func TestB153RegistrationCode(t *testing.T) {
	f := fleetOn(t, ownServer(t))
	get := func() string {
		out, err := f.api.GetRegistrationCode(f.ctx, &iot.GetRegistrationCodeInput{})
		f.must(err)
		return *out.RegistrationCode
	}
	forget := func() error {
		_, err := f.api.DeleteRegistrationCode(f.ctx, &iot.DeleteRegistrationCodeInput{})
		return err
	}
	f.refused(forget(), "ResourceNotFoundException", 404)
	one := get()
	if len(one) != 64 || get() != one {
		t.Errorf("codes %q, %q", one, get())
	}
	f.must(forget())
	if get() == one {
		t.Error("the same code after its deletion")
	}
}

func TestB154VerificationCertificates(t *testing.T) {
	f := newFleet(t)
	a, other := newAuthority(t, f.name("ca")), newAuthority(t, f.name("other"))
	with := func(v identity) func(*iot.RegisterCACertificateInput) {
		return func(in *iot.RegisterCACertificateInput) { in.VerificationCertificate = &v.pem }
	}
	_, err := f.registerCA(a, with(a.sign("no code")))
	f.refused(err, "RegistrationCodeValidationException", 400)
	code, err := f.api.GetRegistrationCode(f.ctx, &iot.GetRegistrationCodeInput{})
	f.must(err)
	_, err = f.registerCA(a, with(other.sign(*code.RegistrationCode)))
	f.refused(err, "CertificateValidationException", 400)
	// What is no CA's, and what was one's.
	leaf := selfSigned(t, "x")
	_, err = f.registerCA(a, func(in *iot.RegisterCACertificateInput) { in.CaCertificate = &leaf.pem })
	f.refused(err, "CertificateValidationException", 400)
	old := selfSigned(t, "x", func(c *x509.Certificate) {
		c.IsCA, c.KeyUsage, c.NotAfter = true, x509.KeyUsageCertSign, time.Now().Add(-time.Minute)
	})
	_, err = f.registerCA(a, func(in *iot.RegisterCACertificateInput) {
		in.CaCertificate, in.VerificationCertificate, in.CertificateMode = &old.pem, nil, types.CertificateModeSniOnly
	})
	f.refused(err, "CertificateValidationException", 400)
}

func sniOnly(in *iot.RegisterCACertificateInput) {
	in.CertificateMode, in.VerificationCertificate = types.CertificateModeSniOnly, nil
}

func TestB155ModeAndVerification(t *testing.T) {
	f := newFleet(t)
	a := newAuthority(t, f.name("ca"))
	_, err := f.registerCA(a, func(in *iot.RegisterCACertificateInput) { in.CertificateMode = types.CertificateModeSniOnly })
	f.refused(err, "InvalidRequestException", 400)
	for _, mode := range []types.CertificateMode{"", types.CertificateModeDefault} {
		_, err = f.registerCA(a, func(in *iot.RegisterCACertificateInput) { in.CertificateMode, in.VerificationCertificate = mode, nil })
		f.refused(err, "InvalidRequestException", 400)
	}
	f.mustCA(a, sniOnly)
	// The mode of a CA is that of its certificates.
	c := a.sign("x")
	_, err = f.api.RegisterCertificate(f.ctx, &iot.RegisterCertificateInput{CertificatePem: &c.pem, Status: types.CertificateStatusActive})
	f.must(err)
	if got := f.certificate(c.id); got.CertificateMode != types.CertificateModeSniOnly || got.Status != types.CertificateStatusActive {
		t.Errorf("%s %s", got.CertificateMode, got.Status)
	}
}

func TestB156B158CACertificates(t *testing.T) {
	f := newFleet(t)
	id := f.mustCA(newAuthority(t, f.name("ca")), func(in *iot.RegisterCACertificateInput) {
		in.SetAsActive = false
		in.Tags = []types.Tag{{Key: aws.String("k"), Value: aws.String("v")}}
	})
	describe := func() *types.CACertificateDescription {
		out, err := f.api.DescribeCACertificate(f.ctx, &iot.DescribeCACertificateInput{CertificateId: &id})
		f.must(err)
		return out.CertificateDescription
	}
	c := describe()
	if c.Status != types.CACertificateStatusInactive || c.AutoRegistrationStatus != types.AutoRegistrationStatusDisable || *c.CertificateArn != f.arn("cacert", id) {
		t.Errorf("%s %s %s", c.Status, c.AutoRegistrationStatus, *c.CertificateArn)
	}
	tags, err := f.api.ListTagsForResource(f.ctx, &iot.ListTagsForResourceInput{ResourceArn: c.CertificateArn})
	f.must(err)
	if len(tags.Tags) != 1 || *tags.Tags[0].Key != "k" {
		t.Errorf("tags %v", tags.Tags)
	}
	update := func(in iot.UpdateCACertificateInput) {
		t.Helper()
		in.CertificateId = &id
		_, err := f.api.UpdateCACertificate(f.ctx, &in)
		f.must(err)
	}
	config := &types.RegistrationConfig{TemplateBody: aws.String(fmt.Sprintf(jitp, f.prefix, "g")), RoleArn: aws.String("arn:aws:iam::123456789012:role/x")}
	update(iot.UpdateCACertificateInput{NewStatus: types.CACertificateStatusActive, NewAutoRegistrationStatus: types.AutoRegistrationStatusEnable, RegistrationConfig: config})
	if c := describe(); c.Status != types.CACertificateStatusActive || c.AutoRegistrationStatus != types.AutoRegistrationStatusEnable || *c.CustomerVersion != 2 {
		t.Errorf("%s %s version %d", c.Status, c.AutoRegistrationStatus, *c.CustomerVersion)
	}
	_, err = f.api.DeleteCACertificate(f.ctx, &iot.DeleteCACertificateInput{CertificateId: &id})
	f.refused(err, "CertificateStateException", 406)
	update(iot.UpdateCACertificateInput{NewStatus: types.CACertificateStatusInactive, RemoveAutoRegistration: true})
	out, err := f.api.DescribeCACertificate(f.ctx, &iot.DescribeCACertificateInput{CertificateId: &id})
	f.must(err)
	if out.RegistrationConfig != nil || out.CertificateDescription.AutoRegistrationStatus != types.AutoRegistrationStatusDisable {
		t.Errorf("%+v", out)
	}
	_, err = f.api.DeleteCACertificate(f.ctx, &iot.DeleteCACertificateInput{CertificateId: &id})
	f.must(err)
	_, err = f.api.DescribeCACertificate(f.ctx, &iot.DescribeCACertificateInput{CertificateId: &id})
	f.refused(err, "ResourceNotFoundException", 404)
}

func TestB157CAsOfOneSubject(t *testing.T) {
	f := newFleet(t)
	for range 10 {
		f.mustCA(newAuthority(t, f.name("ca")))
	}
	_, err := f.registerCA(newAuthority(t, f.name("ca")))
	f.refused(err, "LimitExceededException", 410)
}

func TestB160B161StatusesThatNobodySets(t *testing.T) {
	f := newFleet(t)
	id := f.newCertificate(true).id
	for _, status := range []types.CertificateStatus{types.CertificateStatusPendingActivation, types.CertificateStatusPendingTransfer} {
		f.refused(f.setStatus(id, status), "InvalidRequestException", 400)
	}
	f.must(f.setStatus(id, types.CertificateStatusActive))
	if c := f.certificate(id); *c.CustomerVersion != 1 {
		t.Errorf("the same status is version %d", *c.CustomerVersion)
	}
	f.must(f.setStatus(id, types.CertificateStatusInactive))
	if c := f.certificate(id); *c.CustomerVersion != 2 || c.Status != types.CertificateStatusInactive {
		t.Errorf("%s version %d", c.Status, *c.CustomerVersion)
	}
}

func TestB162RevokedIsForGood(t *testing.T) {
	f := newFleet(t)
	id := f.newCertificate(true).id
	f.must(f.setStatus(id, types.CertificateStatusRevoked))
	f.must(f.setStatus(id, types.CertificateStatusRevoked))
	for _, status := range []types.CertificateStatus{types.CertificateStatusActive, types.CertificateStatusInactive} {
		f.refused(f.setStatus(id, status), "CertificateStateException", 406)
	}
}

func TestB164B165DeleteCertificate(t *testing.T) {
	f := newFleet(t)
	thing, id := f.thing("t"), f.newCertificate(true).id
	f.must(f.attach(thing, id, ""))
	for _, force := range []bool{false, true} {
		f.refused(f.deleteCertificate(id, force), "CertificateStateException", 406)
	}
	f.must(f.setStatus(id, types.CertificateStatusInactive))
	for _, force := range []bool{false, true} {
		f.refused(f.deleteCertificate(id, force), "DeleteConflictException", 409)
	}
	_, err := f.api.DeleteThing(f.ctx, &iot.DeleteThingInput{ThingName: &thing})
	f.refused(err, "InvalidRequestException", 400)
	f.must(f.detach(thing, id))
	f.must(f.deleteCertificate(id, false))
	f.refused(f.deleteCertificate(id, false), "ResourceNotFoundException", 404)
	_, err = f.api.DeleteThing(f.ctx, &iot.DeleteThingInput{ThingName: &thing})
	f.must(err)
}

func TestB167AttachToNothing(t *testing.T) {
	f := newFleet(t)
	thing, id := f.thing("t"), f.newCertificate(false).id
	f.refused(f.attach(f.name("nobody"), id, ""), "ResourceNotFoundException", 404)
	f.refused(f.attach(thing, strings.Repeat("0", 64), ""), "ResourceNotFoundException", 404)
	_, err := f.api.AttachThingPrincipal(f.ctx, &iot.AttachThingPrincipalInput{ThingName: &thing, Principal: aws.String("us-east-1:00000000-0000-0000-0000-000000000000")})
	f.refused(err, "InvalidRequestException", 400)
	f.must(f.attach(thing, id, ""))
	f.must(f.attach(thing, id, ""))
	f.must(f.detach(thing, id))
	f.must(f.detach(thing, id))
}

func TestB168B169ExclusiveThings(t *testing.T) {
	f := newFleet(t)
	a, b, id := f.thing("a"), f.thing("b"), f.newCertificate(false).id
	const exclusive, shared = types.ThingPrincipalTypeExclusiveThing, types.ThingPrincipalTypeNonExclusiveThing
	f.must(f.attach(a, id, shared))
	f.refused(f.attach(b, id, exclusive), "InvalidRequestException", 400)
	f.refused(f.attach(a, id, exclusive), "InvalidRequestException", 400)
	f.must(f.detach(a, id))
	f.must(f.attach(a, id, exclusive))
	f.must(f.attach(a, id, exclusive))
	for _, kind := range []types.ThingPrincipalType{exclusive, shared, ""} {
		f.refused(f.attach(b, id, kind), "InvalidRequestException", 400)
	}
	f.must(f.detach(a, id))
	f.must(f.attach(b, id, shared))
	f.must(f.attach(a, id, ""))
}

func TestB170ListPrincipals(t *testing.T) {
	f := newFleet(t)
	thing, other := f.thing("a"), f.thing("b")
	const exclusive, shared = types.ThingPrincipalTypeExclusiveThing, types.ThingPrincipalTypeNonExclusiveThing
	want := map[string]types.ThingPrincipalType{}
	for i := range 3 {
		id := f.newCertificate(false).id
		kind := shared
		if i == 0 {
			kind = exclusive
		} else {
			f.must(f.attach(other, id, shared))
		}
		f.must(f.attach(thing, id, kind))
		want[f.certARN(id)] = kind
	}
	list := func(kind types.ThingPrincipalType) map[string]types.ThingPrincipalType {
		got := map[string]types.ThingPrincipalType{}
		pages := iot.NewListThingPrincipalsV2Paginator(f.api, &iot.ListThingPrincipalsV2Input{ThingName: &thing, ThingPrincipalType: kind, MaxResults: aws.Int32(2)})
		for pages.HasMorePages() {
			page, err := pages.NextPage(f.ctx)
			f.must(err)
			for _, p := range page.ThingPrincipalObjects {
				got[*p.Principal] = p.ThingPrincipalType
			}
		}
		return got
	}
	if got := list(""); fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("%v, want %v", got, want)
	}
	if one, two := list(exclusive), list(shared); len(one) != 1 || len(two) != 2 {
		t.Errorf("%v, %v", one, two)
	}
	plain, err := f.api.ListThingPrincipals(f.ctx, &iot.ListThingPrincipalsInput{ThingName: &thing})
	f.must(err)
	if len(plain.Principals) != 3 || want[plain.Principals[0]] == "" {
		t.Errorf("%v", plain.Principals)
	}
	for arn, kind := range want {
		things, err := f.api.ListPrincipalThings(f.ctx, &iot.ListPrincipalThingsInput{Principal: &arn})
		f.must(err)
		v2, err := f.api.ListPrincipalThingsV2(f.ctx, &iot.ListPrincipalThingsV2Input{Principal: &arn, ThingPrincipalType: kind})
		f.must(err)
		n := 2
		if kind == exclusive {
			n = 1
		}
		if len(things.Things) != n || things.Things[0] != thing || len(v2.PrincipalThingObjects) != n || v2.PrincipalThingObjects[0].ThingPrincipalType != kind {
			t.Errorf("%s: %v, %v", kind, things.Things, v2.PrincipalThingObjects)
		}
	}
	_, err = f.api.ListPrincipalThings(f.ctx, &iot.ListPrincipalThingsInput{Principal: aws.String(f.certARN(strings.Repeat("0", 64)))})
	f.refused(err, "ResourceNotFoundException", 404)
}

func TestB171ListCertificates(t *testing.T) {
	f := fleetOn(t, ownServer(t))
	var ids []string
	for range 27 {
		c := selfSigned(t, "x")
		f.registerAlone(c, "")
		ids = append(ids, c.id)
	}
	list := func(in iot.ListCertificatesInput) (got []string, next *string) {
		t.Helper()
		out, err := f.api.ListCertificates(f.ctx, &in)
		f.must(err)
		for _, c := range out.Certificates {
			got = append(got, *c.CertificateId)
		}
		return got, out.NextMarker
	}
	first, marker := list(iot.ListCertificatesInput{AscendingOrder: true})
	if marker == nil || len(first) != 25 {
		t.Fatalf("%d certificates, marker %v", len(first), marker)
	}
	rest, end := list(iot.ListCertificatesInput{AscendingOrder: true, Marker: marker})
	if got := append(first, rest...); end != nil || fmt.Sprint(got) != fmt.Sprint(ids) {
		t.Errorf("got %v, want %v", got, ids)
	}
	newest, _ := list(iot.ListCertificatesInput{PageSize: aws.Int32(1)})
	if fmt.Sprint(newest) != fmt.Sprint(ids[26:]) {
		t.Errorf("the newest is %v", newest)
	}
	_, err := f.api.ListCertificates(f.ctx, &iot.ListCertificatesInput{Marker: marker})
	f.refused(err, "InvalidRequestException", 400)

	a := newAuthority(t, "ca")
	ca := f.mustCA(a)
	c := a.sign("x")
	_, err = f.api.RegisterCertificate(f.ctx, &iot.RegisterCertificateInput{CertificatePem: &c.pem, CaCertificatePem: &a.pem})
	f.must(err)
	byCA, err := f.api.ListCertificatesByCA(f.ctx, &iot.ListCertificatesByCAInput{CaCertificateId: &ca})
	f.must(err)
	if len(byCA.Certificates) != 1 || *byCA.Certificates[0].CertificateId != c.id {
		t.Errorf("%v", byCA.Certificates)
	}
	cas, err := f.api.ListCACertificates(f.ctx, &iot.ListCACertificatesInput{})
	f.must(err)
	if len(cas.Certificates) != 1 || *cas.Certificates[0].CertificateId != ca {
		t.Errorf("%v", cas.Certificates)
	}
}
