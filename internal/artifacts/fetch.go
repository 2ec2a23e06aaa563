package artifacts

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"net"
	"net/http"
	"time"

	awshttp "github.com/aws/aws-sdk-go-v2/aws/transport/http"
	"github.com/aws/aws-sdk-go-v2/service/s3"

	"drover/internal/iot"
)

// fetchTimeout bounds the reading of a document, from the first name that is looked up.
const fetchTimeout = 15 * time.Second

// Fetch reads the job document that a documentSource names, at most one byte more than a
// document may have. Every failure is an InvalidRequest error that says what it was; what
// the document holds is not looked at.
func (s *Store) Fetch(ctx context.Context, source string) (string, error) {
	o, err := s.objects.Parse(source)
	if err != nil {
		return "", err
	}
	ctx, cancel := context.WithTimeout(ctx, fetchTimeout)
	defer cancel()
	text, err := s.read(ctx, o)
	if err != nil {
		return "", iot.Errorf(iot.InvalidRequest, "The document source %s cannot be read: %s", source, s.reason(o, err))
	}
	if len(text) > iot.MaxDocument {
		return "", iot.Errorf(iot.InvalidRequest, "The document source %s cannot be read: it has more than %d bytes", source, iot.MaxDocument)
	}
	if len(text) == 0 { // which would mean that none was named
		return "", iot.Errorf(iot.InvalidRequest, "The document source %s cannot be read: it is empty", source)
	}
	return string(text), nil
}

func (s *Store) read(ctx context.Context, o iot.Object) (text []byte, err error) {
	body, err := s.open(ctx, o)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, body.Close()) }()
	return io.ReadAll(io.LimitReader(body, iot.MaxDocument+1))
}

func (s *Store) open(ctx context.Context, o iot.Object) (io.ReadCloser, error) {
	if s.cfg.Box != nil {
		f, err := s.cfg.Box.Open(o.Bucket, o.Key, o.Version)
		if err != nil {
			return nil, err
		}
		return struct {
			io.Reader
			io.Closer
		}{io.NewSectionReader(f, 0, f.Size), f}, nil
	}
	out, err := s.client.GetObject(ctx, &s3.GetObjectInput{Bucket: &o.Bucket, Key: &o.Key, VersionId: given(o.Version)}, s.inRegion(o))
	if err != nil {
		return nil, err
	}
	return out.Body, nil
}

// given is nil for what is not there.
func given(text string) *string {
	if text == "" {
		return nil
	}
	return &text
}

func (s *Store) inRegion(o iot.Object) func(*s3.Options) {
	return func(options *s3.Options) { options.Region = s.region(o) }
}

// missing reports whether err says that there is no such object.
func missing(err error) bool {
	refused, ok := errors.AsType[*awshttp.ResponseError](err)
	return errors.Is(err, fs.ErrNotExist) || ok && refused.HTTPStatusCode() == http.StatusNotFound
}

// reason says in a user's words why an object could not be read.
func (s *Store) reason(o iot.Object, err error) string {
	name := o.Bucket + "/" + o.Key
	if o.Version != "" {
		name += ", version " + o.Version
	}
	if missing(err) {
		return "there is no object " + name
	}
	// Without a response it is about the connection.
	if refused, ok := errors.AsType[*awshttp.ResponseError](err); ok && refused.HTTPStatusCode() > 0 {
		switch status := refused.HTTPStatusCode(); {
		case status == http.StatusForbidden || status == http.StatusUnauthorized:
			return "the store forbids this server to read " + name
		case status >= 300 && status < 400:
			return "the store redirects, which is not followed; is the bucket in another region?"
		default:
			return "the store answers " + refused.Response.Status
		}
	}
	if refused, ok := errors.AsType[*addressError](err); ok {
		return refused.Error()
	}
	if failed, ok := errors.AsType[*net.DNSError](err); ok && failed.IsNotFound {
		return "there is no host " + failed.Name
	}
	if timeout, ok := errors.AsType[net.Error](err); ok && timeout.Timeout() || errors.Is(err, context.DeadlineExceeded) {
		return "the store does not answer in time"
	}
	if failed, ok := errors.AsType[*net.OpError](err); ok {
		return "the store cannot be reached: " + failed.Err.Error()
	}
	if errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, io.EOF) {
		return "the store broke off"
	}
	return "the store cannot be used: " + err.Error()
}
