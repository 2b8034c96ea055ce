package postgres

// partitions drops what it may, and gives the seq from which rows are to be deleted one by one.
func (p *pruner) partitions() (from int64, err error) { return 1, nil }
