package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"time"

	restate "github.com/restatedev/sdk-go"
	"github.com/restatedev/sdk-go/ingress"
	restateserver "github.com/restatedev/sdk-go/server"
)

// restateVersion is the server's, of the npm package.
const restateVersion = "1.7.12"

// restateBinary finds the server, or has npm get it into dir.
func restateBinary(ctx context.Context, dir string) (string, error) {
	if path, err := exec.LookPath("restate-server"); err == nil {
		return path, nil
	}
	npm, err := exec.LookPath("npm")
	if err != nil {
		return "", errors.New("there is no restate-server on PATH, and no npm to get it: npm install -g @restatedev/restate-server@" + restateVersion)
	}
	cmd := exec.CommandContext(ctx, npm, "install", "--prefix", dir, "--no-audit", "--no-fund", "--ignore-scripts", "@restatedev/restate-server@"+restateVersion)
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("npm install @restatedev/restate-server@%s: %w: %s", restateVersion, err, out)
	}
	found, err := filepath.Glob(filepath.Join(dir, "node_modules", "@restatedev", "restate-server-*", "bin", "restate-server"))
	if err != nil || len(found) == 0 {
		return "", fmt.Errorf("the npm package has no server for %s/%s: %w", runtime.GOOS, runtime.GOARCH, err)
	}
	return found[0], nil
}

// restatePeer is Restate's server, as it comes, and a service of three steps in this process.
func restatePeer(ctx context.Context, dir, against string) (*peer, func() error, error) {
	dir = filepath.Join(dir, "restate")
	if err := os.Mkdir(dir, 0o700); err != nil {
		return nil, nil, err
	}
	binary, err := restateBinary(ctx, dir)
	if err != nil {
		return nil, nil, err
	}
	r := &restateRig{dir: dir, binary: binary}
	if err := r.start(ctx); err != nil {
		return nil, nil, errors.Join(err, r.shutdown())
	}
	p := &peer{name: "restate", against: against, flow: func(context.Context) (flow, error) { return r, nil }}
	return p, r.shutdown, nil
}

// restateRig is the server with the service. It lasts from the first phase to the last: a start
// takes it some seconds.
type restateRig struct {
	dir, binary string
	cmd         *exec.Cmd
	client      *ingress.Client
}

// benchService is a Restate service; its methods are its handlers.
type benchService struct{}

// ThreeSteps does nothing three times, each time durably.
func (benchService) ThreeSteps(ctx restate.Context, in body) (int64, error) {
	sum := in.ID
	for _, name := range [...]string{"reserve", "charge", "ship"} {
		n, err := restate.Run(ctx, func(restate.RunContext) (int64, error) { return 1, nil }, restate.WithName(name))
		if err != nil {
			return 0, err
		}
		sum += n
	}
	return sum, nil
}

// freePorts are ports that nobody listens on now.
func freePorts(n int) ([]int, error) {
	var ports []int
	for range n {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			return nil, err
		}
		defer l.Close()
		ports = append(ports, l.Addr().(*net.TCPAddr).Port)
	}
	return ports, nil
}

func (r *restateRig) start(ctx context.Context) error {
	ports, err := freePorts(4)
	if err != nil {
		return err
	}
	at := func(i int) string { return fmt.Sprintf("127.0.0.1:%d", ports[i]) }
	log, err := os.Create(filepath.Join(r.dir, "log"))
	if err != nil {
		return err
	}
	defer log.Close()
	r.cmd = exec.CommandContext(ctx, r.binary, "--no-logo", "--base-dir", filepath.Join(r.dir, "data"))
	r.cmd.Dir = r.dir
	r.cmd.Env = append(os.Environ(), "RESTATE_LISTEN_MODE=tcp", "RESTATE_BIND_ADDRESS="+at(0), "RESTATE_INGRESS__BIND_ADDRESS="+at(1),
		"RESTATE_ADMIN__BIND_ADDRESS="+at(2), "RUST_LOG=warn", "DO_NOT_TRACK=1", "RESTATE_DISABLE_TELEMETRY=true")
	r.cmd.Stdout, r.cmd.Stderr = log, log
	r.cmd.Cancel = func() error { return r.cmd.Process.Signal(os.Interrupt) }
	if err := r.cmd.Start(); err != nil {
		return err
	}
	service := restateserver.NewRestate().WithLogger(slog.DiscardHandler, true).Bind(restate.Reflect(benchService{}))
	go func() { _ = service.Start(ctx, at(3)) }() // when it cannot, the registration fails
	if err := r.register(ctx, "http://"+at(2), "http://"+at(3)); err != nil {
		return err
	}
	transport := &http.Transport{MaxIdleConnsPerHost: 2 * callersMost, MaxIdleConns: 2 * callersMost}
	r.client = ingress.NewClient("http://"+at(1), ingress.WithHttpClient(&http.Client{Transport: transport}))
	return r.await(ctx)
}

// restateStart is how long the server may take to answer.
const restateStart = 60 * time.Second

// register tells the server where the service is, as soon as it answers.
func (r *restateRig) register(ctx context.Context, admin, service string) error {
	what, err := json.Marshal(map[string]any{"uri": service})
	if err != nil {
		return err
	}
	return r.until(ctx, func() error {
		req, err := http.NewRequestWithContext(ctx, http.MethodPost, admin+"/deployments", bytes.NewReader(what))
		if err != nil {
			return err
		}
		req.Header.Set("Content-Type", "application/json")
		res, err := http.DefaultClient.Do(req)
		if err != nil {
			return err
		}
		defer res.Body.Close()
		text, err := io.ReadAll(res.Body)
		if err == nil && res.StatusCode >= 300 {
			err = fmt.Errorf("register the service: %s: %s", res.Status, text)
		}
		return err
	})
}

// await waits until a run succeeds.
func (r *restateRig) await(ctx context.Context) error {
	return r.until(ctx, func() error { return r.run(ctx, firstID) })
}

func (r *restateRig) until(ctx context.Context, f func() error) error {
	for end := time.Now().Add(restateStart); ; time.Sleep(100 * time.Millisecond) {
		err := f()
		if err == nil || ctx.Err() != nil {
			return ctx.Err()
		}
		if time.Now().After(end) {
			log, _ := os.ReadFile(filepath.Join(r.dir, "log"))
			return fmt.Errorf("restate-server: %w: %s", err, log[max(0, len(log)-2000):])
		}
	}
}

func (r *restateRig) run(ctx context.Context, id int64) error {
	got, err := ingress.Service[body, int64](r.client, "benchService", "ThreeSteps").Request(ctx, newBody(id))
	return result(got, id, err)
}

// close leaves the server for the next phase.
func (r *restateRig) close() error { return nil }

// shutdown ends the server.
func (r *restateRig) shutdown() error { return endProcess(r.cmd) }
