package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"time"

	"drover/internal/iot"
	"drover/internal/pki"
	"drover/internal/registry"
)

// caCmd is about drover's own certificate authority.
type caCmd struct {
	Show   caShowCmd   `cmd:"" default:"withargs" help:"Print the roots that devices have to trust, the current one first."`
	Sign   caSignCmd   `cmd:"" help:"Make a certificate for a certificate signing request."`
	Rotate caRotateCmd `cmd:"" help:"Make a new root. Devices that know only an old one go on trusting the server; what they hold stays good."`
}

// caFolder is the data folder with the authority.
type caFolder struct {
	Data string `help:"Data folder of the server." default:"./drover-data" type:"path" placeholder:"DIR"`
}

// open returns the authority of the folder, which must be there: a typing error shall not make
// another authority somewhere.
func (c *caFolder) open() (*pki.Authority, error) {
	if _, err := os.Stat(c.Data); err != nil {
		return nil, fmt.Errorf("--data: %w", err)
	}
	return pki.Open(c.Data), nil
}

type caShowCmd struct{ caFolder }

func (c *caShowCmd) Run(s *streams) error {
	authority, err := c.open()
	if err != nil {
		return err
	}
	roots, err := authority.Roots(false, time.Now())
	if errors.Is(err, pki.ErrNone) {
		return fmt.Errorf("%s: %w; the first certificate or \"drover serve --tls\" makes one", c.Data, err)
	}
	if err != nil {
		return err
	}
	for _, root := range roots {
		if _, err := io.WriteString(s.out, pki.Encode(root)); err != nil {
			return err
		}
	}
	return nil
}

type caSignCmd struct {
	apiFlags
	CSR    string `arg:"" help:"File with the request, PEM. \"-\" reads standard input."`
	Active bool   `help:"Register the certificate as ACTIVE, not INACTIVE."`
	Server bool   `help:"Make the certificate of a server, with the names in the request: it is not registered, and no server needs to run."`
}

func (c *caSignCmd) Run(ctx context.Context, s *streams) error {
	text, err := readInput(c.CSR)
	if err != nil {
		return err
	}
	if c.Server {
		authority, err := (&caFolder{c.Data}).open()
		if err != nil {
			return err
		}
		csr, err := pki.ParseRequest(text)
		if err != nil {
			return err
		}
		chain, err := authority.SignServer(csr, time.Now())
		if err != nil {
			return err
		}
		_, err = io.WriteString(s.out, chain)
		return err
	}
	// A device is let in by the registry, so its certificate is the running server's to make.
	a, err := c.api()
	if err != nil {
		return err
	}
	var out struct {
		ID  string `json:"certificateId"`
		ARN string `json:"certificateArn"`
		PEM string `json:"certificatePem"`
	}
	path := fmt.Sprintf("/certificates?setAsActive=%v", c.Active)
	if err := a.call(ctx, http.MethodPost, path, map[string]string{"certificateSigningRequest": text}, &out); err != nil {
		return err
	}
	say(s.err, "%s\n", out.ARN)
	_, err = io.WriteString(s.out, out.PEM)
	return err
}

func readInput(name string) (string, error) {
	if name == "-" {
		text, err := io.ReadAll(os.Stdin)
		return string(text), err
	}
	text, err := os.ReadFile(name)
	return string(text), err
}

type caRotateCmd struct{ caFolder }

func (c *caRotateCmd) Run(s *streams) error {
	authority, err := c.open()
	if err != nil {
		return err
	}
	if err := authority.Rotate(time.Now()); err != nil {
		return err
	}
	say(s.err, "give %s to new devices; old ones need nothing\n", filepath.Join(c.Data, pki.RootsFile))
	return nil
}

// retireRoots forgets the roots that signed nothing which is still registered.
func retireRoots(ctx context.Context, authority *pki.Authority, things *registry.Registry, now time.Time) (int, error) {
	return authority.Retire(now, func(root iot.CertificateID) (bool, error) {
		list, _, err := things.Certificates(ctx, iot.CertificateQuery{CA: root}, iot.Page{Limit: 1})
		return len(list) > 0, err
	})
}
