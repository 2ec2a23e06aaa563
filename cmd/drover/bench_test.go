package main

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// TestBench: every part measures something, with as little of everything as there can be.
func TestBench(t *testing.T) {
	if testing.Short() {
		t.Skip("-short: starts a dozen servers")
	}
	dir := t.TempDir()
	program, figures := filepath.Join(dir, "drover"), filepath.Join(dir, "bench.json")
	if out, err := exec.Command("go", "build", "-o", program, ".").CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	cmd := exec.CommandContext(t.Context(), program, "bench", "--connections", "8", "--for", "500ms", "--things", "50", "--executions", "100", "--json", figures)
	cmd.Env = append(os.Environ(), "TMPDIR="+dir)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	text, err := os.ReadFile(figures)
	if err != nil {
		t.Fatal(err)
	}
	var got struct{ Figures []benchRow }
	if err := json.Unmarshal(text, &got); err != nil {
		t.Fatal(err)
	}
	seen := map[string]int{}
	for _, r := range got.Figures {
		seen[r.Part]++
		if r.Value <= 0 && !strings.Contains(r.What, "processor time") && !strings.Contains(r.Unit, "% of a core") && r.Part != "memory" {
			t.Errorf("%s: %s is %v %s", r.Part, r.What, r.Value, r.Unit)
		}
	}
	for _, part := range []string{"exchange", "rollout", "notify", "lists", "start", "memory", "api", "console"} {
		if seen[part] == 0 {
			t.Errorf("nothing measured of %s", part)
		}
	}
	if left, _ := filepath.Glob(filepath.Join(dir, "drover-bench-*")); len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
}
