package gate

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"sync"
	"time"

	"drover/internal/pki"
)

// lookAgain is how long a certificate is shown before it is looked at again whether another has
// taken its place.
const lookAgain = time.Second

// Files is a certificate and its key in files, which are read again when they have changed.
type Files struct {
	cert, key string
	log       *slog.Logger

	mu      sync.Mutex
	current *tls.Certificate
	looked  time.Time
	infos   [2]fs.FileInfo
}

// LoadFiles reads a certificate chain and its private key, both PEM.
func LoadFiles(cert, key string, log *slog.Logger) (*Files, error) {
	f := &Files{cert: cert, key: key, log: log}
	return f, f.load()
}

func (f *Files) load() error {
	var infos [2]fs.FileInfo
	for i, name := range []string{f.cert, f.key} {
		info, err := os.Stat(name)
		if err != nil {
			return err
		}
		infos[i] = info
	}
	if f.current != nil && same(infos[0], f.infos[0]) && same(infos[1], f.infos[1]) {
		return nil
	}
	cert, err := tls.LoadX509KeyPair(f.cert, f.key)
	if err != nil {
		return err
	}
	f.current, f.infos = &cert, infos
	return nil
}

func same(a, b fs.FileInfo) bool {
	return os.SameFile(a, b) && a.ModTime().Equal(b.ModTime()) && a.Size() == b.Size()
}

// Certificate implements Certificates. While the files cannot be read, as between the writing of
// one and of the other, the former certificate is shown.
func (f *Files) Certificate() (*tls.Certificate, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if now := time.Now(); now.Sub(f.looked) >= lookAgain {
		f.looked = now
		if err := f.load(); err != nil {
			f.log.Warn("the certificate of the server cannot be read again; the former one is in use", "err", err)
		}
	}
	return f.current, nil
}

// Made is a certificate that the Authority makes for names, and makes anew in time and when it
// has another root.
type Made struct {
	authority *pki.Authority
	names     []string
	now       func() time.Time

	mu      sync.Mutex
	current *tls.Certificate
	root    *x509.Certificate
	roots   int
	looked  time.Time
}

// Make returns a Made that has its first certificate.
func Make(authority *pki.Authority, names []string, now func() time.Time) (*Made, error) {
	m := &Made{authority: authority, names: names, now: now}
	_, err := m.Certificate()
	return m, err
}

// Certificate implements Certificates.
func (m *Made) Certificate() (*tls.Certificate, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	now := m.now()
	if m.current != nil && now.Sub(m.looked) < lookAgain && !now.Before(m.looked) {
		return m.current, nil
	}
	roots, err := m.authority.Roots(true, now)
	if err != nil {
		return nil, err
	}
	if len(roots) == 0 {
		return nil, errors.New("the certificate authority has no root")
	}
	m.looked = now
	fresh := m.current != nil && m.root.Equal(roots[0]) && m.roots == len(roots) &&
		m.current.Leaf.NotAfter.Sub(now) > pki.ServerLifetime/3 && !now.Before(m.current.Leaf.NotBefore)
	if fresh {
		return m.current, nil
	}
	cert, err := m.authority.IssueServer(m.names, now)
	if err != nil {
		return nil, fmt.Errorf("make the certificate of the server: %w", err)
	}
	m.current, m.root, m.roots = cert, roots[0], len(roots)
	return cert, nil
}
