package sqlite

// kind is this adapter's name.
const kind = "sqlite"
