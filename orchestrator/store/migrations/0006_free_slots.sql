-- Before the switch: it only adds. What older code does is not changed by it.

-- The slot that is free first, and those that are not free, are found without a look at all of them.
create index slots_free on slots (free_at);
