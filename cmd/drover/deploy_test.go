package main

import (
	"bytes"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/alecthomas/kong"
	"github.com/goccy/go-yaml"
)

// What is in deploy has to fit what the server understands.

// deployed is one way to run a server.
type deployed struct {
	env   map[string]string
	ports []string      // what is led to it, by number
	grace time.Duration // from the signal until it is killed
}

// TestDeploy: the server takes the settings of everything in deploy, listens where it is looked for, and
// has the time to stop.
func TestDeploy(t *testing.T) {
	image := dockerfile(t)
	for name, d := range map[string]deployed{"compose": compose(t), "kubernetes": kubernetes(t), "systemd": systemd(t)} {
		t.Run(name, func(t *testing.T) {
			if name != "systemd" {
				for k, v := range image.env {
					d.env[k] = v
				}
			}
			cfg := configured(t, d.env)
			var open []string
			for _, addr := range []string{cfg.HTTPS, cfg.MQTTS, cfg.DeviceHTTPS, cfg.Cluster.Listen} {
				if addr != "" {
					open = append(open, addr[strings.LastIndexByte(addr, ':')+1:])
				}
			}
			for _, port := range append(d.ports, image.ports...) {
				if !slices.Contains(open, port) {
					t.Errorf("nothing listens on port %s, but on %v", port, open)
				}
			}
			if least := cfg.ShutdownDelay + stopDeadline; d.grace < least {
				t.Errorf("the server is killed after %s; it may need %s", d.grace, least)
			}
			for _, peer := range cfg.Cluster.Peers {
				if !strings.HasSuffix(peer, cfg.Cluster.Listen) {
					t.Errorf("no node listens at %s", peer)
				}
			}
		})
	}
}

// configured is what the server makes of an environment.
func configured(t *testing.T, env map[string]string) *serveConfig {
	t.Helper()
	for k, v := range env {
		t.Setenv(k, v)
	}
	var c cli
	parser, err := kong.New(&c, kong.DefaultEnvars("DROVER"), kong.Configuration(loadConfig), kong.Bind(&streams{}))
	if err != nil {
		t.Fatal(err)
	}
	var known []string
	for _, node := range parser.Model.Leaves(true) {
		for _, flag := range node.Flags {
			known = append(known, flag.Envs...)
		}
	}
	for k := range env {
		if strings.HasPrefix(k, "DROVER_") && !slices.Contains(known, k) {
			t.Errorf("%s is no flag", k)
		}
	}
	if _, err := parser.Parse([]string{"serve"}); err != nil {
		t.Fatal(err)
	}
	if err := c.Serve.check(); err != nil {
		t.Error(err)
	}
	return &c.Serve.serveConfig
}

// read reads a file of deploy.
func read(t *testing.T, path ...string) []byte {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(append([]string{"..", "..", "deploy"}, path...)...))
	if err != nil {
		t.Fatal(err)
	}
	return text
}

// decode reads YAML.
func decode(t *testing.T, text []byte, into any) {
	t.Helper()
	if err := yaml.Unmarshal(text, into); err != nil {
		t.Fatal(err)
	}
}

func dockerfile(t *testing.T) deployed {
	text := string(read(t, "docker", "Dockerfile"))
	d := deployed{env: make(map[string]string)}
	for _, m := range regexp.MustCompile(`(DROVER_[A-Z_]+)=(\S+)`).FindAllStringSubmatch(text, -1) {
		d.env[m[1]] = m[2]
	}
	d.ports = strings.Fields(regexp.MustCompile(`(?m)^EXPOSE (.*)`).FindStringSubmatch(text)[1])
	return d
}

func compose(t *testing.T) deployed {
	var file struct {
		Services map[string]struct {
			Environment map[string]string
			Ports       []string
			Grace       string `yaml:"stop_grace_period"`
		}
	}
	decode(t, read(t, "compose", "compose.yaml"), &file)
	node := file.Services["node1"]
	d := deployed{env: node.Environment, grace: duration(t, node.Grace)}
	for _, name := range []string{"node1", "node2"} {
		for _, port := range file.Services[name].Ports {
			d.ports = append(d.ports, port[strings.LastIndexByte(port, ':')+1:])
		}
	}
	return d
}

func kubernetes(t *testing.T) deployed {
	type probe struct{ HTTPGet struct{ Port, Scheme string } }
	var set struct {
		Spec struct {
			Template struct {
				Spec struct {
					Grace      int `yaml:"terminationGracePeriodSeconds"`
					Containers []struct {
						Env   []struct{ Name, Value string }
						Ports []struct {
							Name string
							Port string `yaml:"containerPort"`
						}
						Startup   probe `yaml:"startupProbe"`
						Liveness  probe `yaml:"livenessProbe"`
						Readiness probe `yaml:"readinessProbe"`
					}
				}
			}
		}
	}
	decode(t, read(t, "kubernetes", "statefulset.yaml"), &set)
	pod := set.Spec.Template.Spec
	c := pod.Containers[0]
	d := deployed{env: make(map[string]string), grace: time.Duration(pod.Grace) * time.Second}
	for _, e := range c.Env {
		d.env[e.Name] = e.Value
	}
	d.env["DROVER_STORE"] = "postgres://of/the-secret"
	named := []string{}
	for _, p := range c.Ports {
		named = append(named, p.Name)
		d.ports = append(d.ports, p.Port)
	}
	for _, p := range bytes.Split(read(t, "kubernetes", "services.yaml"), []byte("\n---\n")) {
		var service struct {
			Spec struct {
				Ports []struct{ Name, Port, TargetPort string }
			}
		}
		decode(t, p, &service)
		for _, port := range service.Spec.Ports {
			if port.TargetPort != "" && !slices.Contains(named, port.TargetPort) {
				t.Errorf("a service leads to port %q; the container has %v", port.TargetPort, named)
			}
		}
	}
	return d
}

func systemd(t *testing.T) deployed {
	unit := string(read(t, "systemd", "drover.service"))
	return deployed{
		env: map[string]string{
			"DROVER_CONFIG": filepath.Join("..", "..", "deploy", "systemd", "drover.yaml"),
			"DROVER_DATA":   regexp.MustCompile(`Environment=DROVER_DATA=(\S+)`).FindStringSubmatch(unit)[1],
		},
		grace: duration(t, regexp.MustCompile(`TimeoutStopSec=(\S+)`).FindStringSubmatch(unit)[1]+"s"),
	}
}

func duration(t *testing.T, text string) time.Duration {
	t.Helper()
	d, err := time.ParseDuration(text)
	if err != nil {
		t.Fatal(err)
	}
	return d
}
