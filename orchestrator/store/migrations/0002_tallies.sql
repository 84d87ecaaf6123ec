-- Before the switch: it only adds. What older code writes beside it is not counted.
-- Counts kept with the rows they count, so that nobody has to count the rows.

create table tallies (
    what text not null check (what in ('deliveries', 'verdicts')),
    word text not null,
    number $int not null,
    primary key (what, word)
) $strict;

insert into tallies (what, word, number) select 'deliveries', status, count(*) from deliveries group by status;
insert into tallies (what, word, number) select 'verdicts', verdict, count(*) from callbacks group by verdict;
