package main

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"drover/internal/auth"
)

type envCmd struct {
	Data string `help:"Data folder of the server." default:"./drover-data" type:"path" placeholder:"DIR"`
}

func (c *envCmd) Run(s *streams) error {
	at, err := readEndpoints(c.Data)
	if err != nil {
		return err
	}
	key, err := auth.LoadKey(cmp.Or(at.Keys, c.Data))
	if err != nil {
		return err
	}
	region, err := readRegion(c.Data)
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(s.out, "export AWS_ACCESS_KEY_ID=%s\nexport AWS_SECRET_ACCESS_KEY=%s\nexport AWS_REGION=%s\nexport AWS_DEFAULT_REGION=%s\nexport AWS_ENDPOINT_URL=%s\n",
		quote(key.AccessKeyID), quote(key.SecretAccessKey), quote(region), quote(region), quote(at.api()))
	return err
}

// readRegion returns the region that the server of a data folder plays.
func readRegion(data string) (string, error) {
	path := filepath.Join(data, configFile)
	text, err := os.ReadFile(path)
	if err != nil {
		return "", err
	}
	for line := range strings.Lines(string(text)) {
		if name, value, ok := strings.Cut(line, "="); ok && strings.TrimSpace(name) == "region" {
			return strings.TrimSpace(value), nil
		}
	}
	return "", fmt.Errorf("%s: no region", path)
}

// readEndpoints finds the server that runs on a data folder.
func readEndpoints(data string) (endpoints, error) {
	var at endpoints
	text, err := os.ReadFile(filepath.Join(data, endpointsFile))
	if errors.Is(err, os.ErrNotExist) {
		return at, fmt.Errorf("no server runs on the data folder %s: start it with \"drover serve --data %s\"", data, data)
	}
	if err != nil {
		return at, err
	}
	if err := json.Unmarshal(text, &at); err != nil {
		return at, fmt.Errorf("%s: %w", filepath.Join(data, endpointsFile), err)
	}
	return at, nil
}

// quote makes text safe for a POSIX shell.
func quote(text string) string { return "'" + strings.ReplaceAll(text, "'", `'\''`) + "'" }

// cutURL splits SCHEME://HOST:PORT.
func cutURL(url string) (scheme, addr string, ok bool) { return strings.Cut(url, "://") }
