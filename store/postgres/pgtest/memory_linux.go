package pgtest

import "syscall"

// memoryLeast is what a test's server may need: its log, mostly.
const memoryLeast = 6 << 30

// inMemory is a folder in memory with room for a server; "" if there is none.
func inMemory() string {
	const folder = "/dev/shm"
	var room syscall.Statfs_t
	if err := syscall.Statfs(folder, &room); err != nil || room.Bavail*uint64(room.Bsize) < memoryLeast {
		return ""
	}
	return folder
}

// recovery is how a server that was killed syncs what it finds when it is up again: as the disk does it all at once, not file
// by file, of which a cluster has a thousand and a slow disk takes half a minute for.
const recovery = "syncfs"
