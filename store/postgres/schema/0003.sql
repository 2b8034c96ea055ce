-- Who waits for a message of a key looks back at what was sent with it since its run started. A key
-- may be that of a million messages, so they are found by their times, too.
drop index weir.messages_key;
create index messages_key on weir.messages (key, sent_us) where key is not null;
drop index weir.kept_key;
create index kept_key on weir.kept (key, sent_us) where key is not null;
