package postgres

import (
	"cmp"
	"slices"

	"github.com/weir-go/weir/store"
)

// A look reads, in one statement and so in one snapshot: that snapshot, what is late, and
// what is fresh. Bodies are read up to loadMax. Parts of a row's kind: 0 the snapshot, 1 late,
// 2 fresh, 3 how far it has looked.
//
// The conditions on late messages are written so that only the index made for them fits
// (topic + 0, seq + 0), and those on fresh ones so that only the primary key does. Of what ran
// when the cursor's snapshot was taken, only what has ended since is looked for, each by itself:
// for a list the planner, while statistics are young, would look through the whole topic.
const (
	lookColumns = ` m.seq, m.sent_us, m.version, m.lane, coalesce(m.key, ''), coalesce(m.due_us, 0),
		coalesce(m.cause, ''), coalesce(m.correlation, ''), coalesce(m.origin, ''), m.headers, m.body `
	lookSnapshot = `select 0, 0, 0::bigint, 0::bigint, (pg_current_xact_id_if_assigned() is not null)::int, 0, pg_current_snapshot()::text, 0::bigint, '', '', '', null::bytea, null::bytea`
	lookBounded  = `select *, coalesce(sum(length(body)) over (order by seq rows between unbounded preceding and 1 preceding), 0) as before`

	// One group of all lanes: what a single process has, and nearly all claims are.
	sqlLookAll = lookSnapshot + `
		union all
		select 1, 1,` + lookColumns + `from (
			(select m.* from weir.messages m where (m.topic + 0) = $1 and m.xid >= pg_snapshot_xmax($2::text::pg_snapshot)
				and m.xid < $6::text::xid8 and m.seq + 0 <= $3 order by m.seq + 0 limit $4)
			union all
			(select m.* from pg_snapshot_xip($2::text::pg_snapshot) as x cross join lateral (
					select m.* from weir.messages m where (m.topic + 0) = $1 and m.xid = x
						and m.seq + 0 <= $3 order by m.seq + 0 limit $4) m
				where pg_visible_in_snapshot(x, pg_current_snapshot()) order by m.seq + 0 limit $4)) m
		union all
		select 2, 1,` + lookColumns + `from (` + lookBounded + ` from (
			select * from weir.messages f where f.topic = $1 and f.seq > $3 order by f.seq limit $4) f) m
			where m.before < $5`

	sqlLook = `with g as (
			select u.i::int as i, u.mask, u.high, u.seen::pg_snapshot as seen, nullif(u.target, '')::pg_snapshot as target, u.upto
			from unnest($2::int[], $3::bigint[], $4::text[], $5::text[], $6::bigint[]) with ordinality as u(mask, high, seen, target, upto, i)),
		s as materialized (
			select f.seq, f.lane from weir.messages f where f.topic = $1 and f.seq > $7 order by f.seq limit $8)
		` + lookSnapshot + `
		union all
		select 1, g.i,` + lookColumns + `from g cross join lateral (
			(select m.* from weir.messages m where g.target is null and (m.topic + 0) = $1 and m.xid >= pg_snapshot_xmax(g.seen)
				and m.xid < $11::text::xid8 and m.seq + 0 <= g.high and (g.mask >> m.lane) & 1 = 1 order by m.seq + 0 limit $9)
			union all
			(select m.* from pg_snapshot_xip(g.seen) as x cross join lateral (
					select m.* from weir.messages m where (m.topic + 0) = $1 and m.xid = x
						and m.seq + 0 <= g.high and (g.mask >> m.lane) & 1 = 1 order by m.seq + 0 limit $9) m
				where g.target is null and pg_visible_in_snapshot(x, pg_current_snapshot()) order by m.seq + 0 limit $9)
			union all
			(select m.* from weir.messages m where g.target is not null and m.topic = $1 and m.seq > g.upto and m.seq <= g.high
				and not pg_visible_in_snapshot(m.xid, g.seen) and pg_visible_in_snapshot(m.xid, g.target)
				and (g.mask >> m.lane) & 1 = 1 order by m.seq limit $9)) m
		union all
		select 2, m.i,` + lookColumns + `from (` + lookBounded + ` from (
			select f.*, c.i from (select s.seq, g.i from s join g on (g.mask >> s.lane) & 1 = 1 and s.seq > g.high and g.target is null
				order by s.seq limit $9) c
			cross join lateral (select * from weir.messages where topic = $1 and seq = c.seq limit 1) f) f) m where m.before < $10
		union all
		select 3, 0, coalesce(max(s.seq), 0), count(*), 0, 0, '', 0, '', '', '', null, null from s`

	// loadMax ends a batch early: what a claim brings into memory is bounded.
	loadMax = 16 << 20
	// scanPerMessage is how many messages of others' lanes are passed over for each that is asked for.
	scanPerMessage = keyedLanes
)

// lookup is what a look found.
type lookup struct {
	snapshot string
	late     [][]found // by group
	fresh    []found
	scanned  int64 // the position up to which the lanes were looked through
	whole    bool  // that is all there is
	most     int   // messages asked for, but for one to tell that there are more
	bytes    int   // of the fresh messages' bodies
	early    bool  // the transaction had no number yet
}

// found is a message that a look found.
type found struct {
	*store.Message
	lane  int
	group int
}

// look queues the look at groups of the cursor, for most messages and one more.
func (k *claim) look(groups []group, most int) *lookup {
	l := &lookup{late: make([][]found, len(groups)), whole: true, most: most}
	if len(groups) == 1 && groups[0].mask == maskAll && groups[0].target == "" {
		g := groups[0]
		k.t.ask(sqlLookAll, k.lookRow(l), k.row.topic, g.seen, seqOf(g.high), most+1, loadMax, k.cursor.beyond)
		return l
	}
	var masks, highs, uptos []int64
	var seens, targets []string
	least := groups[0].high
	for _, g := range groups {
		masks, highs, uptos = append(masks, g.mask), append(highs, seqOf(g.high)), append(uptos, seqOf(g.upto))
		seens, targets = append(seens, g.seen), append(targets, g.target)
		least = min(least, g.high)
	}
	l.scanned = least
	k.t.ask(sqlLook, k.lookRow(l), k.row.topic, masks, highs, seens, targets, uptos, seqOf(least), (most+1)*scanPerMessage,
		most+1, loadMax, k.cursor.beyond)
	return l
}

func (k *claim) lookRow(l *lookup) func(scan) error {
	return func(read scan) error {
		var part, group, lane int
		var seq, sentUs, due int64
		var m store.Message
		var from string
		err := read(&part, &group, &seq, &sentUs, &m.Version, &lane, &m.Key, &due, &m.Cause, &m.Correlation, &from, &m.Headers, &m.Body)
		if err != nil {
			return err
		}
		switch part {
		case 0:
			l.snapshot, l.early = m.Key, m.Version == 0
			return nil
		case 3:
			l.whole = sentUs < int64((l.most+1)*scanPerMessage)
			if seq > 0 {
				l.scanned = posOf(k.row.topic, seq)
			}
			return nil
		}
		m.SentAt, m.Due = at(sentUs), at(due)
		err = k.fill(&m, seq, from)
		f := found{&m, lane, group - 1}
		if part == 1 {
			l.late[group-1] = append(l.late[group-1], f)
		} else {
			l.fresh = append(l.fresh, f)
			l.bytes += len(m.Body)
		}
		return err
	}
}

// fill completes a message that was read.
func (k *claim) fill(m *store.Message, seq int64, from string) error {
	m.Pos = store.Pos(posOf(k.row.topic, seq))
	m.Topic, m.Kind = k.row.name, store.Kind(k.row.kind)
	return k.t.s.christenRow(m, from)
}

// sorted brings the parts in order: the server gives them as it likes.
func (l *lookup) sorted() {
	byPos := func(a, b found) int { return cmp.Compare(a.Pos, b.Pos) }
	for _, late := range l.late {
		slices.SortFunc(late, byPos)
	}
	slices.SortFunc(l.fresh, byPos)
}

// take chooses what is claimed of what was found, at most so many, and moves the groups on.
func (l *lookup) take(groups []group, room int, topic int64) (taken []found, moved []group, more bool) {
	moved = append(moved, groups...)
	complete := int64(0) // lanes of which nothing late is left
	for i := range moved {
		g, late := &moved[i], l.late[i]
		switch {
		case len(late) > room:
			more = true
			if room > 0 {
				if g.target == "" {
					g.target = l.snapshot
				}
				g.upto = int64(late[room-1].Pos)
				taken, room = append(taken, late[:room]...), 0
			}
		case g.target != "": // the rest of it: what came since is for the next claim
			taken, room = append(taken, late...), room-len(late)
			g.seen, g.target, g.upto, more = g.target, "", 0, true
		default:
			taken, room = append(taken, late...), room-len(late)
			g.seen = l.snapshot
			complete |= g.mask
		}
	}
	last, rest := int64(0), false // the highest fresh position taken
	for _, f := range l.fresh {
		if complete>>f.lane&1 == 0 {
			continue
		}
		if rest = room == 0; rest {
			break
		}
		taken, room, last = append(taken, f), room-1, int64(f.Pos)
	}
	high := last
	if !rest && !l.cut() {
		high = max(high, l.scanned)
	}
	for i := range moved {
		if g := &moved[i]; g.mask&complete != 0 && high > g.high && topicOf(high) == topic {
			g.high = high
		}
	}
	return taken, moved, more || rest || !l.end()
}

// cut reports whether there may be fresh messages between those found and the end of the look.
func (l *lookup) cut() bool { return len(l.fresh) > 0 && (len(l.fresh) > l.most || l.bytes >= loadMax) }

// end reports whether nothing fresh is beyond what was found.
func (l *lookup) end() bool { return !l.cut() && l.whole }
