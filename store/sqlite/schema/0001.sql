-- The journal of one store in one SQLite file. Times are microseconds since 1970 (_us).

-- k: the last numbers given out: 'seq' (of messages, over all topics), 'process', 'run',
-- 'mail' (of mail, of places in line, and of locks' fences).
create table weir_meta (
  k text primary key,
  v any not null
) strict, without rowid;

-- The store's lives. first is the lowest seq that the life gives out; base is what a
-- message's seq is added to for its stamp.
create table weir_lives (
  first       integer primary key,
  incarnation text not null unique,
  base        integer not null
) strict;

-- appended counts all messages ever; last_pos is the newest, also after it was pruned.
create table weir_topics (
  id       integer primary key check (id < 1 << 22),
  name     text not null unique,
  kind     integer not null,
  appended integer not null default 0,
  last_pos integer not null default 0
) strict;

-- pos is topic << 40 | seq, so that a topic's messages lie together and each
-- insert goes to the end of its range: a clustered index for the price of a
-- rowid. seq is store-wide, so it is also the order of commits over all topics.
-- cause and correlation are positions of this store, or another store's IDs as text.
-- origin is of what another store sent: its ID there, who sent it, and when, a line each;
-- sent_us is when it came.
create table weir_messages (
  pos         integer primary key,
  sent_us     integer not null,
  version     integer not null,
  key         text,
  due_us      integer,
  cause       any,
  correlation any,
  origin      text,
  headers     blob,
  body        blob not null
) strict;
create index weir_messages_key on weir_messages (key) where key is not null;
create index weir_messages_correlation on weir_messages (correlation) where correlation is not null;
create index weir_messages_origin on weir_messages (origin) where origin is not null;

-- What retention must not forget: messages referred to by deferred, dead or
-- open batches, and signals to runs that have not ended, copied here when their range of messages is deleted.
create table weir_kept (
  pos         integer primary key,
  sent_us     integer not null,
  version     integer not null,
  key         text,
  due_us      integer,
  cause       any,
  correlation any,
  origin      text,
  headers     blob,
  body        blob not null
) strict;
create index weir_kept_key on weir_kept (key) where key is not null;
create index weir_kept_correlation on weir_kept (correlation) where correlation is not null;
create index weir_kept_origin on weir_kept (origin) where origin is not null;

-- depth = topics.appended - base - done - gone: counters instead of a count, exact
-- because each is changed in the transaction that changes what it counts.
-- base: topics.appended when the subscription began. done: settled as Done. gone:
-- left without being worked: discarded, or now dead (less what was retried).
-- died counts deaths, never down. sampled_* are those counters at the last figure.
create table weir_queues (
  id            integer primary key,
  name          text not null unique,
  topic         integer not null references weir_topics (id),
  start_pos     integer not null,  -- messages up to here came before the subscription
  base          integer not null,
  done          integer not null default 0,
  gone          integer not null default 0,
  died          integer not null default 0,
  capacity      integer not null,
  required      integer not null,
  max_lag       integer not null,
  on_dead       integer not null,
  parked_us     integer,
  paused_us     integer,
  paused_by     text,
  paused_why    text,
  gaps          integer not null default 0,
  sampled_sent  integer not null default 0,
  sampled_done  integer not null default 0,
  sampled_died  integer not null default 0
) strict;
create index weir_queues_topic on weir_queues (topic);

-- id is queue << 40 | no. A queue's cursor is the high of its newest batch; batch 0
-- is made with the queue. Numbers have no holes, for lanes to other stores count by them:
-- a claim that finds nothing to hand out raises the high of the newest. manifest: the leased positions; bits: which are settled;
-- times: for those, start after claimed_us and duration; owners: of a batch taken
-- over, whose they are. open counts the unsettled.
-- state: 0 leased, 1 handed back, 2 closed.
create table weir_batches (
  id         integer primary key,
  epoch      integer not null,
  owner      integer not null,
  state      integer not null,
  high       integer not null,
  open       integer not null,
  claimed_us integer not null,
  done_us    integer,
  manifest   blob not null,
  bits       blob not null,
  times      blob not null,
  owners     blob not null default x''
) strict;
create index weir_batches_open on weir_batches (id) where state < 2;

-- kind: 1 delay (the sender's own), 2 retry, 3 not yet, 4 behind (due_us null), 5 released (due_us 0).
-- attempt is the number the next attempt gets.
create table weir_deferred (
  queue    integer not null,
  pos      integer not null,
  kind     integer not null,
  due_us   integer,
  key      text,
  attempt  integer not null,
  crashes  integer not null default 0,
  first_us integer,
  reason   text,
  primary key (queue, pos)
) strict, without rowid;
create index weir_deferred_due on weir_deferred (queue, due_us, pos) where due_us is not null;
create index weir_deferred_key on weir_deferred (queue, key, pos) where key is not null;

create table weir_dead (
  queue       integer not null,
  pos         integer not null,
  died_us     integer not null,
  key         text,
  attempts    integer not null,
  reason      text not null,
  quarantined integer not null default 0,
  behind      integer,  -- parked: the dead message of its key that it follows
  primary key (queue, pos)
) strict, without rowid;
create index weir_dead_key on weir_dead (queue, key, pos) where key is not null;

-- Only exceptions: failed, postponed and crashed attempts, and the success after one.
create table weir_attempts (
  queue      integer not null,
  pos        integer not null,
  n          integer not null,  -- 1, 2, 3 … in order of being recorded
  attempt    integer not null,
  started_us integer,
  took_us    integer not null,
  verdict    text not null,
  reason     text,
  stack      text,
  process    integer not null,
  due_us     integer,
  primary key (queue, pos, n)
) strict, without rowid;

-- Suspects whose run has begun, until they are settled.
create table weir_starts (
  queue      integer not null,
  pos        integer not null,
  process    integer not null,
  started_us integer not null,
  lone       integer not null,
  primary key (queue, pos)
) strict, without rowid;

-- A person's replacement of a body or of headers, for one queue.
create table weir_edits (
  queue   integer not null,
  pos     integer not null,
  body    blob,
  headers blob,
  primary key (queue, pos)
) strict, without rowid;

create table weir_dedup (
  topic      integer not null,
  key        text not null,
  hash       blob not null,
  pos        integer not null,
  expires_us integer not null,
  primary key (topic, key)
) strict, without rowid;
create index weir_dedup_expires on weir_dedup (expires_us);

create table weir_figures (
  queue    integer not null,
  minute   integer not null,  -- since 1970
  sent     integer not null,
  done     integer not null,
  died     integer not null,
  failed   integer not null,
  rejected integer not null,
  wait     blob not null,
  work     blob not null,
  lead     blob not null,
  primary key (queue, minute)
) strict, without rowid;
create index weir_figures_minute on weir_figures (minute);

create table weir_processes (
  id         integer primary key,
  pid        integer not null,
  host       text not null,
  version    text not null,
  owns       text not null,
  started_us integer not null,
  beat_us    integer not null,
  ended_us   integer
) strict;

create table weir_audit (
  id     integer primary key,
  at_us  integer not null,
  who    text not null,
  verb   text not null,
  why    text not null,
  target text not null,
  before text not null,
  after  text not null
) strict;

-- completed, failed and cancelled count the ended runs that are kept, unfinished the others, of which
-- starts from outside make no more than capacity; 0 is no bound.
create table weir_workflows (
  id        integer primary key,
  name      text not null unique,
  completed integer not null default 0,
  failed    integer not null default 0,
  cancelled integer not null default 0,
  unfinished integer not null default 0,
  capacity   integer not null default 0
) strict;

-- wake is why the run will go on, and null once it has ended: ready, leased, waiting
-- or parked, as ranges of one number (wake.go), so that each claim, take-over and list
-- of unfinished runs is a range of one index, which holds no others.
-- input and result are here while they are short, so that an update of the row
-- rewrites no overflow pages; see weir_run_bodies. outcome: as store.Outcome.
create table weir_runs (
  no          integer primary key,
  workflow    integer not null,
  id          text not null,
  wake        integer,
  version     integer not null,
  epoch       integer not null,
  crashes     integer not null default 0,
  started_us  integer not null,
  ended_us    integer,
  outcome     integer,
  deadline_us integer,
  parent      integer,
  parent_step integer,
  cause       any,
  correlation any,
  headers     blob,
  input       blob,
  result      blob,
  reason      text
) strict;
create unique index weir_runs_id on weir_runs (workflow, id);
create index weir_runs_wake on weir_runs (workflow, wake) where wake is not null;
create index weir_runs_parent on weir_runs (parent) where parent is not null;
create index weir_runs_unwell on weir_runs (outcome) where outcome > 1;

-- Long inputs and results. id is run << 1, and 1 more for the result.
create table weir_run_bodies (
  id   integer primary key,
  body blob not null
) strict;

-- id is run << 20 | n: a run's records lie together, runs in the order of their starts.
-- Nothing is declared not null: a statement of many rows that could fail at one of them
-- keeps a journal of its own, which is a fifth of a run's cost.
create table weir_steps (
  id         integer primary key,
  kind       integer,
  state      integer,
  attempt    integer,
  started_us integer,
  took_us    integer,
  due_us     integer,
  pos        integer,
  name       text,
  headers    blob,
  value      blob,
  reason     text
) strict;

-- Failed attempts of steps.
create table weir_step_attempts (
  step       integer not null,  -- as weir_steps.id
  i          integer not null,  -- 1, 2, 3 … in order of being recorded
  attempt    integer not null,
  started_us integer,
  took_us    integer not null,
  reason     text,
  stack      text,
  primary key (step, i)
) strict, without rowid;

-- key: text; of a wait for a reply, the position of the request.
create table weir_waits (
  run       integer not null,
  n         integer not null,
  topic     integer not null,
  key       any not null,
  since_us  integer not null,
  after_pos integer not null,
  primary key (run, n)
) strict, without rowid;
create index weir_waits_key on weir_waits (topic, key);

-- What has come to unfinished runs and is not dealt with. child is one that ended; how,
-- is copied here when retention deletes it: step is its ID then, why its reason.
create table weir_mail (
  no       integer primary key,
  run      integer not null,
  at_us    integer not null,
  kind     integer not null,
  n        integer not null,
  pos      integer,
  child    integer,
  fence    integer,
  step     text,
  value    blob,
  failed   integer not null default 0,
  who      text,
  why      text,
  outcome  integer,
  ended_us integer
) strict;
create index weir_mail_run on weir_mail (run);
create index weir_mail_pos on weir_mail (pos) where pos is not null;

-- Locks that are held. Fences come from the store's counter, so that those of a lock
-- ascend though a free one has no row.
create table weir_locks (
  name     text primary key,
  run      integer not null,
  n        integer not null,
  fence    integer not null,
  since_us integer not null
) strict, without rowid;
create index weir_locks_run on weir_locks (run);

create table weir_lock_line (
  name     text not null,
  no       integer not null,
  run      integer not null,
  n        integer not null,
  since_us integer not null,
  primary key (name, no)
) strict, without rowid;
create index weir_lock_line_run on weir_lock_line (run);

-- How far each lane of another store has come: its place. jumps: how often something was
-- missing that the sender could not give any more, and when last. drained_us: when the sender last
-- said that it has settled all that; null: not since it came.
create table weir_arrivals (
  lane      text primary key,
  batch     integer not null,
  ix        integer not null,
  last      integer not null,
  at_us     integer not null,
  arrived   integer not null,
  jumps     integer not null,
  jumped_us integer,
  drained_us integer
) strict, without rowid;
create index weir_arrivals_drained on weir_arrivals (drained_us) where drained_us is not null;

-- What there are states of, with counters that change with the states. newest is the highest
-- version, as_of_us of when it is; changed is the number of the last change of a state.
create table weir_entities (
  id       integer primary key check (id < 1 << 22),
  name     text not null unique,
  live     integer not null default 0,
  deleted  integer not null default 0,
  newest   integer not null default 0,
  as_of_us integer not null default 0,
  changed  integer not null default 0
) strict;

-- The newest state of each key of an entity. id is entity << 40 | the number of its last
-- change, so that an entity's states lie in the order of their writing. No body: a tombstone.
create table weir_states (
  id       integer primary key,
  entity   integer not null,
  key      text not null,
  version  integer not null,
  contract integer not null,
  as_of_us integer not null,
  body     blob
) strict;
create unique index weir_states_key on weir_states (entity, key);
create index weir_states_deleted on weir_states (as_of_us) where body is null;
