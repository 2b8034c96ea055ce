package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/weir-go/weir/internal/brokertest"
	"github.com/weir-go/weir/transport"
	"github.com/weir-go/weir/transport/jetstream"
	"github.com/weir-go/weir/transport/jetstream/broker"
)

// startBroker starts weir broker as a process, and waits until it says that it is ready.
func startBroker(t *testing.T, weir string, args ...string) (*exec.Cmd, brokerView) {
	t.Helper()
	cmd := exec.Command(weir, append([]string{"broker", "--json"}, args...)...)
	cmd.Env = append(os.Environ(), envBrokerPassword+"=") // --password-file counts
	cmd.Stderr = t.Output()
	out, err := cmd.StdoutPipe()
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { // its directory is removed next: it must have ended
		_ = cmd.Process.Kill()
		_ = cmd.Wait() // that it was killed, or has been waited for, is no news
	})
	var v brokerView
	line, err := bufio.NewReader(out).ReadString('\n')
	if err = errors.Join(err, json.Unmarshal([]byte(line), &v)); err != nil || v.URL == "" {
		t.Fatalf("weir broker %v said %q, %v, want that it is ready", args, line, err)
	}
	return cmd, v
}

// received says how a boundary's inlet opens over a broker, tried until it does or ctx is done.
func received(ctx context.Context, t *testing.T, c jetstream.Config) error {
	t.Helper()
	c.Log = slog.New(slog.DiscardHandler)
	w, err := jetstream.Open(c)
	if err != nil {
		return err
	}
	defer w.Close()
	for {
		if _, err = w.Receive(ctx, "kitchen"); err == nil || !errors.Is(err, transport.ErrUnavailable) || ctx.Err() != nil {
			return err
		}
		if strings.Contains(err.Error(), "authorization violation") {
			return err
		}
		if err := pause(ctx, 20*time.Millisecond); err != nil {
			return err
		}
	}
}

// The broker lets in who has the password, stops when it is told to, and has its data when it starts again.
func TestBroker(t *testing.T) {
	t.Parallel()
	weir := builtWeir(t)
	dir, secret := filepath.Join(t.TempDir(), "broker"), filepath.Join(t.TempDir(), "password")
	if err := os.WriteFile(secret, []byte("soup\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	args := []string{"--dir", dir, "--listen", "127.0.0.1:0", "--user", "floor", "--password-file", secret, "--monitor", "127.0.0.1:0"}
	for life := range 2 {
		cmd, v := startBroker(t, weir, args...)
		if !strings.HasPrefix(v.Monitor, "http://127.0.0.1:") || v.Dir != dir {
			t.Errorf("weir broker = %+v, want its monitoring's URL and %s", v, dir)
		}
		c := jetstream.Config{Servers: []string{v.URL}, User: "floor", Password: "soup", Monitor: v.Monitor, Log: slog.New(slog.DiscardHandler)}
		if err := received(ctx, t, c); err != nil {
			t.Errorf("Receive() with the password = %v, want nil", err)
		}
		wrong := c
		wrong.Password = "salad"
		if err := received(ctx, t, wrong); err == nil || !strings.Contains(err.Error(), "authorization violation") {
			t.Errorf("Receive() with another password = %v, want that it is refused", err)
		}
		if err := cmd.Process.Signal(syscall.SIGTERM); err != nil {
			t.Skipf("a process cannot be told to stop here: %v", err)
		}
		if err := cmd.Wait(); err != nil {
			t.Errorf("life %d: weir broker, told to stop: %v, want exit code 0", life, err)
		}
		if left, err := filepath.Glob(filepath.Join(dir, "jetstream", "*", "streams", "weir-kitchen")); err != nil || len(left) != 1 {
			t.Errorf("the broker's directory has %v, %v, want the kitchen's stream", left, err)
		}
	}
}

// Three brokers that meet over TLS keep each packet three times.
func TestBrokerCluster(t *testing.T) {
	t.Parallel()
	weir := builtWeir(t)
	_, cert, key := brokertest.Certificate(t)
	plan, err := broker.Plan(t.TempDir(), 3)
	if err != nil {
		t.Fatal(err)
	}
	var servers []string
	for _, p := range plan {
		_, v := startBroker(t, weir, "--dir", p.Dir, "--name", p.Name, "--listen", p.Listen, "--tls-cert", cert, "--tls-key", key, "--tls-ca", cert,
			"--cluster", p.Cluster.Listen, "--routes", strings.Join(p.Cluster.Peers, ","),
			"--cluster-cert", cert, "--cluster-key", key, "--cluster-ca", cert)
		servers = append(servers, v.URL)
	}
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	c := jetstream.Config{Servers: servers, CA: cert, Cert: cert, Key: key, Replicas: 3}
	if err := received(ctx, t, c); err != nil {
		t.Errorf("Receive() over a cluster = %v, want nil", err)
	}
}

// What others can reach is not opened to everybody, and flags that do not fit together are told.
func TestBrokerRefuses(t *testing.T) {
	_, cert, key := brokertest.Certificate(t)
	pair := []string{"--tls-cert", cert, "--tls-key", key}
	t.Setenv(envBrokerPassword, "soup")
	for _, c := range []struct {
		args []string
		want string
	}{
		{[]string{"--listen", "0.0.0.0:0"}, "--listen is 0.0.0.0:0, which others can reach: that needs --tls-cert"},
		{[]string{"--listen", "weir.example:0", "--user", "floor"}, "which others can reach"},
		{append([]string{"--listen", "0.0.0.0:0"}, pair...), "which others can reach"},
		{[]string{"--tls-cert", cert}, "--tls-cert and --tls-key go together"},
		{[]string{"--tls-ca", cert}, "--tls-ca with them"},
		{[]string{"--tls-cert", key, "--tls-key", key}, "--tls-cert: "},
		{append([]string{"--tls-ca", key}, pair...), "no certificate in " + key},
		{[]string{"--password-file", cert}, "--password-file goes with --user"},
		{[]string{"--user", "floor", "--password-file", "nowhere"}, "--password-file: open nowhere"},
		{[]string{"--max-store-mb", "0"}, "--max-store-mb is 0, want 1 or more"},
		{[]string{"--routes", "127.0.0.1:1"}, "--routes and --cluster-cert go with --cluster"},
		{[]string{"--cluster", "127.0.0.1:1", "--name", "a"}, "--cluster goes with --name, which tells the brokers apart, and --routes"},
		{[]string{"--cluster", "10.0.0.1:1", "--name", "a", "--routes", "10.0.0.1:1"}, "or anybody could join"},
	} {
		cmdline(t, exitUsage, "", append([]string{"broker", "--dir", t.TempDir()}, c.args...)...).complains(c.want)
	}
	t.Setenv(envBrokerPassword, "")
	cmdline(t, exitUsage, "", "broker", "--dir", t.TempDir(), "--user", "floor").complains("there is no password: give --password-file FILE, or set " + envBrokerPassword)
	cmdline(t, exitUsage, "", "broker", "--dir", t.TempDir(), "--listen", "4222").complains(`Listen is "4222", want host:port`)
}
