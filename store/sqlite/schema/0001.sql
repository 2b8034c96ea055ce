-- The journal of one store in one SQLite file. Times are microseconds since 1970 (_us).

-- k: 'incarnation' (text), 'seq' (the last sequence number given out, over all topics).
create table weir_meta (
  k text primary key,
  v any not null
) strict, without rowid;

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
create table weir_messages (
  pos         integer primary key,
  sent_us     integer not null,
  version     integer not null,
  key         text,
  due_us      integer,
  cause       any,
  correlation any,
  headers     blob,
  body        blob not null
) strict;
create index weir_messages_key on weir_messages (key) where key is not null;
create index weir_messages_correlation on weir_messages (correlation) where correlation is not null;

-- What retention must not forget: messages referred to by deferred, dead or
-- open batches, copied here when their range of messages is deleted.
create table weir_kept (
  pos         integer primary key,
  sent_us     integer not null,
  version     integer not null,
  key         text,
  due_us      integer,
  cause       any,
  correlation any,
  headers     blob,
  body        blob not null
) strict;
create index weir_kept_key on weir_kept (key) where key is not null;
create index weir_kept_correlation on weir_kept (correlation) where correlation is not null;

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
-- is made with the queue. manifest: the leased positions; bits: which are settled;
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
