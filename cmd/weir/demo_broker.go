package main

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/weir-go/weir/transport/jetstream/broker"
)

const (
	brokerFolder = "broker" // of their data
	clusterSize  = 3
)

// castBrokers has so many brokers start before the others: a cluster if there are several. What they keep
// and say is in dir. It gives the URLs that lead to them; close is called when all have ended.
func (s *stage) castBrokers(dir string, n int) (servers []string, close func() error, err error) {
	self, err := os.Executable()
	if err != nil {
		return nil, nil, err
	}
	plan, err := broker.Plan(filepath.Join(dir, brokerFolder), n)
	if err != nil {
		return nil, nil, err
	}
	said, err := os.OpenFile(filepath.Join(dir, "broker.log"), os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o600)
	if err != nil {
		return nil, nil, err
	}
	for _, p := range plan {
		args := []string{"broker", "--json", "--until-eof", "--dir", p.Dir, "--listen", p.Listen}
		name := "broker"
		if n > 1 {
			name = "broker " + p.Name
			args = append(args, "--name", p.Name, "--cluster", p.Cluster.Listen, "--routes", strings.Join(p.Cluster.Peers, ","))
		} else { // nobody else wants the address that a cluster's would meet at
			args = append(args, "--monitor", p.Cluster.Listen)
			s.monitor = "http://" + p.Cluster.Listen
		}
		servers = append(servers, "nats://"+p.Listen)
		s.brokers = append(s.brokers, &actor{name: name, role: "broker", dir: p.Dir, start: func(ctx context.Context) (*process, error) {
			return beginPatiently(ctx, program{name: name, self: self, args: args, err: said})
		}})
	}
	return servers, said.Close, nil
}

// beginPatiently is begin for what must have the address of its earlier life: while it was away, somebody else's
// connection may have been given that by the system, for a moment.
func beginPatiently(ctx context.Context, g program) (*process, error) {
	for begun := time.Now(); ; {
		p, _, err := begin(ctx, g)
		if err == nil || ctx.Err() != nil || time.Since(begun) > startMax {
			return p, err
		}
		if err := pause(ctx, restartPause); err != nil {
			return nil, err
		}
	}
}
