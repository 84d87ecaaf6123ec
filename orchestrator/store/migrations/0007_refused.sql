-- Before the switch: older code goes on counting its own words in the same table.
-- Requests that are answered before the application sees them are counted by the answer's status, too.

alter table tallies rename to tallies_before;
create table tallies (
    what text not null check (what in ('deliveries', 'verdicts', 'transitions', 'calls', 'refused')),
    word text not null,
    number $int not null,
    primary key (what, word)
) $strict;
insert into tallies (what, word, number) select what, word, number from tallies_before;
drop table tallies_before;
