package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"

	"drover/internal/artifacts"
	"drover/internal/controlplane"
	"drover/internal/dataplane"
	"drover/internal/iot"
	"drover/internal/objects"
	"drover/internal/ota"
	"drover/internal/packages"
)

// s3Flags say which S3 store documents and files are in.
type s3Flags struct {
	S3             string            `name:"s3" env:"DROVER_S3" help:"Where documents and files are: box (this server), aws, or the URL of another S3 store." default:"box" placeholder:"box|aws|URL"`
	S3PublicURL    string            `name:"s3-public-url" env:"DROVER_S3_PUBLIC_URL" help:"URL by which devices reach the store; default: of the box --https, else --http, of another its URL." placeholder:"URL"`
	S3Region       string            `name:"s3-region" env:"DROVER_S3_REGION" help:"Region to sign for; default: --region." placeholder:"REGION"`
	S3VirtualHosts bool              `name:"s3-virtual-hosts" env:"DROVER_S3_VIRTUAL_HOSTS" help:"The store at a URL wants buckets in front of its host name instead of in the path."`
	S3AccessKey    string            `name:"s3-access-key" env:"DROVER_S3_ACCESS_KEY" help:"Access key of a store other than the box; default: what the AWS SDKs find in environment, files and machine." placeholder:"ID"`
	S3SecretKey    string            `name:"s3-secret-key" env:"DROVER_S3_SECRET_KEY" help:"Its secret; better given as DROVER_S3_SECRET_KEY or in the file of --config than here." placeholder:"SECRET"`
	S3Profile      string            `name:"s3-profile" env:"DROVER_S3_PROFILE" help:"Profile of the AWS configuration to take instead of an access key." placeholder:"NAME"`
	S3Roles        map[string]string `name:"s3-role" env:"DROVER_S3_ROLE" help:"Profile that signs the URLs of jobs with a roleArn; can be repeated. Other roles are signed for like everything else." placeholder:"ARN=PROFILE"`
	S3UploadBucket string            `name:"s3-upload-bucket" env:"DROVER_S3_UPLOAD_BUCKET" help:"Bucket of uploads whose placeholder names none; empty: they are refused." default:"uploads" placeholder:"NAME"`
}

const (
	s3Box = "box"
	s3AWS = "aws"
)

// inBox reports whether the store is that of this server.
func (f *s3Flags) inBox() bool { return f.S3 == s3Box || f.S3 == "" }

// check returns all that is wrong with the flags.
func (f *s3Flags) check() error {
	var errs []error
	own := f.inBox()
	if !own && f.S3 != s3AWS {
		if _, err := artifacts.ParseEndpoint(f.S3); err != nil {
			errs = append(errs, fmt.Errorf("--s3: box, aws or a URL: %w", err))
		}
	}
	if f.S3PublicURL != "" {
		if _, err := artifacts.ParseEndpoint(f.S3PublicURL); err != nil {
			errs = append(errs, fmt.Errorf("--s3-public-url: %w", err))
		}
		if f.S3 == s3AWS {
			errs = append(errs, errors.New("--s3-public-url: devices reach AWS under its own names"))
		}
	}
	switch {
	case own && (f.S3AccessKey != "" || f.S3SecretKey != "" || f.S3Profile != "" || len(f.S3Roles) > 0):
		errs = append(errs, errors.New("--s3-access-key, --s3-secret-key, --s3-profile, --s3-role: the store in the box has the key of the data folder"))
	case (f.S3AccessKey == "") != (f.S3SecretKey == ""):
		errs = append(errs, errors.New("--s3-access-key, --s3-secret-key: one needs the other"))
	case f.S3AccessKey != "" && f.S3Profile != "":
		errs = append(errs, errors.New("--s3-profile: not with --s3-access-key"))
	}
	if f.S3VirtualHosts && (own || f.S3 == s3AWS) {
		errs = append(errs, errors.New("--s3-virtual-hosts: for a store at a URL"))
	}
	return errors.Join(errs...)
}

// files are the documents and files that jobs refer to, as the parts of the server see
// them; without a store there are none.
type files struct {
	objects  iot.ObjectStore
	sources  controlplane.Sources
	signer   dataplane.Signer
	blobs    ota.Objects
	archives packages.Objects
}

func (s *server) newFiles(ctx context.Context) (files, error) {
	if s.cfg.S3.inBox() && s.objectStore == nil {
		return files{}, nil
	}
	store, err := s.newArtifacts(ctx)
	if err != nil {
		return files{}, err
	}
	return files{store.Objects(), store, store, blobs{store}, archives{store}}, nil
}

// newArtifacts returns the store that the flags name; the box is at the addresses in use.
func (s *server) newArtifacts(ctx context.Context) (*artifacts.Store, error) {
	f := s.cfg.S3
	cfg := artifacts.Config{
		Endpoint: f.S3, Public: f.S3PublicURL, Region: cmp.Or(f.S3Region, s.cfg.Region), VirtualHosts: f.S3VirtualHosts, UploadBucket: f.S3UploadBucket,
	}
	if f.inBox() {
		cfg.Box = box{s.objectStore}
		cfg.Endpoint, cfg.Aliases = s.endpoints.devices(), s.endpoints.aliases()
		cfg.Region = s.cfg.Region
		cfg.Credentials = credentials.NewStaticCredentialsProvider(s.key.AccessKeyID, s.key.SecretAccessKey, "")
		if _, host, _ := splitURL(cfg.Endpoint); cfg.Public == "" && net.ParseIP(host).IsUnspecified() {
			s.log.Warn("devices cannot fetch files from this address: say --s3-public-url", "url", cfg.Endpoint)
		}
		return artifacts.New(cfg)
	}
	if f.S3 == s3AWS {
		cfg.Endpoint = ""
	}
	var err error
	if f.S3AccessKey != "" {
		cfg.Credentials = credentials.NewStaticCredentialsProvider(f.S3AccessKey, f.S3SecretKey, "")
	} else if cfg.Credentials, err = artifacts.Profile(ctx, f.S3Profile); err != nil {
		return nil, fmt.Errorf("--s3-profile: %w", err)
	}
	cfg.Roles = make(map[string]aws.CredentialsProvider)
	for role, profile := range f.S3Roles {
		if cfg.Roles[role], err = artifacts.Profile(ctx, profile); err != nil {
			return nil, fmt.Errorf("--s3-role %s: %w", role, err)
		}
	}
	return artifacts.New(cfg)
}

// box is the store of this process as the rest of it sees it.
type box struct{ store *objects.Store }

func (b box) Open(bucket, key, version string) (*artifacts.File, error) {
	o, err := b.store.Get(bucket, key, version)
	if refused, ok := errors.AsType[*objects.Error](err); ok && refused.Status == http.StatusNotFound {
		return nil, fmt.Errorf("%w: %w", fs.ErrNotExist, err)
	}
	if err != nil {
		return nil, err
	}
	if o.Deleted {
		return nil, errors.Join(fs.ErrNotExist, o.Close())
	}
	// The file goes on behind the data.
	return &artifacts.File{ReaderAt: io.NewSectionReader(o, 0, o.Size), Closer: o, ObjectInfo: iot.ObjectInfo{Size: o.Size, ETag: o.ETag}}, nil
}

// blobs is the store as package ota sees it.
type blobs struct{ *artifacts.Store }

// Open implements ota.Objects.
func (b blobs) Open(ctx context.Context, o iot.Object, info iot.ObjectInfo) (ota.Blob, error) {
	return b.Blob(ctx, o, info)
}

// archives is the store as package packages sees it.
type archives struct{ *artifacts.Store }

// Open implements packages.Objects.
func (a archives) Open(ctx context.Context, o iot.Object, info iot.ObjectInfo) (packages.Archive, error) {
	return a.Blob(ctx, o, info)
}

// devices is the URL of the API for devices: encrypted if there is a choice.
func (e endpoints) devices() string {
	if e.HTTPS != "" {
		return e.HTTPS
	}
	return e.HTTP
}

// aliases are the URLs of the API as people write them on this machine.
func (e endpoints) aliases() (urls []string) {
	for _, u := range []string{e.HTTP, e.HTTPS} {
		if u == "" {
			continue
		}
		urls = append(urls, u)
		scheme, host, port := splitURL(u)
		if ip := net.ParseIP(host); ip.IsLoopback() || ip.IsUnspecified() {
			for _, name := range []string{"localhost", "127.0.0.1"} {
				urls = append(urls, scheme+"://"+net.JoinHostPort(name, port))
			}
		}
	}
	return urls
}

// splitURL takes a URL of ours apart, which always has a port.
func splitURL(u string) (scheme, host, port string) {
	scheme, addr, _ := cutURL(u)
	if host, port, err := net.SplitHostPort(addr); err == nil {
		return scheme, host, port
	}
	return scheme, addr, ""
}
