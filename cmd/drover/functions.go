package main

import (
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/prometheus/client_golang/prometheus"

	"drover/internal/auth/policy"
	"drover/internal/webhook"
)

// functionSecretFile is the file of the data folder with the secret that the functions of the
// operator share with the server, as one line of text.
const functionSecretFile = "function-secret"

// functions is what calls the functions of the operator.
func (s *server) functions(metrics prometheus.Registerer) (*webhook.Caller, error) {
	secret, err := loadOrCreateSecret(filepath.Join(s.cfg.keys(), functionSecretFile))
	if err != nil {
		return nil, fmt.Errorf("secret of functions: %w", err)
	}
	caller, err := webhook.New(webhook.Config{Functions: s.cfg.Functions, Secret: secret, Metrics: metrics}) // functions go by real time
	if err != nil {
		return nil, fmt.Errorf("--function: %w", err)
	}
	return caller, nil
}

// loadOrCreateSecret returns the line in a file, and makes one of 64 characters if there is none.
func loadOrCreateSecret(path string) ([]byte, error) {
	text, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		var secret [32]byte
		rand.Read(secret[:]) // never fails: it ends the program instead
		text = []byte(hex.EncodeToString(secret[:]))
		return text, replaceFile(path, append(text, '\n'))
	}
	if err != nil {
		return nil, err
	}
	line := strings.TrimSpace(string(text))
	if line == "" {
		return nil, fmt.Errorf("%s is empty", path)
	}
	return []byte(line), nil
}

// checkPolicy says what is wrong with a policy that a custom authorizer returned.
func checkPolicy(document string) error {
	_, err := policy.Parse(document, policy.DeviceLimit)
	return err
}
