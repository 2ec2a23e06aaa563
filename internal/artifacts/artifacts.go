// Package artifacts connects jobs with the S3 store that keeps what they are about: it reads
// the documents that documentSource names (spec §9.1), presigns the URLs that documents
// ask for (spec §9.2, §9.3), and reads parts of the files that devices fetch over MQTT (registry
// spec §8).
//
// There is one store: the one in the box, any other that speaks S3 at a URL, or AWS. A URL
// in a request is never connected to. It is taken apart into bucket, key and version
// (iot.ObjectStore), and these are asked of the store. What is left to go wrong, a bucket in
// front of a host name, a redirect, a name that resolves inwards, is stopped where the
// connection is made (dial.go).
package artifacts

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"
	"github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/aws-sdk-go-v2/service/s3"

	"drover/internal/iot"
)

// Config says which store it is. Region and Credentials are required.
type Config struct {
	// Endpoint is the URL of the store, scheme, host and port only; "" for AWS.
	Endpoint string
	// Public is the URL of the store for devices; "": Endpoint.
	Public string
	// Aliases are further URLs of the store, which documents may name it by.
	Aliases []string
	Region  string // for which requests are signed; of AWS: that of URLs which name none
	// VirtualHosts puts the bucket in front of the host instead of into the path, as is
	// always done for AWS. A bucket with dots goes into the path nevertheless under https,
	// because no certificate fits it otherwise.
	VirtualHosts bool

	// Credentials sign; Roles win for jobs whose presignedUrlConfig has their ARN.
	Credentials aws.CredentialsProvider
	Roles       map[string]aws.CredentialsProvider

	// UploadBucket is where uploads go that name no bucket; "": they are refused.
	UploadBucket string

	// Box is the store of this process, nil if it is another. Documents are read from it
	// without a request, and URLs say which job and thing they were made for.
	Box Box
}

// Box is the part of the store in the box that is needed here.
type Box interface {
	// Open opens an object; version "" is the latest. The error is fs.ErrNotExist if there is no
	// such bucket, object or version.
	Open(bucket, key, version string) (*File, error)
}

// File is an object that is open for reading. Close it.
type File struct {
	io.ReaderAt
	io.Closer
	iot.ObjectInfo
}

// Store reads documents and makes URLs. Its methods may be called from many goroutines.
type Store struct {
	cfg      Config
	endpoint *url.URL // nil for AWS
	public   *url.URL // nil for AWS
	objects  iot.ObjectStore
	client   *s3.Client
	signer   *v4.Signer
	key      *keys
	roles    map[string]*keys // by ARN
	resolver *net.Resolver    // of tests; nil: the machine's
	chunks   chunks
}

// The parameters by which the store in the box knows whose download it is.
const (
	jobParameter   = "x-drover-job"
	thingParameter = "x-drover-thing"
)

// New returns a Store. It connects to nothing.
func New(cfg Config) (*Store, error) {
	s := &Store{
		cfg: cfg, signer: v4.NewSigner(), objects: iot.ObjectStore{UploadBucket: cfg.UploadBucket},
		key: &keys{provider: cfg.Credentials}, roles: make(map[string]*keys),
	}
	for role, provider := range cfg.Roles {
		s.roles[role] = &keys{provider: provider}
	}
	for _, u := range append([]string{cfg.Endpoint, cfg.Public}, cfg.Aliases...) {
		if u == "" {
			continue
		}
		parsed, err := ParseEndpoint(u)
		if err != nil {
			return nil, err
		}
		s.objects.Hosts = append(s.objects.Hosts, parsed.Host)
	}
	if cfg.Endpoint == "" {
		s.objects.Hosts = append(s.objects.Hosts, "s3.amazonaws.com") // one of many that are known
	} else {
		var err error
		if s.endpoint, err = ParseEndpoint(cfg.Endpoint); err != nil {
			return nil, err
		}
		if s.public, err = ParseEndpoint(cmp.Or(cfg.Public, cfg.Endpoint)); err != nil {
			return nil, err
		}
	}
	s.client = s3.New(s3.Options{
		Region: cfg.Region, Credentials: cfg.Credentials, HTTPClient: s.httpClient(), UsePathStyle: s.endpoint != nil && !cfg.VirtualHosts,
		Retryer: aws.NopRetryer{}, // who waits for the answer can ask again
		// Otherwise it complains on standard error of every object that has no checksum.
		DisableLogOutputChecksumValidationSkipped: true,
	}, func(o *s3.Options) {
		if s.endpoint != nil {
			o.BaseEndpoint = aws.String(s.endpoint.String())
		}
	})
	return s, nil
}

// ParseEndpoint reads the URL of a store. Its host is in lower case, without the port that
// the scheme has anyway.
func ParseEndpoint(text string) (*url.URL, error) {
	u, err := url.Parse(text)
	if err != nil {
		return nil, err
	}
	if u.Scheme != "http" && u.Scheme != "https" || u.Hostname() == "" || u.User != nil || strings.Trim(u.Path, "/") != "" || u.RawQuery != "" || u.Fragment != "" {
		return nil, fmt.Errorf("%q is not the URL of an S3 store: http:// or https://, a host, a port", text)
	}
	host := strings.ToLower(u.Host)
	if u.Scheme == "https" {
		host = strings.TrimSuffix(host, ":443")
	} else {
		host = strings.TrimSuffix(host, ":80")
	}
	return &url.URL{Scheme: u.Scheme, Host: host}, nil
}

// Profile returns the credentials of a named profile of the AWS configuration, refreshed as
// needed; "" is what the AWS SDKs find by themselves in environment, files and machine.
func Profile(ctx context.Context, name string) (aws.CredentialsProvider, error) {
	var options []func(*config.LoadOptions) error
	if name != "" {
		options = append(options, config.WithSharedConfigProfile(name))
	}
	c, err := config.LoadDefaultConfig(ctx, options...)
	return c.Credentials, err
}

// Objects says which URLs name objects of the store.
func (s *Store) Objects() iot.ObjectStore { return s.objects }

// Presign returns a URL by which whoever has it can fetch the object, or with Upload put it
// there, from now on until it expires. The time is that of the machine, also where tests
// move the clock: whoever checks the signature knows no other.
func (s *Store) Presign(o iot.ObjectURL) (string, error) {
	from, ok := s.roles[o.RoleARN]
	if !ok {
		from = s.key
	}
	key, err := from.get()
	if err != nil {
		return "", fmt.Errorf("get the credentials for role %q: %w", o.RoleARN, err)
	}
	u := s.url(o.Object)
	query := url.Values{"X-Amz-Expires": {strconv.Itoa(int(o.Expires / time.Second))}}
	if o.Version != "" {
		query.Set("versionId", o.Version)
	}
	if s.cfg.Box != nil {
		query.Set(jobParameter, string(o.Job))
		query.Set(thingParameter, string(o.Thing))
	}
	u.RawQuery = query.Encode()
	method := http.MethodGet
	if o.Upload {
		method = http.MethodPut
	}
	r := &http.Request{Method: method, URL: u, Host: u.Host, Header: http.Header{}}
	signed, _, err := s.signer.PresignHTTP(context.Background(), key, r, "UNSIGNED-PAYLOAD", "s3", s.region(o.Object), time.Now(), func(o *v4.SignerOptions) {
		o.DisableURIPathEscaping = true // it is encoded once, as S3 wants it
	})
	return signed, err
}

// region is the one to sign for. The regions of AWS mean nothing to another store.
func (s *Store) region(o iot.Object) string {
	if s.endpoint == nil && o.Region != "" {
		return o.Region
	}
	return s.cfg.Region
}

// url returns where devices find an object.
func (s *Store) url(o iot.Object) *url.URL {
	u, virtual := url.URL{Scheme: "https"}, true
	if s.public != nil {
		u, virtual = *s.public, s.cfg.VirtualHosts
	} else {
		region := s.region(o)
		u.Host = "s3." + region + ".amazonaws.com"
		if strings.HasPrefix(region, "cn-") {
			u.Host += ".cn"
		}
	}
	u.Path = "/" + o.Key
	if virtual && (u.Scheme == "http" || !strings.Contains(o.Bucket, ".")) {
		u.Host = o.Bucket + "." + u.Host
	} else {
		u.Path = "/" + o.Bucket + u.Path
	}
	u.RawPath = escape(u.Path)
	return &u
}

// escape percent-encodes a path as S3's signatures have it: all but letters, digits and -._~/.
func escape(path string) string {
	const digits = "0123456789ABCDEF"
	b := make([]byte, 0, len(path)+16)
	for i := range len(path) {
		c := path[i]
		if 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9' || strings.IndexByte("-._~/", c) >= 0 {
			b = append(b, c)
		} else {
			b = append(b, '%', digits[c>>4], digits[c&15])
		}
	}
	return string(b)
}
