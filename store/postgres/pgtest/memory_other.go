//go:build !linux

package pgtest

// inMemory is a folder in memory with room for a server; "" if there is none.
func inMemory() string { return "" }

// recovery is how a server that was killed syncs what it finds when it is up again. Only Linux has another way.
const recovery = "fsync"
