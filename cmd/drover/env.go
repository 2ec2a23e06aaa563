package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"drover/internal/auth"
)

type envCmd struct {
	Data   string `help:"Data folder of the server." default:"./drover-data" type:"path" placeholder:"DIR"`
	Region string `help:"AWS region that the server plays." default:"us-east-1"`
}

func (c *envCmd) Run(s *streams) error {
	at, err := readEndpoints(c.Data)
	if err != nil {
		return err
	}
	key, err := auth.LoadKey(c.Data)
	if err != nil {
		return err
	}
	url := at.HTTP
	if url == "" {
		url = at.HTTPS
	}
	_, err = fmt.Fprintf(s.out, "export AWS_ACCESS_KEY_ID=%s\nexport AWS_SECRET_ACCESS_KEY=%s\nexport AWS_REGION=%s\nexport AWS_DEFAULT_REGION=%s\nexport AWS_ENDPOINT_URL=%s\n",
		quote(key.AccessKeyID), quote(key.Secret), quote(c.Region), quote(c.Region), quote(url))
	return err
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
