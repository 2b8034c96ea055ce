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
