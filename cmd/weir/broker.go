package main

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"text/tabwriter"
	"time"

	"github.com/weir-go/weir/transport/jetstream/broker"
)

// brokerCmd is weir broker: the server of package broker, until it is told to stop.
type brokerCmd struct {
	Dir        string `default:"weir-broker" placeholder:"DIR" help:"Where the broker keeps its data, made if need be; one broker at a time may have it (default ${default})."`
	Listen     string `default:"127.0.0.1:4222" placeholder:"HOST:PORT" help:"Where programs connect (default ${default}). Port 0 takes a free one. What others can reach needs --tls-cert, and --user, --nkey or --tls-ca."`
	Name       string `placeholder:"NAME" help:"Tells the brokers of a cluster apart; there it is needed."`
	MaxStoreMB int64  `name:"max-store-mb" default:"10240" placeholder:"MB" help:"The most that it keeps on disk, 1 or more MB (default ${default})."`
	Monitor    string `placeholder:"HOST:PORT" help:"Where NATS' monitoring answers over HTTP, without a password: loopback only. Default: nowhere."`

	User         string   `placeholder:"NAME" help:"Who programs must say they are, with the password of --password-file or $$WEIR_BROKER_PASSWORD."`
	PasswordFile string   `placeholder:"FILE" help:"The first line of it is the password."`
	NKeys        []string `name:"nkey" placeholder:"KEY" help:"The public NKey of a program that may connect. May be given several times."`
	TLSCert      string   `name:"tls-cert" placeholder:"FILE" help:"The broker's certificate, in PEM, for programs that connect."`
	TLSKey       string   `name:"tls-key" placeholder:"FILE" help:"Its key."`
	TLSCA        string   `name:"tls-ca" placeholder:"FILE" help:"Programs must show a certificate of this authority."`

	Cluster     string   `placeholder:"HOST:PORT" help:"Makes it one of a cluster: where other brokers connect to this one."`
	ClusterName string   `default:"weir" placeholder:"NAME" help:"The same for all brokers of a cluster (default ${default})."`
	Routes      []string `placeholder:"HOST:PORT" help:"The --cluster addresses of all brokers of the cluster, comma-separated; its own may be among them."`
	ClusterCert string   `placeholder:"FILE" help:"The certificate with which it meets other brokers: of a cluster that others can reach."`
	ClusterKey  string   `placeholder:"FILE" help:"Its key."`
	ClusterCA   string   `placeholder:"FILE" help:"Other brokers must show a certificate of this authority."`

	UntilEOF bool `name:"until-eof" hidden:"" help:"Stop when the standard input ends."`
}

// envBrokerPassword is where the password is looked for: on a command line all can see it.
const envBrokerPassword = "WEIR_BROKER_PASSWORD"

// brokerView is what weir broker prints once it is ready.
type brokerView struct {
	URL     string `json:"url"`
	Monitor string `json:"monitor"` // empty: there is none
	Name    string `json:"name"`
	Dir     string `json:"dir"`
}

// Run runs the broker.
func (c *brokerCmd) Run(a *app) error {
	conf, err := c.config(slog.New(slog.NewTextHandler(a.err, nil)))
	if err == nil {
		err = conf.Check()
	}
	if err != nil {
		return usageError(err)
	}
	ctx, stop := context.WithCancel(a.ctx)
	defer stop()
	if c.UntilEOF {
		go func() {
			defer stop()
			_, _ = io.Copy(io.Discard, a.in)
		}()
	}
	b, err := broker.Start(ctx, conf)
	if err != nil {
		return err
	}
	defer b.Close()
	v := brokerView{URL: b.URL(), Monitor: b.MonitorURL(), Name: b.Name(), Dir: c.Dir}
	if err := a.print(v, func(w *tabwriter.Writer) { fmt.Fprintf(w, "The broker is ready: %s\n", v.URL) }); err != nil {
		return err
	}
	return c.watch(ctx, b)
}

// brokerLook is how often a broker is asked whether it works.
const brokerLook = time.Second

// watch waits until the broker is to stop, or does not work any more.
func (c *brokerCmd) watch(ctx context.Context, b *broker.Broker) error {
	tick := time.NewTicker(brokerLook)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
		if !b.Works() {
			return fmt.Errorf("the broker has given up its data directory %s, as on a full or failing disk; what it said stands above. Make room and start it again: what it has lost is sent again", c.Dir)
		}
	}
}

// config is the broker's configuration. What is wrong is told in terms of the flags.
func (c *brokerCmd) config(log *slog.Logger) (broker.Config, error) {
	conf := broker.Config{
		Dir: c.Dir, Listen: c.Listen, Name: c.Name, MaxStore: c.MaxStoreMB << 20, Monitor: c.Monitor,
		User: c.User, NKeys: c.NKeys, Log: log,
	}
	var err error
	if conf.Password, err = c.password(); err != nil {
		return conf, err
	}
	if c.MaxStoreMB < 1 || c.MaxStoreMB > 1<<40 {
		return conf, fmt.Errorf("--max-store-mb is %d, want 1 or more", c.MaxStoreMB)
	}
	if conf.TLS, err = serverTLS("--tls", c.TLSCert, c.TLSKey, c.TLSCA); err != nil {
		return conf, err
	}
	if reachable(c.Listen) && (conf.TLS == nil || c.User == "" && len(c.NKeys) == 0 && c.TLSCA == "") {
		return conf, fmt.Errorf("--listen is %s, which others can reach: that needs --tls-cert and --tls-key, and --user with a password, --nkey, or --tls-ca", c.Listen)
	}
	if c.Cluster == "" {
		if len(c.Routes) > 0 || c.ClusterCert != "" {
			return conf, errors.New("--routes and --cluster-cert go with --cluster, the address for other brokers")
		}
		return conf, nil
	}
	conf.Cluster = &broker.Cluster{Name: c.ClusterName, Listen: c.Cluster, Peers: c.Routes}
	if conf.Cluster.TLS, err = serverTLS("--cluster", c.ClusterCert, c.ClusterKey, c.ClusterCA); err != nil {
		return conf, err
	}
	switch {
	case c.Name == "" || len(c.Routes) == 0:
		return conf, errors.New("--cluster goes with --name, which tells the brokers apart, and --routes, the --cluster addresses of all")
	case reachable(c.Cluster) && (conf.Cluster.TLS == nil || c.ClusterCA == ""):
		return conf, fmt.Errorf("--cluster is %s, which others can reach: that needs --cluster-cert, --cluster-key and --cluster-ca, or anybody could join", c.Cluster)
	}
	return conf, nil
}

// password is that of --user, from where it is.
func (c *brokerCmd) password() (string, error) {
	password := os.Getenv(envBrokerPassword)
	if c.PasswordFile != "" {
		text, err := os.ReadFile(c.PasswordFile)
		if err != nil {
			return "", fmt.Errorf("--password-file: %w", err)
		}
		line, _, _ := bytes.Cut(text, []byte("\n"))
		password = string(bytes.TrimSuffix(line, []byte("\r")))
	}
	switch {
	case c.User != "" && password == "":
		return "", fmt.Errorf("--user is %s, and there is no password: give --password-file FILE, or set %s", c.User, envBrokerPassword)
	case c.User == "" && c.PasswordFile != "":
		return "", errors.New("--password-file goes with --user")
	case c.User == "":
		return "", nil // the environment may have it for other programs
	}
	return password, nil
}

// serverTLS reads the files of flags that begin with flag: a certificate and its key, and the authority that the
// other side's must be of. nil: there are none.
func serverTLS(flag, cert, key, authority string) (*tls.Config, error) {
	if (cert == "") != (key == "") || authority != "" && cert == "" {
		return nil, fmt.Errorf("%[1]s-cert and %[1]s-key go together, and %[1]s-ca with them", flag)
	}
	if cert == "" {
		return nil, nil
	}
	pair, err := tls.LoadX509KeyPair(cert, key)
	if err != nil {
		return nil, fmt.Errorf("%s-cert: %w", flag, err)
	}
	c := &tls.Config{Certificates: []tls.Certificate{pair}, MinVersion: tls.VersionTLS12}
	if authority == "" {
		return c, nil
	}
	text, err := os.ReadFile(authority)
	if err != nil {
		return nil, fmt.Errorf("%s-ca: %w", flag, err)
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(text) {
		return nil, fmt.Errorf("%s-ca: no certificate in %s, want PEM", flag, authority)
	}
	// The other side of a route is met as a server by some and as a client by others.
	c.ClientAuth, c.ClientCAs, c.RootCAs = tls.RequireAndVerifyClientCert, pool, pool
	return c, nil
}

// reachable says whether others than this machine can reach an address.
func reachable(hostport string) bool {
	host, _, err := net.SplitHostPort(hostport)
	if err != nil {
		return false // which is no address, and told so
	}
	ip := net.ParseIP(host)
	return host != "localhost" && (ip == nil || !ip.IsLoopback())
}
