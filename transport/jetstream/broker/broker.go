// Package broker runs a NATS server with JetStream inside this process, for
// development, for one machine, and for tests. It syncs each write before it says
// that it has it (SyncAlways), which a server with the default configuration does
// every two minutes only.
//
// For more than one machine run NATS servers of your own, with "sync_interval: always",
// or one Broker on each of three machines: see [Cluster].
package broker

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nkeys"

	"github.com/weir-go/weir/internal/address"
)

// Config is a broker's configuration. Zero fields mean the documented default.
type Config struct {
	// Dir is where the broker keeps its data; it is made if need be, for this user alone. Required. One
	// broker at a time may have it.
	Dir string
	// Listen is the address for programs to connect to, host:port; port 0 chooses a free one. Default:
	// none, only this process connects (see [Broker.InProcessConn]). Another host than a loopback one
	// needs TLS, and User and Password, or NKeys, or client certificates that TLS requires and verifies.
	Listen string
	// Name tells brokers of a cluster apart, there it is required. Default "weir".
	Name string
	// MaxStore bounds the bytes on disk. Default 10 GiB, 1 MiB or more.
	MaxStore int64
	// User and Password are what programs must say. Default: none needed.
	User, Password string
	// NKeys are the public keys ("U…") of programs that may connect, beside User: each proves that it has the seed.
	// At most 1,000. Default: none.
	NKeys []string
	// TLS is for programs that connect. Default: none.
	TLS *tls.Config
	// Monitor is the address for NATS' monitoring over HTTP, which has no password: loopback only.
	// Default: none.
	Monitor string
	// Cluster makes this broker one of several. Default: it is alone.
	Cluster *Cluster
	// Log receives what the server says. Default: slog.Default().
	Log *slog.Logger
}

// Cluster is what the brokers of one cluster share. Three brokers go on when one is away.
type Cluster struct {
	// Name is the cluster's, the same for all. Required.
	Name string
	// Listen is where other brokers connect to this one, host:port. Required. Another host than a
	// loopback one needs TLS that requires and verifies client certificates: whoever connects here may do all.
	Listen string
	// Peers are the Listen addresses of all of them. Required.
	Peers []string
	// TLS is for connections between brokers. Default: none.
	TLS *tls.Config
}

const (
	// maxPayload has room for a packet as big as package transport allows, with its headers.
	maxPayload = 2 << 20
	ready      = 30 * time.Second
	maxPeers   = 9
	maxNKeys   = 1_000
)

// Broker is a server that runs.
type Broker struct {
	server *server.Server
	voice  *voice
	lock   *os.File // of the folder
}

// Check is what is wrong with the configuration: all of it, each with its value and bound. Start checks, too.
func (c Config) Check() error {
	_, err := c.options()
	return err
}

// Start starts a broker and waits until it takes connections, or ctx is done. A member of a cluster
// works once most of its peers run; Start does not wait for that.
func Start(ctx context.Context, c Config) (*Broker, error) {
	o, err := c.options()
	if err != nil {
		return nil, err
	}
	if err := os.MkdirAll(c.Dir, 0o700); err != nil {
		return nil, fmt.Errorf("transport/jetstream/broker: %w", err)
	}
	lock, err := take(c.Dir)
	if err != nil {
		return nil, fmt.Errorf("transport/jetstream/broker: %w", err)
	}
	s, err := server.NewServer(o)
	if err != nil {
		return nil, fmt.Errorf("transport/jetstream/broker: %w", errors.Join(err, release(lock)))
	}
	log := c.Log
	if log == nil {
		log = slog.Default()
	}
	v := &voice{log: log.With("broker", o.ServerName), fatal: make(chan string, 1)}
	s.SetLoggerV2(v, false, false, false)
	b := &Broker{server: s, voice: v, lock: lock}
	s.Start()
	if err := b.ready(ctx, v.fatal); err != nil {
		b.Close()
		return nil, err
	}
	return b, nil
}

// ready waits until the server takes connections and has JetStream.
func (b *Broker) ready(ctx context.Context, fatal <-chan string) error {
	ctx, cancel := context.WithTimeout(ctx, ready)
	defer cancel()
	for !b.server.ReadyForConnections(10 * time.Millisecond) {
		select {
		case why := <-fatal:
			return fmt.Errorf("transport/jetstream/broker: the server does not start: %s", why)
		case <-ctx.Done():
			return fmt.Errorf("transport/jetstream/broker: not ready: %w", ctx.Err())
		default:
		}
	}
	select {
	case why := <-fatal:
		return fmt.Errorf("transport/jetstream/broker: the server does not start: %s", why)
	default:
	}
	if !b.server.JetStreamEnabled() {
		return errors.New("transport/jetstream/broker: JetStream did not start: see the server's log")
	}
	return nil
}

// options are the server's.
func (c Config) options() (*server.Options, error) {
	if c.Name == "" && c.Cluster == nil {
		c.Name = "weir"
	}
	if c.MaxStore == 0 {
		c.MaxStore = 10 << 30
	}
	o := &server.Options{
		ServerName: c.Name, DontListen: c.Listen == "", NoSigs: true, NoLog: true,
		JetStream: true, StoreDir: c.Dir, JetStreamMaxStore: c.MaxStore, JetStreamMaxMemory: 64 << 20,
		// What the broker says that it has must be there after a power cut.
		SyncAlways: true,
		MaxPayload: maxPayload, TLSConfig: c.TLS, TLS: c.TLS != nil, TLSTimeout: 5,
	}
	err := c.logins(o)
	if c.Dir == "" {
		err = errors.Join(err, errors.New("transport/jetstream/broker: Config.Dir is empty, want where to keep the data"))
	}
	if c.MaxStore < 1<<20 {
		err = errors.Join(err, fmt.Errorf("transport/jetstream/broker: Config.MaxStore is %d, want 1048576 or more", c.MaxStore))
	}
	if c.Listen != "" {
		var local bool
		var bad error
		o.Host, o.Port, local, bad = place("Listen", c.Listen)
		err = errors.Join(err, bad)
		if bad == nil && !local && !c.guarded() {
			err = errors.Join(err, fmt.Errorf("transport/jetstream/broker: Config.Listen is %s, which others can reach: that needs TLS, and User and Password, or NKeys, or client certificates", c.Listen))
		}
	}
	if c.Monitor != "" {
		host, port, local, bad := place("Monitor", c.Monitor)
		o.HTTPHost, o.HTTPPort = host, port
		err = errors.Join(err, bad)
		if bad == nil && !local {
			err = errors.Join(err, fmt.Errorf("transport/jetstream/broker: Config.Monitor is %s, want a loopback address: it asks for no password", c.Monitor))
		}
	}
	return o, errors.Join(err, c.join(o))
}

// logins are who may connect.
func (c Config) logins(o *server.Options) error {
	var err error
	if (c.User == "") != (c.Password == "") {
		err = errors.New("transport/jetstream/broker: Config.User and Password go together")
	}
	if len(c.NKeys) == 0 {
		o.Username, o.Password = c.User, c.Password
		return err
	}
	if len(c.NKeys) > maxNKeys {
		return errors.Join(err, fmt.Errorf("transport/jetstream/broker: Config.NKeys has %d keys, want at most %d", len(c.NKeys), maxNKeys))
	}
	for _, key := range c.NKeys {
		if !nkeys.IsValidPublicUserKey(key) {
			err = errors.Join(err, fmt.Errorf("transport/jetstream/broker: Config.NKeys has one of %d characters that is no public key of a user: want U and 55 more letters and digits", len(key)))
		}
		o.Nkeys = append(o.Nkeys, &server.NkeyUser{Nkey: key})
	}
	if c.User != "" {
		o.Users = []*server.User{{Username: c.User, Password: c.Password}}
	}
	return err
}

// guarded says whether only who is allowed to can connect, and nobody can listen in.
func (c Config) guarded() bool {
	return c.TLS != nil && (c.User != "" || len(c.NKeys) > 0 || c.TLS.ClientAuth == tls.RequireAndVerifyClientCert)
}

// join makes the server one of a cluster.
func (c Config) join(o *server.Options) error {
	k := c.Cluster
	if k == nil {
		return nil
	}
	var err error
	if c.Name == "" || k.Name == "" {
		err = errors.New("transport/jetstream/broker: Config.Name and Cluster.Name are needed in a cluster")
	}
	if len(k.Peers) == 0 || len(k.Peers) > maxPeers {
		err = errors.Join(err, fmt.Errorf("transport/jetstream/broker: Cluster.Peers has %d addresses, want 1 to %d", len(k.Peers), maxPeers))
	}
	host, port, local, bad := place("Cluster.Listen", k.Listen)
	err = errors.Join(err, bad)
	if bad == nil && !local && (k.TLS == nil || k.TLS.ClientAuth != tls.RequireAndVerifyClientCert) {
		err = errors.Join(err, fmt.Errorf("transport/jetstream/broker: Cluster.Listen is %s, which others can reach: that needs TLS with client certificates, or anybody could join", k.Listen))
	}
	o.Cluster = server.ClusterOpts{Name: k.Name, Host: host, Port: port, TLSConfig: k.TLS, TLSTimeout: 5}
	for _, p := range k.Peers {
		if _, _, _, bad := place("Cluster.Peers", p); bad != nil {
			err = errors.Join(err, bad)
			continue
		}
		o.Routes = append(o.Routes, server.RoutesFromStr("nats://"+p)...)
	}
	return err
}

// place takes a host:port apart and says whether only this machine can reach it.
func place(field, hostport string) (host string, port int, local bool, err error) {
	host, text, err := net.SplitHostPort(hostport)
	if err == nil {
		port, err = strconv.Atoi(text)
	}
	if err != nil || port < 0 || port > 65535 || host == "" {
		return "", 0, false, fmt.Errorf("transport/jetstream/broker: %s is %q, want host:port", field, hostport)
	}
	if port == 0 {
		port = server.RANDOM_PORT
	}
	ip := net.ParseIP(host)
	return host, port, host == "localhost" || ip != nil && ip.IsLoopback(), nil
}

// URL is where programs connect to; empty where there is no Listen. It has no password.
func (b *Broker) URL() string {
	if b.server.Addr() == nil {
		return ""
	}
	return b.server.ClientURL()
}

// MonitorURL is where NATS' monitoring answers; empty where there is none.
func (b *Broker) MonitorURL() string {
	if a := b.server.MonitorAddr(); a != nil {
		return "http://" + a.String()
	}
	return ""
}

// InProcessConn connects this process without a port. It makes a Broker what package jetstream
// takes for Config.InProcess.
func (b *Broker) InProcessConn() (net.Conn, error) { return b.server.InProcessConn() }

// Name tells the broker apart in its cluster.
func (b *Broker) Name() string { return b.server.Name() }

// Works says whether the broker keeps what is sent to it. A server whose disk is full or fails goes on without
// the stream that it could not write, or without JetStream; then only another start helps.
func (b *Broker) Works() bool {
	return b.server.Running() && b.server.JetStreamEnabled() && !b.voice.broken.Load()
}

// Leads says whether the broker leads its cluster.
func (b *Broker) Leads() bool { return b.server.JetStreamIsLeader() }

// Settled says whether the broker's cluster has a leader that it follows; true outside of one.
func (b *Broker) Settled() bool {
	return b.server.Healthz(&server.HealthzOptions{JSEnabledOnly: false, JSMetaOnly: true}).Status == "ok"
}

// Close stops the broker and waits until its files are closed, but for a consumer's state that it is just writing: after 0.1 s
// the server waits for that no longer, so on a slow disk a file may come later. Whoever removes Dir then tries again.
func (b *Broker) Close() {
	b.server.Shutdown()
	b.server.WaitForShutdown()
	_ = release(b.lock) // the last of it: the next one may have the folder
}

// Plan makes configurations for a cluster of n brokers on this machine, each with a folder below dir,
// to be started in this process or in one each. The ports are free when it returns, and such as the system
// gives to nobody who asks for any: so a broker that was killed finds its own free when it starts again.
func Plan(dir string, n int) ([]Config, error) {
	if n < 1 || n > maxPeers {
		return nil, fmt.Errorf("transport/jetstream/broker: a cluster of %d brokers, want 1 to %d", n, maxPeers)
	}
	free, err := address.Free(2 * n)
	if err != nil {
		return nil, fmt.Errorf("transport/jetstream/broker: %w", err)
	}
	plan := make([]Config, n)
	for i := range plan {
		name := fmt.Sprintf("weir-%d", i+1)
		plan[i] = Config{
			Dir: filepath.Join(dir, name), Name: name, Listen: free[i],
			Cluster: &Cluster{Name: "weir", Listen: free[n+i], Peers: free[n:]},
		}
	}
	return plan, nil
}
