package broker_test

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nkeys"

	"github.com/weir-go/weir/internal/brokertest"
	"github.com/weir-go/weir/transport"
	"github.com/weir-go/weir/transport/jetstream"
	"github.com/weir-go/weir/transport/jetstream/broker"
)

func quiet() *slog.Logger { return slog.New(slog.DiscardHandler) }

// patience is for what must come, on a machine that has much else to do. It only guards against hanging.
const patience = 4 * time.Minute

// publicKey is the public key of a user, whose seed nobody has.
const publicKey = "UDXU4RCSJNZOIQHZNWXHXORDPRTGNJAHAHFRGZNEEJCPQTT2M7NLCNF4"

func TestConfig(t *testing.T) {
	for want, c := range map[string]broker.Config{
		"Config.Dir is empty":                         {},
		"Config.MaxStore is 5":                        {Dir: "x", MaxStore: 5},
		"User and Password go together":               {Dir: "x", User: "floor"},
		`Listen is "4222", want host:port`:            {Dir: "x", Listen: "4222"},
		`Listen is ":4222", want host:port`:           {Dir: "x", Listen: ":4222"},
		"Config.Listen is 0.0.0.0:4222, which others": {Dir: "x", Listen: "0.0.0.0:4222", User: "floor", Password: "x"},
		"Config.Listen is 10.0.0.1:1, which others":   {Dir: "x", Listen: "10.0.0.1:1", TLS: &tls.Config{}},
		"Config.Monitor is 0.0.0.0:8222, want":        {Dir: "x", Monitor: "0.0.0.0:8222"},
		"Config.Name and Cluster.Name are needed":     {Dir: "x", Cluster: &broker.Cluster{Listen: "127.0.0.1:1", Peers: []string{"127.0.0.1:1"}}},
		"Cluster.Peers has 0 addresses":               {Dir: "x", Name: "a", Cluster: &broker.Cluster{Name: "c", Listen: "127.0.0.1:1"}},
		"Cluster.Listen is 10.0.0.1:1, which others":  {Dir: "x", Name: "a", Cluster: &broker.Cluster{Name: "c", Listen: "10.0.0.1:1", Peers: []string{"10.0.0.1:1"}}},
		"Cluster.Listen is 10.0.0.2:1, which others":  {Dir: "x", Name: "a", Cluster: &broker.Cluster{Name: "c", Listen: "10.0.0.2:1", Peers: []string{"10.0.0.2:1"}, TLS: &tls.Config{}}},
		"no public key of a user":                     {Dir: "x", NKeys: []string{"SUAOTHERKIND"}},
		"Config.Listen is 10.0.0.3:1, which others":   {Dir: "x", Listen: "10.0.0.3:1", NKeys: []string{publicKey}},
		`Cluster.Peers is "there", want host:port`:    {Dir: "x", Name: "a", Cluster: &broker.Cluster{Name: "c", Listen: "127.0.0.1:1", Peers: []string{"there"}}},
	} {
		c.Log = quiet()
		b, err := broker.Start(t.Context(), c)
		if err == nil {
			b.Close()
		}
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("Start(%+v) = %v, want %q", c, err, want)
		}
	}
	if _, err := broker.Plan(t.TempDir(), 10); err == nil {
		t.Error("Plan(10) = nil, want an error")
	}
}

// Two servers in the same files would each write what the other reads.
func TestOneBrokerHasAFolder(t *testing.T) {
	c := broker.Config{Dir: t.TempDir(), Log: quiet()}
	first, err := broker.Start(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	second, err := broker.Start(t.Context(), c)
	if err == nil {
		second.Close()
	}
	if err == nil || !strings.Contains(err.Error(), "another broker works in "+c.Dir) {
		t.Errorf("Start in a folder that is taken = %v, want it refused", err)
	}
	first.Close()
	third, err := broker.Start(t.Context(), c)
	if err != nil {
		t.Fatalf("Start in a folder that is free again = %v, want nil", err)
	}
	third.Close()
}

// The ports of a plan are of those that the system gives to nobody, or a broker that was killed might find another program
// on its own.
func TestPlanHasPortsOfItsOwn(t *testing.T) {
	const ephemeral = 32_768
	plan, err := broker.Plan(t.TempDir(), 9)
	if err != nil {
		t.Fatal(err)
	}
	seen := map[string]bool{}
	for _, c := range plan {
		for _, address := range []string{c.Listen, c.Cluster.Listen} {
			_, port, err := net.SplitHostPort(address)
			if n, bad := strconv.Atoi(port); err != nil || bad != nil || n < 1_024 || n >= ephemeral || seen[address] {
				t.Errorf("Plan() has the address %s, want each once, with a port from 1024 to %d", address, ephemeral-1)
			}
			seen[address] = true
		}
	}
}

// An address that is taken is an error, not a broker that nobody can reach.
func TestAddressTaken(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	b, err := broker.Start(t.Context(), broker.Config{Dir: t.TempDir(), Listen: l.Addr().String(), Log: quiet()})
	if err == nil {
		b.Close()
	}
	if err == nil || !strings.Contains(err.Error(), "address already in use") {
		t.Errorf("Start(a taken address) = %v, want that it is in use", err)
	}
}

// Over TLS, with a password or a client's certificate, packets go; without them nothing does, and the
// transport goes on trying.
func TestSecured(t *testing.T) {
	pair, cert, key := brokertest.Certificate(t)
	pool := x509.NewCertPool()
	leaf, err := x509.ParseCertificate(pair.Certificate[0])
	if err != nil {
		t.Fatal(err)
	}
	pool.AddCert(leaf)
	mutual := &tls.Config{Certificates: []tls.Certificate{pair}, ClientCAs: pool, ClientAuth: tls.RequireAndVerifyClientCert, MinVersion: tls.VersionTLS12}
	user, err := nkeys.CreateUser()
	if err != nil {
		t.Fatal(err)
	}
	public, err := user.PublicKey()
	if err != nil {
		t.Fatal(err)
	}
	secret, err := user.Seed()
	if err != nil {
		t.Fatal(err)
	}
	seed := filepath.Join(t.TempDir(), "floor.nk")
	if err := os.WriteFile(seed, secret, 0o600); err != nil {
		t.Fatal(err)
	}
	keys := []string{public, publicKey}
	plain := &tls.Config{Certificates: []tls.Certificate{pair}, MinVersion: tls.VersionTLS12}
	for name, c := range map[string]struct {
		server broker.Config
		client jetstream.Config
		says   string // why not
	}{
		"password":         {broker.Config{TLS: plain, User: "floor", Password: "x"}, jetstream.Config{CA: cert, User: "floor", Password: "x"}, ""},
		"certificate":      {broker.Config{TLS: mutual}, jetstream.Config{CA: cert, Cert: cert, Key: key}, ""},
		"key":              {broker.Config{TLS: plain, NKeys: keys}, jetstream.Config{CA: cert, NKey: seed}, ""},
		"key or password":  {broker.Config{TLS: plain, NKeys: keys, User: "floor", Password: "x"}, jetstream.Config{CA: cert, User: "floor", Password: "x"}, ""},
		"unknown key":      {broker.Config{TLS: plain, NKeys: keys[1:]}, jetstream.Config{CA: cert, NKey: seed}, "authorization violation"},
		"wrong password":   {broker.Config{TLS: plain, User: "floor", Password: "x"}, jetstream.Config{CA: cert, User: "floor", Password: "y"}, "authorization violation"},
		"no password":      {broker.Config{TLS: plain, User: "floor", Password: "x"}, jetstream.Config{CA: cert}, "authorization violation"},
		"no certificate":   {broker.Config{TLS: mutual}, jetstream.Config{CA: cert}, "tls"},
		"unknown to all":   {broker.Config{TLS: plain}, jetstream.Config{}, "certificate signed by unknown authority"},
		"password, no TLS": {broker.Config{User: "floor", Password: "x"}, jetstream.Config{User: "floor", Password: "x"}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			c.server.Dir, c.server.Listen, c.server.Log = t.TempDir(), "127.0.0.1:0", quiet()
			b, err := broker.Start(t.Context(), c.server)
			if err != nil {
				t.Fatalf("Start() = %v, want nil", err)
			}
			defer b.Close()
			c.client.Servers, c.client.Log = []string{b.URL()}, quiet()
			w, err := jetstream.Open(c.client)
			if err != nil {
				t.Fatalf("Open() = %v, want nil", err)
			}
			defer func() { _ = w.Close() }()
			ctx, cancel := context.WithTimeout(t.Context(), patience)
			defer cancel()
			says := func(err error) bool {
				return errors.Is(err, transport.ErrUnavailable) && strings.Contains(err.Error(), c.says)
			}
			tick := time.NewTicker(10 * time.Millisecond)
			defer tick.Stop()
			_, err = w.Receive(ctx, "kitchen")
			for err != nil && (c.says == "" || !says(err)) && ctx.Err() == nil {
				<-tick.C // it says why not after its second try; and a slow disk may take longer than it waits
				_, err = w.Receive(ctx, "kitchen")
			}
			if c.says == "" && err != nil || c.says != "" && !says(err) {
				t.Errorf("Receive() = %v, want %q", err, c.says)
			}
		})
	}
}

// The files of a broker are for its user alone.
func TestDirIsPrivate(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "broker")
	b, err := broker.Start(context.Background(), broker.Config{Dir: dir, Log: quiet()})
	if err != nil {
		t.Fatal(err)
	}
	defer b.Close()
	if b.URL() != "" || !b.Settled() {
		t.Errorf("URL() = %q, Settled() = %t, want none, true", b.URL(), b.Settled())
	}
	info, err := os.Stat(dir)
	if err != nil || info.Mode().Perm() != 0o700 {
		t.Errorf("the directory is %v, %v, want 0700", info.Mode(), err)
	}
}
