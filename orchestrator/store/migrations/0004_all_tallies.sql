-- Before the switch: older code goes on counting its own words in the same table.
-- Transitions by event and state, and calls by operation, outcome and duration are counted too.

alter table tallies rename to tallies_before;
create table tallies (
    what text not null check (what in ('deliveries', 'verdicts', 'transitions', 'calls')),
    word text not null,
    number $int not null,
    primary key (what, word)
) $strict;
insert into tallies (what, word, number) select what, word, number from tallies_before;
drop table tallies_before;

insert into tallies (what, word, number)
select 'transitions', event || ' ' || to_state, count(*) from transitions group by event, to_state;
