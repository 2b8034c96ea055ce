package postgres

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/weir-go/weir/store/postgres/pgtest"
)

// line is what lies between a store and its server: it can be cut at a commit.
type line struct {
	t      testing.TB
	server string // its socket
	listen net.Listener
	dir    string

	cut  atomic.Int32 // how the next commit is cut; 0: not
	cuts atomic.Int32 // commits cut so far
	down func()       // called when a commit is cut, before the ends of the line notice
	deaf atomic.Bool  // requests to cancel a statement do not reach the server

	mu    sync.Mutex
	conns map[net.Conn]bool
	gone  sync.WaitGroup
}

// How a commit is cut.
const (
	cutBefore   = iota + 1 // the server never sees it
	cutAfter               // the server has committed, nobody is told
	cutMeantime            // the server has it, and may not have committed yet
)

// cancelRequest stands where other connections name their protocol.
const cancelRequest = 80877102

// newLine makes a line to the server that dsn names, which must listen on a socket.
func newLine(t testing.TB, dsn string) *line {
	t.Helper()
	c, err := pgx.ParseConfig(dsn)
	if err != nil {
		t.Fatal(err)
	}
	if !strings.HasPrefix(c.Host, "/") {
		t.Skipf("the server is at %s: the line is laid to a unix socket", c.Host)
	}
	socket := fmt.Sprintf(".s.PGSQL.%d", c.Port)
	dir, err := os.MkdirTemp(pgtest.SocketRoot(), "weir-line-") // a test's own is too long, with its name in it
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	l := &line{t: t, server: filepath.Join(c.Host, socket), dir: dir, conns: map[net.Conn]bool{}}
	if l.listen, err = net.Listen("unix", filepath.Join(l.dir, socket)); err != nil {
		t.Fatal(err)
	}
	l.gone.Go(l.accept)
	t.Cleanup(func() {
		if err := l.listen.Close(); err != nil {
			t.Error(err)
		}
		l.mu.Lock()
		for c := range l.conns {
			_ = c.Close() // for the second time, often
		}
		l.mu.Unlock()
		l.gone.Wait()
	})
	return l
}

// dsn is how the server is reached by the line.
func (l *line) dsn(direct string) string { return direct + " host=" + l.dir }

func (l *line) accept() {
	for {
		client, err := l.listen.Accept()
		if err != nil {
			return
		}
		server, err := net.Dial("unix", l.server)
		if err != nil {
			_ = client.Close() // as a server that is down
			continue
		}
		l.mu.Lock()
		l.conns[client], l.conns[server] = true, true
		l.mu.Unlock()
		c := &call{line: l, client: client, server: server, commits: map[string]bool{}}
		l.gone.Go(c.asks)
		l.gone.Go(c.answers)
	}
}

// call is one connection.
type call struct {
	line           *line
	client, server net.Conn
	commits        map[string]bool // prepared statements that commit
	mute           atomic.Bool     // what the server says is not passed on
}

func (c *call) hangUp() {
	_ = c.client.Close() // whoever is first
	_ = c.server.Close()
}

// asks passes on what the client says.
func (c *call) asks() {
	defer c.hangUp()
	first := make([]byte, 4) // the startup message has no type
	if _, err := io.ReadFull(c.client, first); err != nil {
		return
	}
	rest := make([]byte, binary.BigEndian.Uint32(first)-4)
	if _, err := io.ReadFull(c.client, rest); err != nil {
		return
	}
	if c.line.deaf.Load() && len(rest) >= 4 && binary.BigEndian.Uint32(rest) == cancelRequest {
		return
	}
	if _, err := c.server.Write(append(first, rest...)); err != nil {
		return
	}
	for {
		kind, message, err := readMessage(c.client)
		if err != nil {
			return
		}
		how := int32(0)
		if c.isCommit(kind, message) {
			how = c.line.cut.Swap(0)
		}
		if how == cutBefore {
			c.line.isCut()
			return
		}
		if how != 0 {
			c.mute.Store(true)
		}
		if _, err := c.server.Write(message); err != nil {
			return
		}
		if how == cutMeantime {
			c.line.isCut()
			return
		}
	}
}

func (l *line) isCut() {
	l.cuts.Add(1)
	if l.down != nil {
		l.down()
	}
}

// answers passes on what the server says.
func (c *call) answers() {
	defer c.hangUp()
	for {
		kind, message, err := readMessage(c.server)
		if err != nil {
			return
		}
		if !c.mute.Load() {
			if _, err := c.client.Write(message); err != nil {
				return
			}
			continue
		}
		if kind == 'Z' && message[5] == 'I' { // no transaction is open: it has committed
			c.line.isCut()
			return
		}
	}
}

// readMessage reads a message with its head: a type, and a length that counts itself.
func readMessage(r io.Reader) (kind byte, message []byte, err error) {
	head := make([]byte, 5)
	if _, err := io.ReadFull(r, head); err != nil {
		return 0, nil, err
	}
	message = make([]byte, 1+binary.BigEndian.Uint32(head[1:]))
	copy(message, head)
	_, err = io.ReadFull(r, message[5:])
	return head[0], message, err
}

// isCommit reports whether a client's message has a commit executed.
func (c *call) isCommit(kind byte, message []byte) bool {
	texts := bytes.SplitN(message[5:], []byte{0}, 3)
	switch {
	case kind == 'P' && string(texts[1]) == sqlCommit:
		c.commits[string(texts[0])] = true
	case kind == 'Q' && string(texts[0]) == sqlCommit:
		return true
	case kind == 'B':
		return c.commits[string(texts[1])]
	}
	return false
}
