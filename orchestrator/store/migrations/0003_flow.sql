-- Before the switch: it only adds. What older code writes beside it is not counted.
-- What came in and what became of it, by hour and by day (UTC), kept with the rows that it counts.
-- `what`: began, submitted, approved, rejected; took:<minutes>, settled within so many minutes after the submit; and
-- btse:worked, btse:failed, osl:worked, osl:failed, a provider's answers.

create table flow (
    span text not null check (span in ('hour', 'day')),
    begins_at $int not null,
    what text not null,
    number $int not null,
    primary key (span, begins_at, what)
) $strict;

insert into flow (span, begins_at, what, number)
select 'hour', created_at - created_at % 3600000, 'began', count(*) from onboardings group by 2;
insert into flow (span, begins_at, what, number)
select 'day', created_at - created_at % 86400000, 'began', count(*) from onboardings group by 2;
insert into flow (span, begins_at, what, number)
select 'hour', submitted_at - submitted_at % 3600000, 'submitted', count(*) from onboardings
where submitted_at is not null group by 2;
insert into flow (span, begins_at, what, number)
select 'day', submitted_at - submitted_at % 86400000, 'submitted', count(*) from onboardings
where submitted_at is not null group by 2;
insert into flow (span, begins_at, what, number)
select 'hour', settled_at - settled_at % 3600000, state, count(*) from onboardings
where settled_at is not null and state in ('approved', 'rejected') group by 2, 3;
insert into flow (span, begins_at, what, number)
select 'day', settled_at - settled_at % 86400000, state, count(*) from onboardings
where settled_at is not null and state in ('approved', 'rejected') group by 2, 3;
insert into flow (span, begins_at, what, number)
select 'day', settled_at - settled_at % 86400000, case
    when settled_at - submitted_at <= 60000 then 'took:1'
    when settled_at - submitted_at <= 300000 then 'took:5'
    when settled_at - submitted_at <= 900000 then 'took:15'
    when settled_at - submitted_at <= 3600000 then 'took:60'
    when settled_at - submitted_at <= 14400000 then 'took:240'
    when settled_at - submitted_at <= 86400000 then 'took:1440'
    when settled_at - submitted_at <= 259200000 then 'took:4320'
    else 'took:more' end, count(*) from onboardings
where settled_at is not null and submitted_at is not null and state in ('approved', 'rejected') group by 2, 3;

create index onboardings_changed on onboardings (updated_at, id);
create index onboardings_state_changed on onboardings (state, updated_at, id);
create index onboardings_failing on onboardings (failing_since) where failing_since is not null;
create index callbacks_verdict on callbacks (verdict, received_at, id) where onboarding_id is not null;
create index deliveries_failed on deliveries (created_at) where status = 'failed';
