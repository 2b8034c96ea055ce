package sqlite

import (
	"sync"

	"zombiezen.com/go/sqlite"
)

// lifetimes keeps connections from being opened while another is closed. The library
// keeps each connection's guard in a table of the process, by the connection's address, and
// clears it when SQLite has freed that already. A connection opened meanwhile may
// have got the same address: it would lose its guard, and panic at its next statement.
//
//house:lock zombiezen.com/go/sqlite's table of authorizers
var lifetimes sync.RWMutex

// openLibrary opens a connection: without SQLite's own wait for locks, and so in no time.
func openLibrary(path string, flags sqlite.OpenFlags) (*sqlite.Conn, error) {
	lifetimes.RLock()
	defer lifetimes.RUnlock()
	c, err := sqlite.OpenConn(path, flags)
	return c, advise(err)
}

// closeLibrary closes what openLibrary has opened.
func closeLibrary(c *sqlite.Conn) error {
	lifetimes.Lock()
	defer lifetimes.Unlock()
	return c.Close()
}
