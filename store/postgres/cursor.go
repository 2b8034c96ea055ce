package postgres

import (
	"fmt"
	"slices"

	"github.com/weir-go/weir/store"
	"github.com/weir-go/weir/store/internal/batchrow"
)

// A queue's cursor is in its newest batch. For each group of lanes it is a position, high,
// and a snapshot, seen, with the invariant:
//
//	everything up to high that is visible in seen has been claimed.
//
// So the next claim takes what is up to high and not visible in seen, but visible now
// (late), and what is above high (fresh), in one statement, and its own snapshot becomes
// the new seen. That no claim overlooks, or claims twice, what commits out of turn, needs
// nobody to wait: a transaction that stays open only has its own messages come late.
//
// If more is late than fits, the claim takes the lowest, and nothing fresh of those lanes.
// seen stays, the claim's snapshot is kept as target, and upto is the position reached. The
// next ones go on with what is not visible in seen, visible in target, and above upto, until
// nothing is left; then target becomes seen.
//
// What came since can be as much as there is, after a pause, and nearly all of it is fresh. So who is late is looked for
// below a number of transactions, beyond. Each that sends has its number before it draws a position, and high was there to be seen when
// the claim looked: so who has drawn one up to high has a lower number than the claim, which is given its own after that. What a
// commit claims with the send draws after it has a number; there the first that settles something of the batch tells its own, for it began later.
//
// All lanes that a process may claim are claimed together, so their groups become one as
// soon as they are equally far.
type cursor struct {
	batch  int64 // the number of the newest batch
	high   int64 // the highest of the groups'
	groups []group
	beyond string // who has this number or a higher one is not late; unbounded if that is not known
}

// unbounded is above all numbers of transactions.
const unbounded = "18446744073709551615"

// group is lanes that are equally far.
type group struct {
	mask   int64
	high   int64
	seen   string // a pg_snapshot as text
	target string // "": none
	upto   int64
}

const sqlCursor = `select no, high, masks, highs, seens::text[], array(select coalesce(x::text, '') from unnest(targets) as u(x)), uptos,
		coalesce(beyond::text, '` + unbounded + `')
	from weir.batches where queue = $1 order by no desc limit 1`

// askCursor queues the reading of a queue's cursor.
func askCursor(t *tx, queue int64, into *cursor) {
	t.ask(sqlCursor, func(read scan) error {
		var masks, highs, uptos []int64
		var seens, targets []string
		if err := read(&into.batch, &into.high, &masks, &highs, &seens, &targets, &uptos, &into.beyond); err != nil {
			return err
		}
		into.groups = into.groups[:0]
		if len(highs) != len(masks) || len(seens) != len(masks) || len(targets) != len(masks) || len(uptos) != len(masks) {
			return fmt.Errorf("cursor of queue %d: %w", queue, batchrow.ErrEncoding)
		}
		for i := range masks {
			into.groups = append(into.groups, group{masks[i], highs[i], seens[i], targets[i], uptos[i]})
		}
		return nil
	}, queue)
}

// split gives the groups cut by mask: those within it, and the rest of them.
func (c *cursor) split(mask int64) (within, rest []group) {
	for _, g := range c.groups {
		if in := g.mask & mask; in != 0 {
			part := g
			part.mask = in
			within = append(within, part)
		}
		if out := g.mask &^ mask; out != 0 {
			part := g
			part.mask = out
			rest = append(rest, part)
		}
	}
	return within, rest
}

// merge makes one of groups that are equally far.
func merge(groups []group) []group {
	var out []group
	for _, g := range groups {
		i := slices.IndexFunc(out, func(o group) bool {
			return o.high == g.high && o.seen == g.seen && o.target == g.target && o.upto == g.upto
		})
		if i < 0 {
			out = append(out, g)
			continue
		}
		out[i].mask |= g.mask
	}
	return out
}

// newBatch is a batch to be inserted: the next of its queue.
type newBatch struct {
	ref       store.BatchRef
	high      int64
	groups    []group
	first     []int64 // positions claimed for the first time, ascending
	positions []int64
	lanes     int64
	bounded   bool // the transaction was given its number after it had looked
}

const sqlNewBatch = `insert into weir.batches (queue, no, epoch, owner, state, high, masks, highs, seens, targets, uptos, beyond, span,
		lanes, open, claimed_us, done_us, manifest, bits, times)
	values ($1, $2, 1, $3, $4::smallint, $5, $6::int[], $7::bigint[], $8::text[]::pg_snapshot[],
		array(select nullif(x, '')::pg_snapshot from unnest($9::text[]) as u(x)), $10::bigint[],
		case when $18 then pg_current_xact_id() end, case when $11::bigint > 0 then int8range($11::bigint, $12::bigint, '[]') end, $13, $14, $15::bigint, null, $16, $17, '')`

const sqlMoveCursor = `update weir.batches set high = $3, masks = $4::int[], highs = $5::bigint[], seens = $6::text[]::pg_snapshot[],
		targets = array(select nullif(x, '')::pg_snapshot from unnest($7::text[]) as u(x)), uptos = $8::bigint[],
		beyond = case when $9 then pg_current_xact_id() else '` + unbounded + `'::xid8 end
	where queue = $1 and no = $2`

// place is the groups as arrays.
func (b *newBatch) place() (masks, highs []int64, seens, targets []string, uptos []int64) {
	for _, g := range b.groups {
		masks, highs, uptos = append(masks, g.mask), append(highs, g.high), append(uptos, g.upto)
		seens, targets = append(seens, g.seen), append(targets, g.target)
	}
	return masks, highs, seens, targets, uptos
}

// insert queues the batch.
func (b *newBatch) insert(t *tx) {
	masks, highs, seens, targets, uptos := b.place()
	var from, to int64
	if len(b.first) > 0 {
		from, to = b.first[0], b.first[len(b.first)-1]
	}
	n := len(b.positions)
	t.do(sqlNewBatch, int64(b.ref.Queue), b.ref.No, t.process, batchLeased, b.high, masks, highs, seens, targets, uptos,
		from, to, b.lanes, n, t.now, batchrow.AppendManifest(make([]byte, 0, 16+2*n), b.positions), []byte(batchrow.NewBits(n)), b.bounded)
}

// move queues the moving of the cursor in the row of the batch, which is the newest.
func (b *newBatch) move(t *tx) {
	masks, highs, seens, targets, uptos := b.place()
	t.do(sqlMoveCursor, int64(b.ref.Queue), b.ref.No, b.high, masks, highs, seens, targets, uptos, b.bounded)
}
