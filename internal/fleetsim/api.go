package fleetsim

import (
	"bytes"
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"
)

const (
	apiAttempts     = 6                  // of one request
	apiFirstPause   = time.Second / 4    // before the second attempt, doubled before each further one, ±50 %
	apiTimeout      = 2 * time.Minute    // of one attempt
	apiAnswerLimit  = 16 << 20           // bytes of an answer that are read
	apiErrorSnippet = 200                // bytes of an unreadable error that are told
	apiService      = "iot"              // that signatures are for
	apiJSON         = "application/json" // media type of all bodies
)

// api sends signed requests to a control plane.
type api struct {
	endpoint string // without a final slash
	region   string
	keys     aws.Credentials
	signer   *v4.Signer
	client   *http.Client
}

func newAPI(endpoint, accessKeyID, secretAccessKey, sessionToken, region string, client *http.Client) (*api, error) {
	u, err := url.Parse(endpoint)
	if err != nil {
		return nil, fmt.Errorf("fleetsim: endpoint: %w", err)
	}
	if u.Scheme != "http" && u.Scheme != "https" || u.Host == "" {
		return nil, fmt.Errorf("fleetsim: endpoint %q is neither http:// nor https://", endpoint)
	}
	return &api{
		endpoint: strings.TrimRight(endpoint, "/"),
		region:   cmp.Or(region, "us-east-1"),
		keys:     aws.Credentials{AccessKeyID: accessKeyID, SecretAccessKey: secretAccessKey, SessionToken: sessionToken},
		signer:   v4.NewSigner(),
		client:   cmp.Or(client, &http.Client{Timeout: apiTimeout}),
	}, nil
}

// apiError is an answer that is not a success.
type apiError struct {
	Status  int
	Code    string // the exception's name, empty if the answer has none
	Message string
}

func (e *apiError) Error() string {
	text := fmt.Sprintf("HTTP %d", e.Status)
	for _, more := range []string{e.Code, e.Message} {
		if more != "" {
			text += ": " + more
		}
	}
	return text
}

// temporary reports whether the same request may succeed later.
func (e *apiError) temporary() bool {
	return e.Status >= 500 && e.Status != http.StatusNotImplemented || e.Status == http.StatusTooManyRequests ||
		e.Code == "ThrottlingException"
}

// call sends a request, which must be idempotent, until it is answered with
// something else than a temporary failure, a few times at most. The answer is
// decoded into out unless that is nil. A final refusal is an *apiError.
func (a *api) call(ctx context.Context, method, path string, body []byte, out any) error {
	for attempt := 1; ; attempt++ {
		err := a.send(ctx, method, path, body, out)
		refusal, answered := errors.AsType[*apiError](err)
		if err == nil || answered && !refusal.temporary() || attempt == apiAttempts || ctx.Err() != nil {
			return err
		}
		wait := float64(apiFirstPause<<(attempt-1)) * (0.5 + rand.Float64())
		if pause(ctx, time.Duration(wait)) != nil {
			return err
		}
	}
}

func (a *api) send(ctx context.Context, method, path string, body []byte, out any) error {
	req, err := http.NewRequestWithContext(ctx, method, a.endpoint+path, bytes.NewReader(body))
	if err != nil {
		return err
	}
	req.Header.Set("Content-Type", apiJSON)
	hash := sha256.Sum256(body)
	if err := a.signer.SignHTTP(ctx, a.keys, req, hex.EncodeToString(hash[:]), apiService, a.region, time.Now()); err != nil {
		return fmt.Errorf("sign: %w", err)
	}
	resp, err := a.client.Do(req)
	if err != nil {
		return err
	}
	defer func() { _ = resp.Body.Close() }()
	answer, err := io.ReadAll(io.LimitReader(resp.Body, apiAnswerLimit))
	if err != nil {
		return fmt.Errorf("read the answer: %w", err)
	}
	if resp.StatusCode/100 != 2 {
		return refusalOf(resp, answer)
	}
	if out == nil {
		return nil
	}
	if err := json.Unmarshal(answer, out); err != nil {
		return fmt.Errorf("answer not understood: %w", err)
	}
	return nil
}

// refusalOf reads an error of AWS's REST-JSON protocol.
func refusalOf(resp *http.Response, body []byte) *apiError {
	e := &apiError{Status: resp.StatusCode}
	e.Code, _, _ = strings.Cut(resp.Header.Get("X-Amzn-Errortype"), ":")
	var said struct {
		Message string `json:"message"` // or "Message": encoding/json takes both
	}
	if json.Unmarshal(body, &said) == nil && said.Message != "" {
		e.Message = said.Message
	} else {
		e.Message = strings.TrimSpace(string(body[:min(len(body), apiErrorSnippet)]))
	}
	return e
}
