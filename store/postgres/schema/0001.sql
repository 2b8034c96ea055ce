-- The journal of one store in one schema, here named weir. Times are microseconds since 1970 (_us).
-- A position (pos) is topic << 40 | seq.

-- k: 'life', of the cluster and database that it was last opened in; 'schema', the steps taken.
create table weir.meta (
  k text primary key,
  v text not null
);

-- The lives of the store: from the seq first on, IDs have this incarnation, and stamps are base + seq.
create table weir.lives (
  first       bigint primary key,
  incarnation text not null unique,
  base        bigint not null
);

-- seq is store-wide. It is drawn while the locks of the sends' keys are held, and never cached ahead. It
-- ends before it would run into the topic of a position.
create sequence weir.seq as bigint maxvalue 1099511627775 cache 1;
create sequence weir.process_id as bigint;
create sequence weir.run_no as bigint;
create sequence weir.mail_no as bigint;  -- of mail, of places in line, and of locks' fences

create table weir.topics (
  id   integer generated always as identity primary key check (id < 1 << 22),
  name text not null unique,
  kind smallint not null
);

-- Partitions are ranges of seq, so that retention can drop what is old; see partition.go.
-- lane: by the key's hash; 16: no key. xid: the transaction that wrote the row; what commits out
-- of the order of seq is found by it (claim.go). origin: where it comes from, if another store sent it.
create table weir.messages (
  topic       integer not null,
  seq         bigint not null,
  xid         xid8 not null default pg_current_xact_id(),
  sent_us     bigint not null,
  version     integer not null,
  lane        smallint not null,
  key         text collate "C",
  due_us      bigint,
  cause       text collate "C",
  correlation text collate "C",
  origin      text collate "C",
  headers     bytea,
  body        bytea not null,
  primary key (topic, seq)
) partition by range (seq);
-- An expression, so that no other look-up can use it, and late ones no other index: with young
-- statistics the planner takes the wrong one. With seq, so that what is not late (most of a backlog,
-- and of what commits at once) is passed over in the index.
create index messages_late on weir.messages ((topic + 0), xid, (seq + 0));
-- Who waits for a message of a key looks back at what was sent with it since its run started. A key
-- may be that of a million messages, so they are found by their times, too.
create index messages_key on weir.messages (key, sent_us) where key is not null;
create index messages_correlation on weir.messages (correlation) where correlation is not null;
create index messages_origin on weir.messages (origin) where origin is not null;

-- What retention must not forget: messages referred to by deferred, dead or
-- open batches, and signals to runs that have not ended, copied here when their range of messages is deleted.
create table weir.kept (
  topic       integer not null,
  seq         bigint not null,
  xid         xid8 not null,
  sent_us     bigint not null,
  version     integer not null,
  lane        smallint not null,
  key         text collate "C",
  due_us      bigint,
  cause       text collate "C",
  correlation text collate "C",
  origin      text collate "C",
  headers     bytea,
  body        bytea not null,
  primary key (topic, seq)
);
create index kept_key on weir.kept (key, sent_us) where key is not null;
create index kept_correlation on weir.kept (correlation) where correlation is not null;
create index kept_origin on weir.kept (origin) where origin is not null;

-- base: what had been appended when the subscription began. sampled_* are what was counted by the
-- last figure.
create table weir.queues (
  id           integer generated always as identity primary key,
  name         text not null unique,
  topic        integer not null references weir.topics (id),
  start_pos    bigint not null,      -- messages up to here that start_seen shows came before the subscription
  start_seen   pg_snapshot not null,
  base         bigint not null,
  capacity     bigint not null,
  required     boolean not null,
  max_lag      bigint not null,
  on_dead      smallint not null,
  parked_us    bigint,
  paused_us    bigint,
  paused_by    text,
  paused_why   text,
  gaps         bigint not null default 0,
  sampled_sent bigint not null default 0,
  sampled_done bigint not null default 0,
  sampled_died bigint not null default 0
) with (fillfactor = 50);
create index queues_topic on weir.queues (topic);

-- What transactions add to the counters of topics, queues and workflows: rows, so that no two
-- wait for each other. They are folded into those now and then, see tally.go. One of topic, queue
-- and workflow is set. appended: messages ever. done: settled as Done. gone: left without being
-- worked: discarded, or now dead (less what was retried). died counts deaths, never down.
create table weir.tally (
  xid      xid8 not null default pg_current_xact_id(),
  topic    integer,
  queue    integer,
  workflow integer,  -- with appended, done, gone and died for started, completed, failed and cancelled
  appended bigint not null default 0,
  done     bigint not null default 0,
  gone     bigint not null default 0,
  died     bigint not null default 0
);
create index tally_xid on weir.tally (xid);

-- The newest row says what was folded: all that is visible in seen.
create table weir.folds (
  no   bigint primary key,
  seen pg_snapshot not null
);
insert into weir.folds values (0, '1:1:');

-- The counters by fold; the newest of a topic (queue is 0), or of a queue (topic is 0), holds. Rows
-- that are never updated, so that whoever reads the newest does not pass over those of before.
create table weir.counts (
  topic    integer not null,
  queue    integer not null,
  no       bigint not null,
  appended bigint not null,
  done     bigint not null,
  gone     bigint not null,
  died     bigint not null,
  primary key (topic, queue, no)
);

-- What is not folded.
create view weir.tallied as
	select y.* from (select seen from weir.folds order by no desc limit 1) f
		join weir.tally y on y.xid >= pg_snapshot_xmax(f.seen)
	union all
	select y.* from (select seen from weir.folds order by no desc limit 1) f
		join weir.tally y on y.xid = any(array(select pg_snapshot_xip(f.seen)));

create view weir.topic_counts as
	select t.id as topic, coalesce((select c.appended from weir.counts c where c.topic = t.id and c.queue = 0 order by c.no desc limit 1), 0)
		+ coalesce((select sum(y.appended) from weir.tallied y where y.topic = t.id), 0)::bigint as appended
	from weir.topics t;

create view weir.queue_counts as
	select q.id as queue, n.done, n.gone, n.died
	from weir.queues q cross join lateral (
		select coalesce(sum(x.done), 0)::bigint as done, coalesce(sum(x.gone), 0)::bigint as gone, coalesce(sum(x.died), 0)::bigint as died
		from (
			(select c.done, c.gone, c.died from weir.counts c where c.topic = 0 and c.queue = q.id order by c.no desc limit 1)
			union all
			select y.done, y.gone, y.died from weir.tallied y where y.queue = q.id) x) n;

-- The newest batch of a queue is its cursor; batch 0 is made with the queue. The cursor's columns
-- are arrays of one length: for the lanes in masks[i], everything up to highs[i] that is visible
-- in seens[i] has been claimed. See cursor.go for targets and uptos.
-- beyond: transactions with this number or a higher one have drawn no positions up to high; null: it is not known.
-- high: the highest of highs. span: the range of the positions that this batch was the first to
-- claim; null for none. lanes: those of its messages that are not settled, at least.
-- manifest: the leased positions; bits: which are settled; times: for those, start after claimed_us
-- and duration; owners: of a batch taken over, whose they are. open counts the unsettled.
-- state: 0 leased, 1 handed back, 2 closed.
create table weir.batches (
  queue      integer not null,
  no         bigint not null,
  epoch      bigint not null,
  owner      bigint not null,
  state      smallint not null,
  high       bigint not null,
  masks      integer[] not null,
  highs      bigint[] not null,
  seens      pg_snapshot[] not null,
  targets    pg_snapshot[] not null,
  uptos      bigint[] not null,
  beyond     xid8,
  span       int8range,
  lanes      integer not null,
  open       integer not null,
  claimed_us bigint not null,
  done_us    bigint,
  manifest   bytea not null,
  bits       bytea not null,
  times      bytea not null,
  owners     bytea not null default '',
  primary key (queue, no)
) with (fillfactor = 70, toast_tuple_target = 8000);
alter table weir.batches alter column manifest set storage external,
  alter column bits set storage external, alter column times set storage external;
create index batches_open on weir.batches (queue, no) where state < 2;
create index batches_owner on weir.batches (owner) where state = 0;
create index batches_span on weir.batches using gist (span) where span is not null;

-- Who may claim the keyed messages of a lane of a queue; none: owner null.
create table weir.lanes (
  queue integer not null,
  lane  smallint not null,
  owner bigint,
  primary key (queue, lane)
) with (fillfactor = 50);

-- Processes that claim from a queue, so that the lanes can be shared among them.
create table weir.workers (
  queue   integer not null,
  process bigint not null,
  primary key (queue, process)
);

-- kind: 1 delay (the sender's own), 2 retry, 3 not yet, 4 behind (due_us null), 5 released (due_us 0).
-- attempt is the number the next attempt gets. lane: of its key, as in messages.
create table weir.deferred (
  queue    integer not null,
  pos      bigint not null,
  kind     smallint not null,
  lane     smallint not null,
  due_us   bigint,
  key      text collate "C",
  attempt  integer not null,
  crashes  integer not null default 0,
  first_us bigint,
  reason   text,
  primary key (queue, pos)
);
create index deferred_due on weir.deferred (queue, due_us, pos) where due_us is not null;
create index deferred_key on weir.deferred (queue, key, pos) where key is not null;

create table weir.dead (
  queue       integer not null,
  pos         bigint not null,
  died_us     bigint not null,
  lane        smallint not null,
  key         text collate "C",
  attempts    integer not null,
  reason      text not null,
  quarantined boolean not null default false,
  behind      bigint,  -- parked: the dead message of its key that it follows
  primary key (queue, pos)
);
create index dead_key on weir.dead (queue, key, pos) where key is not null;

-- Only exceptions: failed, postponed and crashed attempts, and the success after one.
create table weir.attempts (
  queue      integer not null,
  pos        bigint not null,
  n          integer not null,  -- 1, 2, 3 … in order of being recorded
  attempt    integer not null,
  started_us bigint,
  took_us    bigint not null,
  verdict    text not null,
  reason     text,
  stack      text,
  process    bigint not null,
  due_us     bigint,
  primary key (queue, pos, n)
);

-- Suspects whose run has begun, until they are settled.
create table weir.starts (
  queue      integer not null,
  pos        bigint not null,
  process    bigint not null,
  started_us bigint not null,
  lone       boolean not null,
  primary key (queue, pos)
);

-- A person's replacement of a body or of headers, for one queue.
create table weir.edits (
  queue   integer not null,
  pos     bigint not null,
  body    bytea,
  headers bytea,
  primary key (queue, pos)
);

create table weir.dedup (
  topic      integer not null,
  key        text collate "C" not null,
  hash       bytea not null,
  pos        bigint not null,
  sent_us    bigint not null,
  expires_us bigint not null,
  primary key (topic, key)
);
create index dedup_expires on weir.dedup (expires_us);

create table weir.figures (
  queue    integer not null,
  minute   bigint not null,  -- since 1970
  sent     bigint not null,
  done     bigint not null,
  died     bigint not null,
  failed   bigint not null,
  rejected bigint not null,
  wait     bytea not null,
  work     bytea not null,
  lead     bytea not null,
  primary key (queue, minute)
);
create index figures_minute on weir.figures (minute);

-- lost_us: when others found that it had not beaten for a lease; everything it still does is refused.
create table weir.processes (
  id         bigint primary key,
  pid        bigint not null,
  host       text not null,
  version    text not null,
  owns       text not null,
  started_us bigint not null,
  beat_us    bigint not null,
  ended_us   bigint,
  lost_us    bigint
) with (fillfactor = 50);
create index processes_alive on weir.processes (id) where ended_us is null and lost_us is null;

create table weir.audit (
  id     bigint generated always as identity primary key,
  at_us  bigint not null,
  who    text not null,
  verb   text not null,
  why    text not null,
  target text not null,
  before text not null,
  after  text not null
);

-- completed, failed and cancelled count the ended runs that are kept.
create table weir.workflows (
  id        integer generated always as identity primary key,
  name      text not null unique,
  completed bigint not null default 0,
  failed    bigint not null default 0,
  cancelled bigint not null default 0,
  -- runs that have not ended, of which starts from outside make no more than capacity; 0 is no bound
  unfinished bigint not null default 0,
  capacity   bigint not null default 0
) with (fillfactor = 50);

-- wake is why the run will go on, and null once it has ended: ready, leased, waiting
-- or parked, as ranges of one number (as in store/sqlite/wake.go), so that each claim, take-over
-- and list of unfinished runs is a range of one index. outcome: as store.Outcome.
create table weir.runs (
  no          bigint primary key,
  workflow    integer not null,
  id          text collate "C" not null,
  wake        bigint,
  version     integer not null,
  epoch       bigint not null,
  crashes     integer not null default 0,
  started_us  bigint not null,
  ended_us    bigint,
  outcome     smallint,
  deadline_us bigint,
  parent      bigint,
  parent_step integer,
  cause       text collate "C",
  correlation text collate "C",
  headers     bytea,
  input       bytea,
  result      bytea,
  reason      text
) with (fillfactor = 70);
create unique index runs_id on weir.runs (workflow, id);
create index runs_wake on weir.runs (workflow, wake) where wake is not null;
create index runs_parent on weir.runs (parent) where parent is not null;
create index runs_unwell on weir.runs (outcome) where outcome > 1;

create table weir.steps (
  run        bigint not null,
  n          integer not null,
  kind       smallint not null,
  state      smallint not null,
  attempt    integer not null,
  started_us bigint,
  took_us    bigint,
  due_us     bigint,
  pos        bigint,
  name       text,
  headers    bytea,
  value      bytea,
  reason     text,
  primary key (run, n)
) with (fillfactor = 90);

-- Failed attempts of steps.
create table weir.step_attempts (
  run        bigint not null,
  n          integer not null,
  i          integer not null,  -- 1, 2, 3 … in order of being recorded
  attempt    integer not null,
  started_us bigint,
  took_us    bigint not null,
  reason     text,
  stack      text,
  primary key (run, n, i)
);

-- reply: the position of the request, for a wait for its reply; else null, and key counts.
create table weir.waits (
  run       bigint not null,
  n         integer not null,
  topic     integer not null,
  key       text collate "C",
  reply     bigint,
  since_us  bigint not null,
  after_pos bigint not null,
  primary key (run, n)
);
create index waits_key on weir.waits (topic, key) where key is not null;
create index waits_reply on weir.waits (topic, reply) where reply is not null;

-- What has come to unfinished runs and is not dealt with. child is one that ended; how,
-- is copied here when retention deletes it: step is its ID then, why its reason.
create table weir.mail (
  no       bigint primary key,
  run      bigint not null,
  at_us    bigint not null,
  kind     smallint not null,
  n        integer not null,
  pos      bigint,
  child    bigint,
  fence    bigint,
  step     text,
  value    bytea,
  failed   boolean not null default false,
  who      text,
  why      text,
  outcome  smallint,
  ended_us bigint
);
create index mail_run on weir.mail (run);
create index mail_pos on weir.mail (pos) where pos is not null;

-- Locks that are held. Fences come from weir.mail_no, so that those of a lock
-- ascend though a free one has no row.
create table weir.locks (
  name     text collate "C" primary key,
  run      bigint not null,
  n        integer not null,
  fence    bigint not null,
  since_us bigint not null
);
create index locks_run on weir.locks (run);

create table weir.lock_line (
  name     text collate "C" not null,
  no       bigint not null,
  run      bigint not null,
  n        integer not null,
  since_us bigint not null,
  primary key (name, no)
);
create index lock_line_run on weir.lock_line (run);

-- Messages of callers' own transactions that runs may wait for, to be brought to them by
-- the next claim.
create table weir.arrived (
  topic integer not null,
  seq   bigint not null,
  primary key (topic, seq)
);

-- How far the store has each lane on which others send to it, and what came: messages, and gaps that
-- the sender could not fill any more, the last one at jumped_us. drained_us: when the sender last said that
-- it has settled all that; null: not since it came.
create table weir.arrivals (
  lane      text collate "C" primary key,
  batch     bigint not null,
  i         integer not null,
  last      boolean not null,
  at_us     bigint not null,
  arrived   bigint not null,
  jumps     bigint not null,
  jumped_us bigint,
  drained_us bigint
) with (fillfactor = 50);
create index arrivals_drained on weir.arrivals (drained_us) where drained_us is not null;
create index arrivals_jumped on weir.arrivals (jumped_us) where jumped_us is not null;

-- The newest states of entities. xid: the transaction that wrote it, by which followers find what
-- is new to them. as_of_us: when its owner made it. was: whether the state before was a tombstone; null: there was none.
create table weir.states (
  entity   text collate "C" not null,
  key      text collate "C" not null,
  xid      xid8 not null default pg_current_xact_id(),
  version  bigint not null,
  contract integer not null,
  as_of_us bigint not null,
  deleted  boolean not null,
  was      boolean,
  body     bytea,
  primary key (entity, key)
) with (fillfactor = 80);
create index states_written on weir.states (entity, xid, key);
create index states_newest on weir.states (entity, version);
create index states_deleted on weir.states (as_of_us) where deleted;

-- How many states entities have: what transactions add and take, folded now and then.
create table weir.entity_tally (
  entity  text collate "C" not null,
  live    bigint not null,
  deleted bigint not null
);

-- What only one process does: whose it is. That of one that is gone is anybody's.
create table weir.duties (
  name    text collate "C" primary key,
  process bigint not null
);

-- The lowest position of each part of a queue's cursor that has not been claimed; where many are
-- late it is one of the lowest: of each transaction, and of what came since, some are looked at.
create function weir.unclaimed(of_queue integer, of_topic integer) returns setof bigint language sql stable as $$
	select of_topic::bigint << 40 | p.seq
	from (select * from weir.batches x where x.queue = of_queue order by no desc limit 1) b
	cross join lateral unnest(b.masks, b.highs, b.seens, b.targets, b.uptos) as e(mask, high, seen, target, upto)
	cross join lateral (
		(select m.seq from weir.messages m where m.topic = of_topic and m.seq > (e.high & 1099511627775) and (e.mask >> m.lane) & 1 = 1
			order by m.seq limit 1)
		union all
		(select min(m.seq) from (
				(select n.seq, n.lane, n.xid from weir.messages n where (n.topic + 0) = of_topic and n.xid >= pg_snapshot_xmax(e.seen)
					order by n.xid limit 1000)
				union all
				select n.* from pg_snapshot_xip(e.seen) as x cross join lateral (
						select i.seq, i.lane, i.xid from weir.messages i where (i.topic + 0) = of_topic and i.xid = x limit 1000) n
					where pg_visible_in_snapshot(x, pg_current_snapshot())
				union all
				(select n.seq, n.lane, n.xid from weir.messages n where e.target is not null and n.topic = of_topic
					and n.seq > (e.upto & 1099511627775) and n.seq <= (e.high & 1099511627775) order by n.seq limit 1000)) m
			where not pg_visible_in_snapshot(m.xid, e.seen)
			and m.seq <= (e.high & 1099511627775) and (e.mask >> m.lane) & 1 = 1
			and (e.target is null or m.seq > (e.upto & 1099511627775) or not pg_visible_in_snapshot(m.xid, e.target)))
	) p where p.seq is not null
$$;

-- Partitions of the messages are made and dropped with the rights of the schema's owner, so that the
-- role that works the journal need not be it. Each of these refuses what retention and growth do not
-- ask for. Their search path holds nothing that others can write to, and all names are qualified.

-- Adds partition n, the next one, when it is due (partition.go); or attaches it again.
create function weir.add_partition(n bigint) returns void language plpgsql security definer
	set search_path = pg_catalog, pg_temp set lock_timeout = '1s' as $$
declare
	newest bigint := (select coalesce(max(substr(c.relname, 10)::bigint), -1) from pg_inherits i join pg_class c on c.oid = i.inhrelid
		where i.inhparent = 'weir.messages'::regclass);
	given record;
begin
	if to_regclass(format('weir.messages_%s', n)) is null then
		if n <> newest + 1 or n << 22 > (select last_value from weir.seq) + (1 << 21) then
			raise exception 'partition % is not due: the newest is %', n, newest;
		end if;
		execute format('create table weir.messages_%s (like weir.messages including defaults including indexes,
			check (seq >= %s and seq < %s))', n, n << 22, (n + 1) << 22);
		for given in select a.privilege_type, a.grantee from pg_class c, aclexplode(c.relacl) a
			where c.oid = 'weir.messages'::regclass and a.grantee <> c.relowner and a.grantee <> 0
		loop
			execute format('grant %s on weir.messages_%s to %s', given.privilege_type, n, given.grantee::regrole);
		end loop;
	end if;
	execute format('alter table weir.messages attach partition weir.messages_%s for values from (%s) to (%s)', n, n << 22, (n + 1) << 22);
end $$;

-- Detaches partition n, a full one, for roles that may not do so themselves: unlike DETACH
-- CONCURRENTLY it needs a moment in which nobody uses the messages. Who waits for one holds up all
-- who come after, so it gives up soon, and does not begin beside a transaction that is not short.
create function weir.detach_partition(n bigint) returns void language plpgsql security definer
	set search_path = pg_catalog, pg_temp set lock_timeout = '200ms' as $$
declare
	users text[] := array(select virtualtransaction from pg_locks where relation = 'weir.messages'::regclass and pid <> pg_backend_pid());
begin
	if (n + 1) << 22 > (select last_value from weir.seq) then
		raise exception 'partition % is in use', n;
	end if;
	perform pg_sleep(case when cardinality(users) > 0 then 0.1 else 0 end);
	if exists (select 1 from pg_locks where relation = 'weir.messages'::regclass and virtualtransaction = any(users)) then
		raise lock_not_available using message = 'a transaction that uses the messages is open for long';
	end if;
	execute format('alter table weir.messages detach partition weir.messages_%s', n) || case when exists (
		select 1 from pg_inherits where inhrelid = to_regclass(format('weir.messages_%s', n)) and inhdetachpending) then ' finalize' else '' end;
end $$;

-- Drops partition n, which is detached.
create function weir.drop_partition(n bigint) returns void language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
begin
	if (n + 1) << 22 > (select last_value from weir.seq) or exists (select 1 from pg_inherits where inhrelid = to_regclass(format('weir.messages_%s', n))) then
		raise exception 'partition % is in use', n;
	end if;
	execute format('drop table weir.messages_%s', n);
end $$;

revoke all on function weir.add_partition(bigint), weir.detach_partition(bigint), weir.drop_partition(bigint) from public;

select weir.add_partition(0);
