-- Before the switch: it only adds. What older code does is not changed by it.

-- At most one row of each: `away`: all that was here is now at `place`, and nobody may open this database any more;
-- `here`: what is at `place` is being copied here, and is not whole yet.
create table moves (
    direction text primary key not null check (direction in ('away', 'here')),
    place text not null,
    at $int not null
) $strict;
