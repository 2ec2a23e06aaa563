package pki

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/pem"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"drover/internal/iot"
)

var now = time.Date(2026, 3, 4, 5, 6, 7, 0, time.UTC)

func must[T any](t testing.TB) func(v T, err error) T {
	return func(v T, err error) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}

func request(t testing.TB, key crypto.Signer, template x509.CertificateRequest) string {
	t.Helper()
	der := must[[]byte](t)(x509.CreateCertificateRequest(rand.Reader, &template, key))
	return encode("CERTIFICATE REQUEST", der)
}

func ecKey(t testing.TB, curve elliptic.Curve) *ecdsa.PrivateKey {
	t.Helper()
	return must[*ecdsa.PrivateKey](t)(ecdsa.GenerateKey(curve, rand.Reader))
}

func TestIssueDevice(t *testing.T) {
	t.Parallel()
	a := Open(t.TempDir())
	issued, keys, err := a.IssueDevice(now)
	if err != nil {
		t.Fatal(err)
	}
	c := issued.Certificate
	if _, err := tls.X509KeyPair([]byte(Encode(c)), []byte(keys.Private)); err != nil {
		t.Errorf("the private key: %v", err)
	}
	if !strings.HasPrefix(keys.Private, "-----BEGIN RSA PRIVATE KEY-----") || !strings.HasPrefix(keys.Public, "-----BEGIN PUBLIC KEY-----") {
		t.Errorf("keys begin %.40q, %.40q", keys.Private, keys.Public)
	}
	if key := c.PublicKey.(*rsa.PublicKey); key.N.BitLen() != 2048 {
		t.Errorf("a key of %d bits", key.N.BitLen())
	}
	if c.Subject.CommonName != "AWS IoT Certificate" || !c.NotAfter.Equal(Expiry) || c.NotBefore.After(now) {
		t.Errorf("subject %s, from %s to %s", c.Subject, c.NotBefore, c.NotAfter)
	}
	roots := must[[]*x509.Certificate](t)(a.Roots(false, now))
	if issued.Root != ID(roots[0]) || !SignedBy(c, roots[0]) {
		t.Error("not signed by the root that it names")
	}
	if !ForClients(c) {
		t.Error("it is not for clients")
	}
	pool := x509.NewCertPool()
	pool.AddCert(roots[0])
	if _, err := c.Verify(x509.VerifyOptions{Roots: pool, CurrentTime: now}); err == nil {
		t.Error("a device can pose as a server")
	}
	if _, err := c.Verify(x509.VerifyOptions{Roots: pool, CurrentTime: now, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}}); err != nil {
		t.Error(err)
	}
	for _, name := range []string{KeyFile, RootsFile} {
		info := must[os.FileInfo](t)(os.Stat(filepath.Join(a.dir, name)))
		if info.Mode().Perm() != 0o600 {
			t.Errorf("%s has mode %v", name, info.Mode())
		}
	}
}

func TestSignDeviceKeepsTheSubjectAlone(t *testing.T) {
	t.Parallel()
	a := Open(t.TempDir())
	key := ecKey(t, elliptic.P256())
	text := request(t, key, x509.CertificateRequest{
		Subject: pkix.Name{Country: []string{"CH"}, Organization: []string{"o"}, CommonName: "pump-7"}, DNSNames: []string{"server.example"},
	})
	csr := must[*x509.CertificateRequest](t)(ParseRequest(text))
	one := must[Issued](t)(a.SignDevice(csr, now)).Certificate
	two := must[Issued](t)(a.SignDevice(csr, now)).Certificate
	if string(one.RawSubject) != string(csr.RawSubject) || len(one.DNSNames) > 0 || !key.PublicKey.Equal(one.PublicKey) {
		t.Errorf("subject %s, names %q", one.Subject, one.DNSNames)
	}
	if ID(one) == ID(two) || one.SerialNumber.Cmp(two.SerialNumber) == 0 {
		t.Error("one request twice gives one certificate")
	}
	if !ID(one).Valid() {
		t.Errorf("id %q", ID(one))
	}
}

func TestParseRequest(t *testing.T) {
	t.Parallel()
	rsaKey := func(bits int) crypto.Signer { return must[*rsa.PrivateKey](t)(rsa.GenerateKey(rand.Reader, bits)) }
	_, edKey, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	p256 := ecKey(t, elliptic.P256())
	subject := x509.CertificateRequest{Subject: pkix.Name{CommonName: "x"}}
	with := func(id asn1.ObjectIdentifier, value any) string {
		der := must[[]byte](t)(asn1.Marshal(value))
		return request(t, p256, x509.CertificateRequest{ExtraExtensions: []pkix.Extension{{Id: id, Value: der}}})
	}
	good := request(t, p256, subject)
	block, _ := pem.Decode([]byte(good))
	broken := append([]byte(nil), block.Bytes...)
	broken[len(broken)-1] ^= 1
	type constraints struct {
		IsCA bool `asn1:"optional"`
	}
	for name, c := range map[string]struct{ text, want string }{
		"P-256":           {good, ""},
		"P-384":           {request(t, ecKey(t, elliptic.P384()), subject), ""},
		"P-521":           {request(t, ecKey(t, elliptic.P521()), subject), ""},
		"RSA 2048":        {request(t, rsaKey(2048), subject), ""},
		"no CA":           {with(oidBasicConstraints, constraints{}), ""},
		"other extension": {with(asn1.ObjectIdentifier{2, 5, 29, 37}, []asn1.ObjectIdentifier{{1, 2, 3}}), ""},
		"signing":         {with(oidKeyUsage, asn1.BitString{Bytes: []byte{0x80}, BitLength: 1}), ""},
		"RSA 1024":        {request(t, rsaKey(1024), subject), "2048"},
		"P-224":           {request(t, ecKey(t, elliptic.P224()), subject), "P-224"},
		"Ed25519":         {request(t, edKey, subject), "neither RSA nor ECDSA"},
		"a CA":            {with(oidBasicConstraints, constraints{true}), "the certificate of a CA"},
		"a CA's usage":    {with(oidKeyUsage, asn1.BitString{Bytes: []byte{0x04}, BitLength: 6}), "key usage of a CA"},
		"signature":       {encode("CERTIFICATE REQUEST", broken), "signature does not hold"},
		"no PEM":          {"hello", "not in PEM format"},
		"a certificate":   {strings.ReplaceAll(good, " REQUEST", ""), "not in PEM format"},
		"nothing in it":   {encode("CERTIFICATE REQUEST", []byte{1, 2, 3}), "invalid"},
	} {
		_, err := ParseRequest(c.text)
		switch {
		case c.want == "" && err != nil:
			t.Errorf("%s: %v", name, err)
		case c.want != "" && (iot.ErrorCode(err) != iot.InvalidRequest || !strings.Contains(err.Error(), c.want)):
			t.Errorf("%s: %v, want %q", name, err, c.want)
		}
	}
}

func TestRotate(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	server, command := Open(dir), Open(dir) // as in two processes
	first := must[*tls.Certificate](t)(server.IssueServer([]string{"drover.example", "192.0.2.1", "::1"}, now))
	roots := []*x509.Certificate{must[[]*x509.Certificate](t)(command.Roots(false, now))[0]}
	for i := range 2 {
		if err := command.Rotate(now.Add(time.Duration(i+1) * time.Hour)); err != nil {
			t.Fatal(err)
		}
		roots = append(roots, must[[]*x509.Certificate](t)(command.Roots(false, now))[0])
	}
	now := now.Add(3 * time.Hour)
	last := must[*tls.Certificate](t)(server.IssueServer([]string{"drover.example", "192.0.2.1", "::1"}, now))
	if len(first.Certificate) != 1 || len(last.Certificate) != 3 {
		t.Fatalf("chains of %d and %d certificates", len(first.Certificate), len(last.Certificate))
	}
	links := x509.NewCertPool()
	for _, der := range last.Certificate[1:] {
		links.AddCert(must[*x509.Certificate](t)(x509.ParseCertificate(der)))
	}
	for i, root := range roots {
		pool := x509.NewCertPool()
		pool.AddCert(root)
		for _, name := range []string{"drover.example", "192.0.2.1", "::1"} {
			if _, err := last.Leaf.Verify(x509.VerifyOptions{Roots: pool, Intermediates: links, DNSName: name, CurrentTime: now}); err != nil {
				t.Errorf("who trusts root %d does not trust %s: %v", i, name, err)
			}
		}
	}
	if issued := must[Issued](t)(server.SignDevice(must[*x509.CertificateRequest](t)(
		ParseRequest(request(t, ecKey(t, elliptic.P256()), x509.CertificateRequest{}))), now)); issued.Root != ID(roots[2]) {
		t.Error("a device certificate of an old root")
	}

	retire := func(want int, inUse ...int) {
		t.Helper()
		gone := must[int](t)(command.Retire(now, func(id iot.CertificateID) (bool, error) {
			for _, i := range inUse {
				if id == ID(roots[i]) {
					return true, nil
				}
			}
			return false, nil
		}))
		if gone != want {
			t.Errorf("%d roots retired, want %d", gone, want)
		}
	}
	retire(0, 0)
	retire(1, 1)
	retire(0, 1)
	retire(1)
	retire(0)
	if left := must[[]*x509.Certificate](t)(server.Roots(false, now)); len(left) != 1 || !left[0].Equal(roots[2]) {
		t.Errorf("%d roots left", len(left))
	}
	text := string(must[[]byte](t)(os.ReadFile(filepath.Join(dir, RootsFile))))
	if text != Encode(roots[2]) {
		t.Errorf("%s has %q", RootsFile, text)
	}
}

func TestOpenRefusesWhatIsNoAuthority(t *testing.T) {
	t.Parallel()
	a := Open(t.TempDir())
	if _, err := a.Roots(false, now); err != ErrNone {
		t.Errorf("an empty folder: %v", err)
	}
	if _, err := a.Roots(true, now); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(a.dir, KeyFile)
	good := string(must[[]byte](t)(os.ReadFile(path)))
	other := Open(t.TempDir())
	key := must[*state](t)(other.load(true, now))
	keyText, err := key.encode()
	if err != nil {
		t.Fatal(err)
	}
	keyBlock := keyText[:strings.Index(keyText, "-----BEGIN CERT")]
	for text, want := range map[string]string{
		"":                          "does not begin with a private key",
		good[1:]:                    "does not begin with a private key",
		keyBlock:                    "0 roots",
		good + Encode(key.roots[0]): "1 roots and 1 links",
		keyBlock + good[strings.Index(good, "-----BEGIN CERT"):]: "not that of the first root",
	} {
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := Open(a.dir).Roots(true, now); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%.60q: %v, want %q", text, err, want)
		}
	}
}

func TestParse(t *testing.T) {
	t.Parallel()
	ca := Open(t.TempDir())
	root := must[[]*x509.Certificate](t)(ca.Roots(true, now))[0]
	issued := must[Issued](t)(ca.SignDevice(must[*x509.CertificateRequest](t)(
		ParseRequest(request(t, ecKey(t, elliptic.P256()), x509.CertificateRequest{}))), now))
	good := Encode(issued.Certificate)
	if c, err := Parse(good + "anything"); err != nil || !c.Equal(issued.Certificate) {
		t.Errorf("%v", err)
	}
	if CheckAuthority(issued.Certificate) == nil || CheckAuthority(root) != nil {
		t.Error("who is a CA")
	}
	edPublic, edKey, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	ed := must[[]byte](t)(x509.CreateCertificate(rand.Reader, &x509.Certificate{}, &x509.Certificate{}, edPublic, edKey))
	weak := must[*rsa.PrivateKey](t)(rsa.GenerateKey(rand.Reader, 1024))
	small := must[[]byte](t)(x509.CreateCertificate(rand.Reader, &x509.Certificate{}, &x509.Certificate{}, weak.Public(), weak))
	for text, want := range map[string]string{
		"":                            "not in PEM format",
		"hello":                       "not in PEM format",
		encode("PRIVATE KEY", ed):     "not in PEM format",
		encode("CERTIFICATE", ed):     "neither RSA nor ECDSA",
		encode("CERTIFICATE", small):  "2048",
		encode("CERTIFICATE", ed[1:]): "cannot be read",
	} {
		if _, err := Parse(text); iot.ErrorCode(err) != iot.CertificateInvalid || !strings.Contains(err.Error(), want) {
			t.Errorf("%.40q: %v, want %q", text, err, want)
		}
	}
}

func TestParameters(t *testing.T) {
	t.Parallel()
	a := Open(t.TempDir())
	csr := must[*x509.CertificateRequest](t)(ParseRequest(request(t, ecKey(t, elliptic.P256()), x509.CertificateRequest{Subject: pkix.Name{
		Country: []string{"CH", "DE"}, Organization: []string{"o"}, OrganizationalUnit: []string{"ou"}, Province: []string{"ZH"},
		Locality: []string{"not among them"}, SerialNumber: "s-7", CommonName: "pump",
		ExtraNames: []pkix.AttributeTypeAndValue{{Type: asn1.ObjectIdentifier{2, 5, 4, 46}, Value: "q"}},
	}})))
	got := Parameters(must[Issued](t)(a.SignDevice(csr, now)).Certificate)
	want := map[string]string{
		"Country": "CH", "Organization": "o", "OrganizationalUnit": "ou", "StateName": "ZH", "SerialNumber": "s-7", "CommonName": "pump",
		"DistinguishedNameQualifier": "q",
	}
	if len(got) != len(want) {
		t.Errorf("%v", got)
	}
	for name, value := range want {
		if got["AWS::IoT::Certificate::"+name] != value {
			t.Errorf("%s is %q, want %q", name, got["AWS::IoT::Certificate::"+name], value)
		}
	}
}

// FuzzParse: whatever is sent as a certificate or as a request for one, is refused in words or can
// be worked with.
func FuzzParse(f *testing.F) {
	a := Open(f.TempDir())
	key := must[*ecdsa.PrivateKey](f)(ecdsa.GenerateKey(elliptic.P256(), rand.Reader))
	text := request(f, key, x509.CertificateRequest{Subject: pkix.Name{CommonName: "x"}})
	issued := must[Issued](f)(a.SignDevice(must[*x509.CertificateRequest](f)(ParseRequest(text)), now))
	for _, text := range []string{text, Encode(issued.Certificate), ""} {
		block, _ := pem.Decode([]byte(text))
		if block == nil {
			block = new(pem.Block)
		}
		f.Add(block.Bytes)
	}
	roots := must[[]*x509.Certificate](f)(a.Roots(false, now))
	f.Fuzz(func(t *testing.T, der []byte) {
		c, err := Parse(encode("CERTIFICATE", der))
		if err != nil && iot.ErrorCode(err) != iot.CertificateInvalid {
			t.Errorf("%v", err)
		}
		if err == nil {
			_ = Parameters(c)
			_ = ForClients(c)
			if SignedBy(c, roots[0]) && !c.Equal(issued.Certificate) && !c.Equal(roots[0]) {
				t.Errorf("a forgery: %x", der)
			}
		}
		csr, err := ParseRequest(encode("CERTIFICATE REQUEST", der))
		if err != nil && iot.ErrorCode(err) != iot.InvalidRequest {
			t.Errorf("%v", err)
		}
		if err == nil {
			if _, err := a.SignDevice(csr, now); err != nil {
				t.Errorf("accepted and not signed: %v", err)
			}
		}
	})
}
