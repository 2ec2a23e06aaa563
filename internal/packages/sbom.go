package packages

import (
	"archive/zip"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"drover/internal/iot"
	"drover/internal/store"
)

// Objects is the S3 store that SBOMs are in.
type Objects interface {
	// Stat returns size and ETag of an object. NotFound; InvalidRequest if it cannot be read.
	Stat(ctx context.Context, o iot.Object) (iot.ObjectInfo, error)
	// Open opens an object that Stat has described.
	Open(ctx context.Context, o iot.Object, info iot.ObjectInfo) (Archive, error)
}

// Archive is an object that is open for reading.
type Archive interface {
	io.ReaderAt
	io.Closer
}

// Bounds of an SBOM.
const (
	maxArchive  = 64 << 20 // bytes
	maxFiles    = 100
	maxFile     = 16 << 20 // bytes, unpacked
	sbomTimeout = 2 * time.Minute
	sbomsAtOnce = 16
)

// AssociateSBOM gives a version another SBOM, which is validated in the background. NotFound; InvalidRequest;
// ResourceConflict while one is validated.
func (s *Catalog) AssociateSBOM(ctx context.Context, pkg, version string, at iot.S3Location, actor, token string) (*iot.SBOM, error) {
	if err := at.Check(); err != nil {
		return nil, err
	}
	if s.objects == nil {
		return nil, iot.Errorf(iot.InvalidRequest, "There is no S3 store that an SBOM could be in")
	}
	sbom, err := once(ctx, s, token, "AssociateSbomWithPackageVersion", []any{pkg, version, at}, actor, func(c *change) (*iot.SBOM, error) {
		v, err := findVersion(c, pkg, version)
		if err != nil {
			return nil, err
		}
		if v.SBOM != nil && v.SBOM.Status == iot.SBOMInProgress {
			return nil, iot.Errorf(iot.ResourceConflict, "The SBOM of version %s of package %s is being validated", version, pkg)
		}
		n, err := c.Sequence(1)
		if err != nil {
			return nil, err
		}
		v.SBOM, v.ModifiedAt = &iot.SBOM{Location: at, Status: iot.SBOMInProgress, Association: n}, c.now
		if err := c.SavePackageVersion(v); err != nil {
			return nil, err
		}
		return v.SBOM, c.tell(iot.PackageVersionUpdated, v)
	})
	if err != nil {
		return nil, err
	}
	s.wake()
	return sbom, nil
}

// DisassociateSBOM takes the SBOM of a version away; that there is none is no error. NotFound for the version.
func (s *Catalog) DisassociateSBOM(ctx context.Context, pkg, version, actor, token string) error {
	_, err := once(ctx, s, token, "DisassociateSbomFromPackageVersion", []string{pkg, version}, actor, func(c *change) (done nothing, err error) {
		v, err := findVersion(c, pkg, version)
		if err != nil || v.SBOM == nil {
			return done, err
		}
		v.SBOM, v.ModifiedAt = nil, c.now
		if err := c.SavePackageVersion(v); err != nil {
			return done, err
		}
		return done, c.tell(iot.PackageVersionUpdated, v)
	})
	return err
}

// SBOMResults lists what came of the files of a version's SBOM, by name; status "" = all. NotFound for the version.
func (s *Catalog) SBOMResults(ctx context.Context, pkg, version string, status iot.SBOMStatus, page iot.Page) (list []iot.SBOMResult, next string, err error) {
	v, err := s.Version(ctx, pkg, version)
	if err != nil || v.SBOM == nil {
		return nil, "", err
	}
	for _, r := range v.SBOM.Results {
		if r.File > page.Cursor && (status == "" || r.Status == status) && len(list) <= page.Limit {
			list = append(list, r)
		}
	}
	list, next = cut(list, page.Limit, func(r iot.SBOMResult) string { return r.File })
	return list, next, nil
}

func (s *Catalog) wake() {
	select {
	case s.hint <- struct{}{}:
	default:
	}
}

// Run validates SBOMs until ctx ends. Several nodes may validate the same one, with the same result.
func (s *Catalog) Run(ctx context.Context) {
	ticker := time.NewTicker(s.poll)
	defer ticker.Stop()
	for {
		if err := s.validateAll(ctx); err != nil && ctx.Err() == nil {
			s.log.WarnContext(ctx, "validate SBOMs", "err", err)
		}
		select {
		case <-ctx.Done():
			return
		case <-s.hint:
		case <-ticker.C:
		}
	}
}

// validateAll validates the SBOMs that wait.
func (s *Catalog) validateAll(ctx context.Context) error {
	for after := int64(0); ; {
		pending, err := view(ctx, s, func(rd store.Reader) ([]*iot.PackageVersion, error) { return rd.PendingSBOMs(after, sbomsAtOnce) })
		if err != nil || len(pending) == 0 {
			return err
		}
		for _, v := range pending {
			after = v.SBOM.Association
			results := s.validate(ctx, v.SBOM.Location.Object())
			if ctx.Err() != nil {
				return nil // the next process does it
			}
			if err := s.validated(ctx, v, results); err != nil {
				return err
			}
		}
	}
}

// validated writes down what came of an SBOM, unless the version has another one by now, or none.
func (s *Catalog) validated(ctx context.Context, seen *iot.PackageVersion, results []iot.SBOMResult) error {
	return s.store.Update(ctx, func(tx store.Tx) error {
		c := &change{tx, iot.At(s.now()), "drover"}
		v, err := c.PackageVersion(seen.Package, seen.Name)
		if errors.Is(err, store.ErrNotFound) {
			return nil
		}
		if err != nil {
			return err
		}
		if v.SBOM == nil || v.SBOM.Association != seen.SBOM.Association || v.SBOM.Status != iot.SBOMInProgress {
			return nil
		}
		v.SBOM.Status, v.SBOM.Results = iot.SBOMSucceeded, results
		for _, r := range results {
			if r.Status == iot.SBOMFailed {
				v.SBOM.Status = iot.SBOMFailed
			}
		}
		if err := c.SavePackageVersion(v); err != nil {
			return err
		}
		return c.tell(iot.PackageVersionUpdated, v)
	})
}

// validate reads an archive and validates what is in it. What is wrong with the archive as a whole is one result.
func (s *Catalog) validate(ctx context.Context, o iot.Object) []iot.SBOMResult {
	ctx, cancel := context.WithTimeout(ctx, sbomTimeout)
	defer cancel()
	fails := func(code, format string, args ...any) []iot.SBOMResult {
		return []iot.SBOMResult{{File: o.Key, Status: iot.SBOMFailed, Error: code, Message: fmt.Sprintf(format, args...)}}
	}
	info, err := s.objects.Stat(ctx, o)
	switch {
	case err != nil:
		return fails(iot.IncompatibleFormat, "The archive cannot be read: %v", err)
	case info.Size > maxArchive:
		return fails(iot.SizeExceeded, "The archive has %d bytes; the limit is %d.", info.Size, maxArchive)
	}
	file, err := s.objects.Open(ctx, o, info)
	if err != nil {
		return fails(iot.IncompatibleFormat, "The archive cannot be read: %v", err)
	}
	defer func() { _ = file.Close() }() // it was only read
	archive, err := zip.NewReader(file, info.Size)
	if err != nil {
		return fails(iot.IncompatibleFormat, "The object is not a ZIP archive: %v", err)
	}
	var results []iot.SBOMResult
	for _, f := range archive.File {
		if strings.HasSuffix(f.Name, "/") {
			continue
		}
		if len(results) == maxFiles {
			return fails(iot.SizeExceeded, "The archive has more than %d files.", maxFiles)
		}
		results = append(results, validateFile(f))
	}
	if len(results) == 0 {
		return fails(iot.IncompatibleFormat, "The archive has no file.")
	}
	slices.SortFunc(results, func(a, b iot.SBOMResult) int { return strings.Compare(a.File, b.File) })
	return slices.CompactFunc(results, func(a, b iot.SBOMResult) bool { return a.File == b.File })
}

func validateFile(f *zip.File) iot.SBOMResult {
	name := strings.ToValidUTF8(f.Name, "\uFFFD")
	fails := func(code, format string, args ...any) iot.SBOMResult {
		return iot.SBOMResult{File: name, Status: iot.SBOMFailed, Error: code, Message: fmt.Sprintf(format, args...)}
	}
	r, err := f.Open()
	if err != nil {
		return fails(iot.IncompatibleFormat, "The file cannot be unpacked: %v", err)
	}
	text, err := io.ReadAll(io.LimitReader(r, maxFile+1))
	if err = errors.Join(err, r.Close()); err != nil && len(text) <= maxFile {
		return fails(iot.IncompatibleFormat, "The file cannot be unpacked: %v", err)
	}
	if len(text) > maxFile {
		return fails(iot.SizeExceeded, "The file has more than %d bytes.", maxFile)
	}
	return iot.CheckSBOM(name, text)
}
