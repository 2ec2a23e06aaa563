package artifacts

import (
	"context"
	"sync"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
)

// keys are the credentials of a provider, for callers on whom others wait.
type keys struct {
	provider aws.CredentialsProvider // keeps them as long as they are good

	mu     sync.Mutex
	failed error     // the last time
	until  time.Time // when to try again
}

// Fetching credentials may take a moment, now and then. If it fails it is left alone for a
// while: every device that asks would wait for it, one after another.
const (
	keysTimeout = 2 * time.Second
	keysPause   = 15 * time.Second
)

func (k *keys) get() (aws.Credentials, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.failed != nil && time.Now().Before(k.until) {
		return aws.Credentials{}, k.failed
	}
	ctx, cancel := context.WithTimeout(context.Background(), keysTimeout)
	defer cancel()
	var found aws.Credentials
	found, k.failed = k.provider.Retrieve(ctx)
	k.until = time.Now().Add(keysPause)
	return found, k.failed
}
