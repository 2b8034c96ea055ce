package jetstream

import (
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/url"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
)

// Config is a transport's configuration. Zero fields mean the documented default.
type Config struct {
	// Servers are the URLs of the NATS servers, "nats://127.0.0.1:4222" or "tls://…", without a password. Any
	// that answers is used; others of their cluster are found by themselves. Default: "nats://127.0.0.1:4222".
	// At most 32. Other hosts than loopback ones need TLS and a login, unless Insecure.
	Servers []string
	// InProcess connects to a server in this process (a *broker.Broker) instead of Servers.
	InProcess nats.InProcessConnProvider
	// Name is what the server's monitoring calls this process. Default "weir".
	Name string

	// Login; at most one way of: User and Password; Creds, the path of a credentials file; NKey, the path of a
	// seed file; or a client certificate in TLS.
	User, Password string
	Creds          string
	NKey           string
	// TLS files, each a path: the authority that the server's certificate must be of (default: the system's),
	// and the client's own certificate with its key. TLS 1.2 at least.
	CA, Cert, Key string
	// Insecure allows servers on other hosts without TLS or without a login.
	Insecure bool

	// Capacity is how many packets the inlet of a boundary that this process opens holds before senders are
	// told ErrFull. Default 100,000, 1 to 10,000,000.
	Capacity int64
	// CapacityBytes bounds them together. Default 256 MiB, 4 MiB to 1 TiB. The server reserves as much of its
	// storage for the boundary, whatever is in it: weir broker has room for 40 of such streams.
	CapacityBytes int64
	// EventsAge and EventsBytes bound what is kept of the events that are published for programs that know nothing
	// of weir; the oldest go first. Default 7 days, 1 min to 10 years, and 256 MiB, 4 MiB to 1 TiB, which
	// the server reserves too. They are those of the stream from the next connection on, whatever somebody has set there.
	EventsAge   time.Duration
	EventsBytes int64
	// Replicas is how many servers of a cluster keep each packet. Default 1, 1 to 5; 3 for a cluster.
	Replicas int
	// Redeliver is after what time a packet comes again that was handed out and neither acknowledged
	// nor held. Default 30 s, 100 ms to 1 h.
	Redeliver time.Duration
	// Timeout is how long a server may take to answer. Default 5 s, 100 ms to 1 min.
	Timeout time.Duration
	// Monitor is the URL of the server's monitoring, "http://127.0.0.1:8222". With it Doubts can tell whether
	// the server syncs its writes. Default: none.
	Monitor string

	// Log receives what a person may want to know. Default: slog.Default().
	Log *slog.Logger
	// Options are given to nats.go after ours, for what has no field here. Default: none.
	Options []nats.Option
}

func (c Config) withDefaults() (Config, error) {
	if len(c.Servers) == 0 {
		c.Servers = []string{nats.DefaultURL}
	}
	if c.Log == nil {
		c.Log = slog.Default()
	}
	c.Name = orDefault(c.Name, "weir")
	c.Capacity = orDefault(c.Capacity, 100_000)
	c.CapacityBytes = orDefault(c.CapacityBytes, 256<<20)
	c.EventsAge = orDefault(c.EventsAge, 7*24*time.Hour)
	c.EventsBytes = orDefault(c.EventsBytes, 256<<20)
	c.Replicas = orDefault(c.Replicas, 1)
	c.Redeliver = orDefault(c.Redeliver, 30*time.Second)
	c.Timeout = orDefault(c.Timeout, 5*time.Second)
	err := errors.Join(
		within("Capacity", c.Capacity, 1, 10_000_000),
		within("CapacityBytes", c.CapacityBytes, 4<<20, 1<<40),
		within("EventsAge", c.EventsAge, time.Minute, 10*365*24*time.Hour),
		within("EventsBytes", c.EventsBytes, 4<<20, 1<<40),
		within("Replicas", c.Replicas, 1, 5),
		within("Redeliver", c.Redeliver, 100*time.Millisecond, time.Hour),
		within("Timeout", c.Timeout, 100*time.Millisecond, time.Minute),
		within("Servers: how many", len(c.Servers), 1, 32),
		c.checkLogin(),
	)
	if c.InProcess == nil {
		for _, s := range c.Servers {
			err = errors.Join(err, c.checkServer(s))
		}
	}
	return c, err
}

func orDefault[T comparable](v, def T) T {
	var zero T
	if v == zero {
		return def
	}
	return v
}

func within[T int | int64 | time.Duration](name string, v, low, high T) error {
	if v < low || v > high {
		return fmt.Errorf("transport/jetstream: Config.%s is %v, want %v to %v", name, v, low, high)
	}
	return nil
}

func (c Config) checkLogin() error {
	var err error
	if (c.User == "") != (c.Password == "") {
		err = errors.New("transport/jetstream: Config.User and Password go together")
	}
	if (c.Cert == "") != (c.Key == "") {
		err = errors.Join(err, errors.New("transport/jetstream: Config.Cert and Key go together"))
	}
	ways := 0
	for _, set := range []bool{c.User != "", c.Creds != "", c.NKey != ""} {
		if set {
			ways++
		}
	}
	if ways > 1 {
		err = errors.Join(err, errors.New("transport/jetstream: Config has several of User, Creds and NKey, want one"))
	}
	return err
}

// checkServer refuses to send passwords and messages over a network in the clear.
func (c Config) checkServer(server string) error {
	u, err := url.Parse(server)
	if err != nil || u.Hostname() == "" || u.Scheme != "nats" && u.Scheme != "tls" {
		return fmt.Errorf("transport/jetstream: Config.Servers has %q, want nats://host:port or tls://host:port", redacted(server))
	}
	if u.User != nil {
		return fmt.Errorf("transport/jetstream: Config.Servers has %q with a user: use User and Password, which do not end up in logs", redacted(server))
	}
	ip := net.ParseIP(u.Hostname())
	if c.Insecure || u.Hostname() == "localhost" || ip != nil && ip.IsLoopback() {
		return nil
	}
	if u.Scheme != "tls" && c.CA == "" && c.Cert == "" {
		err = fmt.Errorf("transport/jetstream: Config.Servers has %s, another host: want tls://, or CA or Cert, or Insecure", server)
	}
	if c.User == "" && c.Creds == "" && c.NKey == "" && c.Cert == "" && len(c.Options) == 0 {
		err = errors.Join(err, fmt.Errorf("transport/jetstream: Config.Servers has %s, another host: want a login (User, Creds, NKey or Cert), or Insecure", server))
	}
	return err
}

// redacted is a URL without what may be a password.
func redacted(s string) string {
	if at := strings.LastIndexByte(s, '@'); at >= 0 {
		return "…" + s[at:]
	}
	return s
}

// options are what nats.go is told.
func (t *Transport) options() ([]nats.Option, error) {
	c := t.config
	o := []nats.Option{
		nats.Name(c.Name), nats.Timeout(c.Timeout),
		// For ever, whatever the server says: one that refuses the login may be told better.
		nats.RetryOnFailedConnect(true), nats.MaxReconnects(-1), nats.IgnoreAuthErrorAbort(), nats.CustomReconnectDelay(reconnectPause),
		// What is sent while the server is away fails, so that Send says so at once.
		nats.ReconnectBufSize(-1),
		nats.PingInterval(5 * time.Second), nats.MaxPingsOutstanding(2),
		nats.DisconnectErrHandler(func(_ *nats.Conn, err error) { t.lost(err) }),
		nats.ReconnectHandler(func(nc *nats.Conn) { t.found(nc) }), nats.ConnectHandler(t.found),
		nats.ReconnectErrHandler(func(_ *nats.Conn, err error) { t.unreached(err) }),
		nats.ErrorHandler(func(_ *nats.Conn, s *nats.Subscription, err error) {
			subject := ""
			if s != nil {
				subject = s.Subject
			}
			t.config.Log.Warn("trouble with the broker", "subject", subject, "error", err)
		}),
	}
	if c.InProcess != nil {
		o = append(o, nats.InProcessServer(c.InProcess))
	}
	if c.User != "" {
		o = append(o, nats.UserInfo(c.User, c.Password))
	}
	if c.Creds != "" {
		o = append(o, nats.UserCredentials(c.Creds))
	}
	if c.NKey != "" {
		key, err := nats.NkeyOptionFromSeed(c.NKey)
		if err != nil {
			return nil, fmt.Errorf("transport/jetstream: Config.NKey: %w", err)
		}
		o = append(o, key)
	}
	if c.CA != "" || c.Cert != "" {
		o = append(o, nats.Secure(&tls.Config{MinVersion: tls.VersionTLS12}))
	}
	if c.CA != "" {
		o = append(o, nats.RootCAs(c.CA))
	}
	if c.Cert != "" {
		o = append(o, nats.ClientCert(c.Cert, c.Key))
	}
	return append(o, c.Options...), nil
}

// reconnectPause grows from a tenth of a second to five, and is never the same for all processes, so
// that a server that comes back is not stormed.
func reconnectPause(attempts int) time.Duration {
	const first, most = 100 * time.Millisecond, 5 * time.Second
	pause := min(first<<min(attempts, 10), most)
	return pause/2 + rand.N(pause/2)
}
