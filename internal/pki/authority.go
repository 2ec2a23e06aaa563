package pki

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"sync"
	"time"

	"drover/internal/iot"
)

const (
	// KeyFile is the file of an Authority in the data folder. It has the private key of the
	// current root, the roots from the newest to the oldest, each but the last followed by the
	// same signed by the next: one file, so that it is replaced whole.
	KeyFile = "ca-key.pem"
	// RootsFile has the roots alone, for who wants to hand them to devices.
	RootsFile = "ca.pem"
)

// Expiry is when the certificates of devices expire: as those of AWS IoT do.
var Expiry = time.Date(2049, 12, 31, 23, 59, 59, 0, time.UTC)

const (
	deviceName = "AWS IoT Certificate" // the common name of a certificate whose key we made (identity spec §4.3)

	// backdate makes a certificate good for devices whose clocks are a little behind.
	backdate = 5 * time.Minute
	// ServerLifetime is how long a certificate of a server holds: clients exist that refuse
	// longer ones. It is made anew well before.
	ServerLifetime = 397 * 24 * time.Hour

	deviceKeyBits = 2048
)

// Authority is the certificate authority of a data folder. Its methods may be called
// concurrently, and while another process rotates it.
type Authority struct {
	dir string

	mu    sync.Mutex
	state *state
	file  fs.FileInfo // that state was read from
}

// state is what the key file holds. It does not change.
type state struct {
	key   crypto.Signer
	roots []*x509.Certificate // the current one first
	cross []*x509.Certificate // cross[i] is roots[i], signed by roots[i+1]
}

// Open returns the Authority of the folder; nothing is read or made before it is needed.
func Open(dir string) *Authority { return &Authority{dir: dir} }

// ErrNone says that a folder has no Authority yet.
var ErrNone = errors.New("there is no certificate authority yet")

// load returns what is in the file now. Unless create, a missing file is ErrNone.
func (a *Authority) load(create bool, now time.Time) (*state, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	path := filepath.Join(a.dir, KeyFile)
	info, err := os.Stat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist) && create:
		s, err := newState(now, nil)
		if err != nil {
			return nil, err
		}
		// Not over one that another process makes at this moment.
		if err := a.save(s, os.Link); err != nil && !errors.Is(err, fs.ErrExist) {
			return nil, err
		}
		if info, err = os.Stat(path); err != nil {
			return nil, fmt.Errorf("certificate authority: %w", err)
		}
	case errors.Is(err, fs.ErrNotExist):
		return nil, ErrNone
	case err != nil:
		return nil, fmt.Errorf("certificate authority: %w", err)
	case a.state != nil && os.SameFile(a.file, info) && a.file.ModTime().Equal(info.ModTime()) && a.file.Size() == info.Size():
		return a.state, nil
	}
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("certificate authority: %w", err)
	}
	s, err := parseState(text)
	if err != nil {
		return nil, fmt.Errorf("certificate authority: %s: %w", path, err)
	}
	a.state, a.file = s, info
	return s, nil
}

// newState makes a root that follows those of before, if any.
func newState(now time.Time, before *state) (*state, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	// A name of its own: who looks for an issuer goes by names.
	template := &x509.Certificate{
		Subject:               pkix.Name{Organization: []string{"drover"}, CommonName: "drover root " + rand.Text()[:8]},
		NotBefore:             now.Add(-backdate),
		NotAfter:              Expiry,
		IsCA:                  true,
		BasicConstraintsValid: true,
		KeyUsage:              x509.KeyUsageCertSign | x509.KeyUsageCRLSign,
	}
	root, err := create(template, template, key.Public(), key)
	if err != nil {
		return nil, err
	}
	s := &state{key: key, roots: []*x509.Certificate{root}}
	if before != nil {
		cross, err := create(template, before.roots[0], key.Public(), before.key)
		if err != nil {
			return nil, err
		}
		s.roots = append(s.roots, before.roots...)
		s.cross = append([]*x509.Certificate{cross}, before.cross...)
	}
	return s, nil
}

// create makes a certificate with a random serial number.
func create(template, parent *x509.Certificate, key crypto.PublicKey, signer crypto.Signer) (*x509.Certificate, error) {
	der, err := x509.CreateCertificate(rand.Reader, template, parent, key, signer)
	if err != nil {
		return nil, fmt.Errorf("sign a certificate: %w", err)
	}
	return x509.ParseCertificate(der)
}

func (s *state) encode() (string, error) {
	der, err := x509.MarshalPKCS8PrivateKey(s.key)
	if err != nil {
		return "", err
	}
	text := encode("PRIVATE KEY", der)
	for i, root := range s.roots {
		text += Encode(root)
		if i < len(s.cross) {
			text += Encode(s.cross[i])
		}
	}
	return text, nil
}

func parseState(text []byte) (*state, error) {
	block, rest := pem.Decode(text)
	if block == nil || block.Type != "PRIVATE KEY" {
		return nil, errors.New("it does not begin with a private key in PEM format")
	}
	key, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil {
		return nil, err
	}
	signer, ok := key.(crypto.Signer)
	if !ok {
		return nil, fmt.Errorf("a key of the kind %T cannot sign", key)
	}
	s := &state{key: signer}
	for {
		if block, rest = pem.Decode(rest); block == nil {
			break
		}
		c, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, err
		}
		if len(s.roots) > len(s.cross) {
			s.cross = append(s.cross, c)
		} else {
			s.roots = append(s.roots, c)
		}
	}
	if len(s.roots) != len(s.cross)+1 {
		return nil, fmt.Errorf("it has %d roots and %d links between them", len(s.roots), len(s.cross))
	}
	public, ok := s.roots[0].PublicKey.(interface{ Equal(crypto.PublicKey) bool })
	if !ok || !public.Equal(signer.Public()) {
		return nil, errors.New("the private key is not that of the first root")
	}
	return s, nil
}

// save writes the files. place is what puts the key file in its place: os.Link does so only
// if there is none.
func (a *Authority) save(s *state, place func(from, to string) error) error {
	text, err := s.encode()
	if err != nil {
		return err
	}
	if err := writeFile(filepath.Join(a.dir, KeyFile), text, place); err != nil {
		return fmt.Errorf("certificate authority: %w", err)
	}
	roots := ""
	for _, root := range s.roots {
		roots += Encode(root)
	}
	if err := writeFile(filepath.Join(a.dir, RootsFile), roots, os.Rename); err != nil {
		return fmt.Errorf("certificate authority: %w", err)
	}
	return nil
}

// writeFile puts text at path, readable by the owner alone: after a crash it is there whole or
// not at all.
func writeFile(path, text string, place func(from, to string) error) (err error) {
	f, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+"-*") // mode 0600
	if err != nil {
		return err
	}
	defer func() {
		if e := os.Remove(f.Name()); e != nil && !errors.Is(e, fs.ErrNotExist) {
			err = errors.Join(err, e)
		}
	}()
	_, err = f.WriteString(text)
	if err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return err
	}
	if err := place(f.Name(), path); err != nil {
		return err
	}
	dir, err := os.Open(filepath.Dir(path))
	if err != nil {
		return err
	}
	return errors.Join(dir.Sync(), dir.Close())
}

// Roots returns the roots that devices shall trust, the current one first. ErrNone if nothing
// has needed a root yet, unless create.
func (a *Authority) Roots(create bool, now time.Time) ([]*x509.Certificate, error) {
	s, err := a.load(create, now)
	if err != nil {
		return nil, err
	}
	return s.roots, nil
}

// Rotate makes a new root. The old ones stay among the Roots until they are retired.
func (a *Authority) Rotate(now time.Time) error {
	before, err := a.load(true, now)
	if err != nil {
		return err
	}
	s, err := newState(now, before)
	if err != nil {
		return err
	}
	return a.save(s, os.Rename)
}

// Retire forgets the old roots that have expired or that nothing in use was signed by, from the
// oldest on: a root in the middle is the way from an older one to the current one. It returns
// how many went.
func (a *Authority) Retire(now time.Time, inUse func(iot.CertificateID) (bool, error)) (int, error) {
	s, err := a.load(false, now)
	if errors.Is(err, ErrNone) {
		return 0, nil
	}
	if err != nil {
		return 0, err
	}
	keep := len(s.roots)
	for ; keep > 1; keep-- {
		root := s.roots[keep-1]
		if now.Before(root.NotAfter) {
			used, err := inUse(ID(root))
			if err != nil {
				return 0, err
			}
			if used {
				break
			}
		}
	}
	gone := len(s.roots) - keep
	if gone == 0 {
		return 0, nil
	}
	return gone, a.save(&state{key: s.key, roots: s.roots[:keep], cross: s.cross[:keep-1]}, os.Rename)
}

// Issued is a certificate that an Authority made.
type Issued struct {
	Certificate *x509.Certificate
	Root        iot.CertificateID // that signed it
}

// IssueDevice makes an RSA key of 2048 bits and a certificate for it, as AWS IoT does.
func (a *Authority) IssueDevice(now time.Time) (Issued, iot.KeyPair, error) {
	key, err := rsa.GenerateKey(rand.Reader, deviceKeyBits)
	if err != nil {
		return Issued{}, iot.KeyPair{}, err
	}
	public, err := x509.MarshalPKIXPublicKey(key.Public())
	if err != nil {
		return Issued{}, iot.KeyPair{}, err
	}
	issued, err := a.issueDevice(&x509.Certificate{Subject: pkix.Name{CommonName: deviceName}}, key.Public(), now)
	return issued, iot.KeyPair{
		Public:  encode("PUBLIC KEY", public),
		Private: encode("RSA PRIVATE KEY", x509.MarshalPKCS1PrivateKey(key)),
	}, err
}

// SignDevice makes a certificate for the key and the subject of a request that ParseRequest
// accepted. Nothing else is carried over.
func (a *Authority) SignDevice(csr *x509.CertificateRequest, now time.Time) (Issued, error) {
	template := &x509.Certificate{RawSubject: csr.RawSubject}
	if len(csr.Subject.Names) == 0 {
		template = &x509.Certificate{Subject: pkix.Name{CommonName: deviceName}}
	}
	return a.issueDevice(template, csr.PublicKey, now)
}

func (a *Authority) issueDevice(template *x509.Certificate, key crypto.PublicKey, now time.Time) (Issued, error) {
	s, err := a.load(true, now)
	if err != nil {
		return Issued{}, err
	}
	template.NotBefore, template.NotAfter = now.Add(-backdate), Expiry
	template.BasicConstraintsValid = true
	template.KeyUsage = x509.KeyUsageDigitalSignature
	template.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}
	c, err := create(template, s.roots[0], key, s.key)
	if err != nil {
		return Issued{}, err
	}
	return Issued{Certificate: c, Root: ID(s.roots[0])}, nil
}

// IssueServer makes a key and a certificate for a server of the names, which are DNS names and
// IP addresses, with the links from the current root to the older ones.
func (a *Authority) IssueServer(names []string, now time.Time) (*tls.Certificate, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	chain, err := a.signServer(names, key.Public(), now)
	if err != nil {
		return nil, err
	}
	out := &tls.Certificate{PrivateKey: key, Leaf: chain[0]}
	for _, c := range chain {
		out.Certificate = append(out.Certificate, c.Raw)
	}
	return out, nil
}

// SignServer makes the certificate of a server for the key of a request, with the DNS names and
// IP addresses that it has. It returns the chain that the server has to send, in PEM form.
func (a *Authority) SignServer(csr *x509.CertificateRequest, now time.Time) (string, error) {
	names := csr.DNSNames
	for _, ip := range csr.IPAddresses {
		names = append(names, ip.String())
	}
	if len(names) == 0 {
		return "", badRequest("it names no server: its subject alternative names have neither a DNS name nor an IP address")
	}
	chain, err := a.signServer(names, csr.PublicKey, now)
	text := ""
	for _, c := range chain {
		text += Encode(c)
	}
	return text, err
}

func (a *Authority) signServer(names []string, key crypto.PublicKey, now time.Time) ([]*x509.Certificate, error) {
	if len(names) == 0 {
		return nil, errors.New("a certificate of a server needs a name")
	}
	s, err := a.load(true, now)
	if err != nil {
		return nil, err
	}
	template := &x509.Certificate{
		Subject:               pkix.Name{Organization: []string{"drover"}, CommonName: "drover server"},
		NotBefore:             now.Add(-backdate),
		NotAfter:              now.Add(ServerLifetime),
		BasicConstraintsValid: true,
		KeyUsage:              x509.KeyUsageDigitalSignature,
		ExtKeyUsage:           []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	if template.NotAfter.After(Expiry) {
		template.NotAfter = Expiry
	}
	for _, name := range names {
		if ip := net.ParseIP(name); ip != nil {
			template.IPAddresses = append(template.IPAddresses, ip)
		} else {
			template.DNSNames = append(template.DNSNames, name)
		}
	}
	c, err := create(template, s.roots[0], key, s.key)
	if err != nil {
		return nil, err
	}
	return append([]*x509.Certificate{c}, s.cross...), nil
}
