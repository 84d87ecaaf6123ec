-- Every statement has a name and a purpose. `:name` marks a parameter; `$skip_locked` and `$for_update` are places that
-- the driver fills for a database with concurrent writers. What is claimed is chosen in a `with`: PostgreSQL may run a
-- subquery once for each row of the table, and then claims more than the limit. No lease lasts beyond `:furthest`: one
-- that seems to was given by a clock that was set back meanwhile, and is over.

-- name: insert_onboarding
-- A new onboarding; its unique indexes refuse a second live one of a merchantUserId.
insert into onboardings (id, merchant_user_id, state, created_at, updated_at, profile_sealed, email_hash,
    link_hash, link_sealed, round, version, seq, hash, resume, claim_resume, claim, claim_callback,
    contradictions, contradicted_at, doubted_at, osl_user_id, kyc_status, reason_sealed, last_error_sealed,
    lane, due_at, step_at, ask_at, asked_at, attempts, failing_since, unauthorized, changed, share,
    share_losses, share_questions, share_sent_at, prior_reject, polls, poll_rejects, told, submitted_at,
    settled_at, closed_at, profile_deleted_at, erased_at)
values (:id, :merchant_user_id, :state, :created_at, :updated_at, :profile_sealed, :email_hash,
    :link_hash, :link_sealed, :round, :version, :seq, :hash, :resume, :claim_resume, :claim, :claim_callback,
    :contradictions, :contradicted_at, :doubted_at, :osl_user_id, :kyc_status, :reason_sealed,
    :last_error_sealed, :lane, :due_at, :step_at, :ask_at, :asked_at, :attempts, :failing_since, :unauthorized,
    :changed, :share, :share_losses, :share_questions, :share_sent_at, :prior_reject, :polls, :poll_rejects,
    :told, :submitted_at, :settled_at, :closed_at, :profile_deleted_at, :erased_at);

-- name: update_onboarding
-- The one way a row moves on: everything but the lease and who the user is, guarded by the version it was decided on.
update onboardings set state = :state, updated_at = :updated_at, round = :round, version = :version + 1, seq = :seq,
    hash = :hash, resume = :resume, claim_resume = :claim_resume, claim = :claim, claim_callback = :claim_callback,
    contradictions = :contradictions, contradicted_at = :contradicted_at, doubted_at = :doubted_at,
    kyc_status = :kyc_status, reason_sealed = :reason_sealed, last_error_sealed = :last_error_sealed, lane = :lane,
    due_at = :due_at, step_at = :step_at, ask_at = :ask_at, asked_at = :asked_at, attempts = :attempts,
    failing_since = :failing_since, unauthorized = :unauthorized, changed = :changed, share = :share,
    share_losses = :share_losses, share_questions = :share_questions, share_sent_at = :share_sent_at,
    prior_reject = :prior_reject, polls = :polls, poll_rejects = :poll_rejects, told = :told,
    submitted_at = :submitted_at, settled_at = :settled_at, closed_at = :closed_at,
    profile_deleted_at = :profile_deleted_at, erased_at = :erased_at
where id = :id and version = :version;

-- name: update_identity
-- Who the user is, right after `update_onboarding`: apart, because each of these columns has an index of its own.
update onboardings set merchant_user_id = :merchant_user_id, profile_sealed = :profile_sealed,
    email_hash = :email_hash, link_hash = :link_hash, link_sealed = :link_sealed, osl_user_id = :osl_user_id
where id = :id;

-- name: hold_lease
-- Whether the worker that commits still holds the row.
update onboardings set lease = lease where id = :id and lease = :lease;

-- name: release_lease
-- The step is over: others may claim the row.
update onboardings set lease = null, lease_until = null where id = :id and lease = :lease;

-- name: onboarding
-- One onboarding by its id.
select * from onboardings where id = :id;

-- name: live_onboarding
-- The one that lives for a merchantUserId.
select * from onboardings where merchant_user_id = :merchant_user_id and state not in ('cancelled', 'expired');

-- name: newest_onboarding
-- The newest of a merchantUserId, live or not.
select * from onboardings where merchant_user_id = :merchant_user_id order by created_at desc, id desc limit 1;

-- name: onboarding_of_signup
-- What a webhook-id first gave.
select o.* from signups s join onboardings o on o.id = s.onboarding_id where s.webhook_id = :webhook_id;

-- name: onboarding_of_link
-- The onboarding that an end user's link opens.
select * from onboardings where link_hash = :hash;

-- name: replaced_link
-- Whether a link once worked.
select onboarding_id from links where hash = :hash;

-- name: replace_link
-- Remember that a link once worked.
insert into links (hash, onboarding_id, replaced_at) values (:hash, :onboarding_id, :replaced_at);

-- name: live_onboarding_of_osl_user
-- The newest live one that OSL Pay calls by this userId.
select * from onboardings where osl_user_id = :osl_user_id and state not in ('cancelled', 'expired')
order by created_at desc, id desc limit 1;

-- name: shared_before
-- Whether OSL Pay may know this merchantUserId from another onboarding.
select 1 as found from onboardings
where merchant_user_id = :merchant_user_id and id <> :id and share_sent_at is not null limit 1;

-- name: found_by_id
-- Search: those with this id or merchantUserId or OSL userId, newest first from a cursor on, of one state or all.
select * from (
    select * from onboardings where id = :q
    union select * from onboardings where merchant_user_id = :q
    union select * from onboardings where osl_user_id = :q) found
where (cast(:state as text) is null or state = :state) and (created_at, id) < (:at, :id)
order by created_at desc, id desc limit :limit;

-- name: found_by_email
-- Search: those with this keyed hash of an email, newest first from a cursor on, of one state or all.
select * from onboardings where email_hash = :hash
and (cast(:state as text) is null or state = :state) and (created_at, id) < (:at, :id)
order by created_at desc, id desc limit :limit;

-- name: counts
-- How many onboardings are in each state.
select state, onboardings from state_counts where onboardings > 0;

-- name: count_state
-- One more, or one fewer, in a state.
insert into state_counts (state, onboardings) values (:state, :difference)
on conflict (state) do update set onboardings = state_counts.onboardings + excluded.onboardings;

-- name: tallies
-- What was counted: notifications by status, verdicts, transitions, calls.
select what, word, number from tallies where number > 0;

-- name: tally
-- So many more, or fewer, of a word.
insert into tallies (what, word, number) values (:what, :word, :difference)
on conflict (what, word) do update set number = tallies.number + excluded.number;

-- name: insert_signup
-- A webhook-id always gives the onboarding that it first gave.
insert into signups (webhook_id, onboarding_id, received_at) values (:webhook_id, :onboarding_id, :received_at);

-- name: documents
-- The documents of one onboarding.
select * from documents where onboarding_id = :onboarding_id order by kind;

-- name: put_document
-- A document, in place of an earlier one of its kind.
insert into documents (onboarding_id, kind, media_type, size, sha256, location, uploaded_at, url_sealed, url_at)
values (:onboarding_id, :kind, :media_type, :size, :sha256, :location, :uploaded_at, :url_sealed, :url_at)
on conflict (onboarding_id, kind) do update set media_type = excluded.media_type, size = excluded.size,
    sha256 = excluded.sha256, location = excluded.location, uploaded_at = excluded.uploaded_at,
    url_sealed = excluded.url_sealed, url_at = excluded.url_at;

-- name: remove_document
-- The row goes before the file.
delete from documents where onboarding_id = :onboarding_id and kind = :kind;

-- name: insert_transition
-- One more row of the chain.
insert into transitions (onboarding_id, seq, at, from_state, to_state, event, round, actor, detail, hash)
values (:onboarding_id, :seq, :at, :from_state, :to_state, :event, :round, :actor, :detail, :hash);

-- name: transitions
-- The chain of one onboarding.
select * from transitions where onboarding_id = :onboarding_id order by seq;

-- name: insert_callback_token
-- The secret of one round's callbackUrl.
insert into callback_tokens (hash, onboarding_id, round, sealed, created_at)
values (:hash, :onboarding_id, :round, :sealed, :created_at);

-- name: addressee
-- Whose callbackUrl this is, and the round it was made for.
select onboardings.*, callback_tokens.round as url_round
from callback_tokens join onboardings on onboardings.id = callback_tokens.onboarding_id
where callback_tokens.hash = :hash;

-- name: callback_token_of_round
-- The callbackUrl's secret that all attempts of a round send.
select * from callback_tokens where onboarding_id = :onboarding_id and round = :round;

-- name: put_callback
-- A callback, or what became of it.
insert into callbacks (id, received_at, app_id, timestamp, token_hash, onboarding_id, round, type, kyc_status,
    osl_user_id, body_sealed, body_sha256, verdict, seen)
values (:id, :received_at, :app_id, :timestamp, :token_hash, :onboarding_id, :round, :type, :kyc_status,
    :osl_user_id, :body_sealed, :body_sha256, :verdict, :seen)
on conflict (id) do update set verdict = excluded.verdict, onboarding_id = excluded.onboarding_id,
    round = excluded.round;

-- name: callbacks
-- The callbacks of one onboarding, in the order of arrival.
select * from callbacks where onboarding_id = :onboarding_id order by received_at, timestamp, id;

-- name: callbacks_to_judge_by
-- Those of an onboarding that bear on one more: of the same identity, forged (few are kept), the newest that was
-- believed in this round, and the claim. However many there are, few are read.
select * from callbacks where onboarding_id = :onboarding_id and (
        (token_hash = :token_hash and app_id = :app_id and timestamp = :timestamp)
        or verdict = 'forged' or id = :claim_callback
        or id = (select id from callbacks where onboarding_id = :onboarding_id and verdict = 'applied' and round = :round
            order by timestamp desc limit 1))
    order by received_at, timestamp, id;

-- name: orphans_like
-- Unmatched callbacks of the same identity.
select * from callbacks where onboarding_id is null and app_id = :app_id and timestamp = :timestamp;

-- name: orphans_of
-- Unmatched callbacks that name this OSL userId.
select * from callbacks where onboarding_id is null and osl_user_id = :osl_user_id order by received_at, timestamp, id;

-- name: trim_orphans
-- Unmatched callbacks are a ring: the oldest beyond the size go.
delete from callbacks where onboarding_id is null and id in (
    select id from callbacks where onboarding_id is null order by received_at desc, id desc
    limit 1000000 offset :keep);

-- name: seen_again
-- The same callback came once more.
update callbacks set seen = seen + 1 where id = :id returning verdict;

-- name: insert_delivery
-- One more notification for the merchant; due at once unless an earlier one of this onboarding is pending.
insert into deliveries (id, onboarding_id, seq, type, body_sealed, status, created_at, due_at, attempts)
select :id, :onboarding_id, coalesce((select max(seq) from deliveries where onboarding_id = :onboarding_id), 0) + 1,
    :type, :body_sealed, 'pending', :created_at,
    case when exists (select 1 from deliveries where onboarding_id = :onboarding_id and status = 'pending')
        then null else :created_at end, 0;

-- name: deliveries
-- The notifications of one onboarding in order.
select * from deliveries where onboarding_id = :onboarding_id order by seq;

-- name: delivery
-- One notification.
select * from deliveries where id = :id;

-- name: claim_deliveries
-- Due notifications, leased to one worker; at most one of an onboarding is ever due.
with due as materialized (select id from deliveries where due_at is not null and due_at <= :now
    and (lease_until is null or lease_until <= :now or lease_until > :furthest)
    order by due_at limit :limit $skip_locked)
update deliveries set lease = :lease, lease_until = :lease_until where id in (select id from due) returning *;

-- name: settle_delivery
-- What became of a try; guarded by the lease.
update deliveries set status = :status, due_at = :due_at, attempts = :attempts, last_error = :last_error,
    delivered_at = :delivered_at, lease = null, lease_until = null
where id = :id and lease = :lease;

-- name: lock_onboarding
-- Whatever else is written about this onboarding waits: notifications keep their order.
select id from onboardings where id = :id $for_update;

-- name: next_delivery
-- The next notification in line becomes due.
update deliveries set due_at = :now where id in (
    select id from deliveries where onboarding_id = :onboarding_id and status = 'pending' order by seq limit 1)
    and due_at is null;

-- name: forget_delivery
-- What a notification said that is over, about a user of whom nothing is kept any more.
update deliveries set body_sealed = :nothing where id = :id and status <> 'pending' and onboarding_id in (
    select id from onboardings where id = deliveries.onboarding_id and profile_deleted_at is not null);

-- name: resend_delivery
-- Put a finished notification back in line, if what it said is still kept.
update deliveries set status = 'pending', attempts = 0, last_error = null,
    due_at = case when exists (select 1 from deliveries d where d.onboarding_id = deliveries.onboarding_id
        and d.status = 'pending') then null else :now end
where id = :id and status <> 'pending' and body_sealed <> :nothing;

-- name: claim_lane
-- Due rows of one lane, leased to one worker.
with due as materialized (select id from onboardings where lane = :lane and due_at is not null and due_at <= :now
    and (lease_until is null or lease_until <= :now or lease_until > :furthest)
    order by due_at limit :limit $skip_locked)
update onboardings set lease = :lease, lease_until = :lease_until where id in (select id from due) returning *;

-- name: claim_probe
-- One due row of a lane to try an unhealthy provider with: another one than the last, if there is one.
with due as materialized (select id from onboardings where lane = :lane and due_at is not null and due_at <= :now
    and (lease_until is null or lease_until <= :now or lease_until > :furthest)
    and (id <> :last_probed or cast(:last_probed as text) is null)
    order by due_at limit 1 $skip_locked)
update onboardings set lease = :lease, lease_until = :lease_until where id in (select id from due) returning *;

-- name: next_due
-- When the next row of a lane is due that nobody holds.
select due_at from onboardings where lane = :lane and due_at is not null
    and (lease_until is null or lease_until <= :now or lease_until > :furthest) order by due_at limit 1;

-- name: all_next_due
-- All that a worker waits for: `next_due` of every lane, notifications, a free slot, and when an unhealthy provider
-- may be tried.
select (select due_at from onboardings where lane = 'confirm' and due_at is not null
        and (lease_until is null or lease_until <= :now or lease_until > :furthest) order by due_at limit 1) as confirm,
    (select due_at from onboardings where lane = 'share' and due_at is not null
        and (lease_until is null or lease_until <= :now or lease_until > :furthest) order by due_at limit 1) as share,
    (select due_at from onboardings where lane = 'poll' and due_at is not null
        and (lease_until is null or lease_until <= :now or lease_until > :furthest) order by due_at limit 1) as poll,
    (select due_at from onboardings where lane = 'upload' and due_at is not null
        and (lease_until is null or lease_until <= :now or lease_until > :furthest) order by due_at limit 1) as upload,
    (select due_at from onboardings where lane = 'local' and due_at is not null
        and (lease_until is null or lease_until <= :now or lease_until > :furthest) order by due_at limit 1) as local,
    (select due_at from deliveries where due_at is not null
        and (lease_until is null or lease_until <= :now or lease_until > :furthest) order by due_at limit 1) as delivery,
    (select min(free_at) from slots) as slot,
    (select next_probe_at from providers where name = 'osl') as osl_probe,
    (select next_probe_at from providers where name = 'btse') as btse_probe;

-- name: count_due
-- How many steps of a lane are due, counted up to a limit; and since when.
select count(*) as steps, min(due_at) as oldest from (select due_at from onboardings
    where lane = :lane and due_at is not null and due_at <= :now order by due_at limit :limit) as due;

-- name: oldest_delivery
-- Since when the oldest notification is due.
select min(due_at) as due_at from deliveries where due_at is not null;

-- name: wake_unauthorized
-- A provider is healthy again: rows that waited for it go on now, with what they waited for: their step or a question.
update onboardings set version = version + 1, due_at = :now,
    step_at = case when step_at = due_at then :now else step_at end,
    ask_at = case when ask_at = due_at then :now else ask_at end
where lane = :lane and unauthorized > 0 and due_at > :now;

-- name: take_slot
-- One request of OSL Pay's budget: the slot is free again when the holder says so, or when its time is over.
update slots set free_at = :free_at, lane = :lane, holder = :holder
where id = (select id from slots where free_at <= :now order by free_at limit 1 $skip_locked)
returning id;

-- name: mend_slots
-- No slot is taken for so long: a clock was set back meanwhile.
update slots set free_at = :now where free_at > :furthest;

-- name: mend_probes
-- No unhealthy provider is left alone for so long: a clock was set back meanwhile. Which ones were.
update providers set next_probe_at = :now where next_probe_at > :furthest returning name;

-- name: free_slot
-- The answer was read: the slot is free one second later.
update slots set free_at = :free_at where id = :id and holder = :holder;

-- name: slots_in_use
-- How many slots are not free, by the lane that took them.
select lane, count(*) as slots from slots where free_at > :now group by lane;

-- name: count_slots
-- How many slots there are.
select count(*) as slots from slots;

-- name: add_slot
-- One more request per second.
insert into slots (id, free_at) values (:id, 0) on conflict (id) do nothing;

-- name: drop_slots
-- Fewer requests per second.
delete from slots where id > :count;

-- name: provider
-- What is known of a provider's health.
select * from providers where name = :name;

-- name: provider_to_change
-- The same, and nobody else changes it meanwhile.
select * from providers where name = :name $for_update;

-- name: put_provider
-- What is known of a provider's health now.
insert into providers (name, unauthorized_ids, unhealthy_since, next_probe_at, last_probed, last_success_at,
    last_success_of, last_failure_at, last_failure, skew_ms)
values (:name, :unauthorized_ids, :unhealthy_since, :next_probe_at, :last_probed, :last_success_at,
    :last_success_of, :last_failure_at, :last_failure, :skew_ms)
on conflict (name) do update set unauthorized_ids = excluded.unauthorized_ids,
    unhealthy_since = excluded.unhealthy_since, next_probe_at = excluded.next_probe_at,
    last_probed = excluded.last_probed, last_success_at = excluded.last_success_at,
    last_success_of = excluded.last_success_of,
    last_failure_at = excluded.last_failure_at, last_failure = excluded.last_failure, skew_ms = excluded.skew_ms;

-- name: probe_now
-- An operator does not want to wait until an unhealthy provider is tried again.
update providers set next_probe_at = :now where name = :name and next_probe_at > :now;

-- name: documents_past
-- Onboardings that ended before a time and still have documents.
select distinct d.onboarding_id as id from documents d join onboardings o on o.id = d.onboarding_id
where coalesce(o.closed_at, o.settled_at) < :before and d.onboarding_id > :after order by d.onboarding_id limit :limit;

-- name: profiles_past
-- Onboardings that ended before a time and still have their profile.
select id from onboardings where profile_deleted_at is null and coalesce(closed_at, settled_at) is not null
    and coalesce(closed_at, settled_at) < :before and id > :after order by id limit :limit;

-- name: blank_callbacks
-- The bodies of an onboarding's callbacks, and whom they name, are no longer kept: a hash would tell it to who guesses.
update callbacks set body_sealed = :nothing, body_sha256 = '', osl_user_id = null where onboarding_id = :onboarding_id;

-- name: blank_deliveries
-- The bodies of notifications that are over are no longer kept.
update deliveries set body_sealed = :nothing where onboarding_id = :onboarding_id and status <> 'pending';

-- name: take_chore
-- Whoever changes the row does the chore this time. What was done so far ahead was done by a clock that was set back.
insert into chores (name, done_at) values (:name, :now)
on conflict (name) do update set done_at = excluded.done_at
where chores.done_at <= :before or chores.done_at > :furthest;

-- name: beat
-- A worker is alive.
insert into workers (id, started_at, beat_at) values (:id, :now, :now)
on conflict (id) do update set beat_at = excluded.beat_at;

-- name: forget_workers
-- Workers that have been silent for long.
delete from workers where beat_at < :before;

-- name: stop_worker
-- A worker stopped cleanly.
delete from workers where id = :id;

-- name: last_beat
-- When any worker was last seen.
select max(beat_at) as beat_at from workers;

-- name: insert_token
-- A new access token.
insert into access_tokens (name, role, hash, created_at) values (:name, :role, :hash, :created_at);

-- name: tokens
-- All access tokens.
select * from access_tokens order by created_at, name;

-- name: token_of_hash
-- The token that was presented.
select * from access_tokens where hash = :hash and revoked_at is null;

-- name: revoke_token
-- A token that must not work any more.
update access_tokens set revoked_at = :now where name = :name and revoked_at is null;

-- name: insert_session
-- A browser signed in.
insert into sessions (hash, token_name, created_at, seen_at) values (:hash, :token_name, :now, :now);

-- name: session
-- A session whose token still works.
select s.hash, s.token_name, t.role, s.created_at, s.seen_at from sessions s
join access_tokens t on t.name = s.token_name where s.hash = :hash and t.revoked_at is null;

-- name: touch_session
-- The session was used.
update sessions set seen_at = :now where hash = :hash;

-- name: remove_session
-- Signed out.
delete from sessions where hash = :hash;

-- name: remove_old_sessions
-- Sessions that are over.
delete from sessions where created_at < :created_before or seen_at < :seen_before;

-- name: lock_login_failures
-- Wrong tokens are forgotten now; whoever else counts them waits until this is committed.
insert into chores (name, done_at) values ('login failures', :now)
on conflict (name) do update set done_at = excluded.done_at;

-- name: insert_login_failure
-- A wrong token from an address.
insert into login_failures (address_hash, at) values (:address_hash, :at);

-- name: login_failures
-- How many wrong tokens an address sent lately, and since when.
select count(*) as failures, min(at) as first_at from login_failures
where address_hash = :address_hash and at > :since;

-- name: forget_login_failures
-- Failures that no longer count.
delete from login_failures where at <= :before;

-- name: onboarding_heads
-- Every onboarding's chain head, by id from a cursor on.
select id, state, seq, hash from onboardings where id > :after order by id limit :limit;

-- name: stray_transitions
-- Chains without an onboarding.
select distinct onboarding_id from transitions t
where not exists (select 1 from onboardings o where o.id = t.onboarding_id) limit :limit;

-- name: sealed_callbacks
-- Bodies of callbacks, to be sealed anew.
select id, 'callbacks ' || id || ' body' as place, body_sealed as sealed from callbacks where id > :after
order by id limit :limit;

-- name: sealed_deliveries
-- Bodies of notifications, to be sealed anew.
select id, 'deliveries ' || id || ' body' as place, body_sealed as sealed from deliveries where id > :after
order by id limit :limit;

-- name: sealed_callback_tokens
-- Secrets of callbackUrls, to be sealed anew.
select hash, 'callback_tokens ' || onboarding_id || ' ' || round as place, sealed from callback_tokens
where hash > :after order by hash limit :limit;

-- name: reseal_callbacks
-- The same body under the first key.
update callbacks set body_sealed = :new where id = :key and body_sealed = :old;

-- name: reseal_deliveries
-- The same body under the first key.
update deliveries set body_sealed = :new where id = :key and body_sealed = :old;

-- name: reseal_callback_tokens
-- The same secret under the first key.
update callback_tokens set sealed = :new where hash = :key and sealed = :old;

-- name: transition
-- One row of a chain.
select * from transitions where onboarding_id = :onboarding_id and seq = :seq;

-- name: document_locations
-- Where the files of all documents lie.
select location from documents where location > :after order by location limit :limit;

-- name: any_row
-- Whether anything is stored.
select 1 as found from onboardings union select 1 from access_tokens limit 1;

-- name: sealed_columns
-- What is sealed in the onboardings' own rows, to count which key sealed how much.
select id, profile_sealed, link_sealed, reason_sealed, last_error_sealed from onboardings where id > :after order by id limit :limit;

-- name: callback
-- One callback by its id.
select * from callbacks where id = :id;

-- name: list_newest_created
-- A page of all, newest first by the signup.
select * from onboardings where created_at >= :since
    and (created_at, id) < (:at, :id) order by created_at desc, id desc limit :limit;

-- name: list_newest_created_of_state
-- A page of one state, newest first by the signup.
select * from onboardings where state = :state and created_at >= :since
    and (created_at, id) < (:at, :id) order by created_at desc, id desc limit :limit;

-- name: list_oldest_created
-- A page of all, oldest first by the signup.
select * from onboardings where created_at <= :until
    and (created_at, id) > (:at, :id) order by created_at asc, id asc limit :limit;

-- name: list_oldest_created_of_state
-- A page of one state, oldest first by the signup.
select * from onboardings where state = :state and created_at <= :until
    and (created_at, id) > (:at, :id) order by created_at asc, id asc limit :limit;

-- name: list_newest_changed
-- A page of all, newest first by the last change.
select * from onboardings where updated_at >= :since
    and (updated_at, id) < (:at, :id) order by updated_at desc, id desc limit :limit;

-- name: list_newest_changed_of_state
-- A page of one state, newest first by the last change.
select * from onboardings where state = :state and updated_at >= :since
    and (updated_at, id) < (:at, :id) order by updated_at desc, id desc limit :limit;

-- name: list_oldest_changed
-- A page of all, oldest first by the last change.
select * from onboardings where updated_at <= :until
    and (updated_at, id) > (:at, :id) order by updated_at asc, id asc limit :limit;

-- name: list_oldest_changed_of_state
-- A page of one state, oldest first by the last change.
select * from onboardings where state = :state and updated_at <= :until
    and (updated_at, id) > (:at, :id) order by updated_at asc, id asc limit :limit;

-- name: page_of_verdict
-- Onboardings by their newest callback of a verdict; a bounded number of callbacks is looked through. (`|| ''` keeps
-- the planner from reading all of a verdict where it should read those of one onboarding.)
select o.*, c.received_at as came_at, c.id as came_id from (
    select id, onboarding_id, received_at from callbacks where verdict = :verdict and onboarding_id is not null
    and received_at >= :since and (received_at, id) < (:at, :id)
    order by received_at desc, id desc limit :looked) c
join onboardings o on o.id = c.onboarding_id
where (cast(:state as text) is null or o.state = :state) and not exists (
    select 1 from callbacks d where d.onboarding_id = c.onboarding_id and d.verdict || '' = :verdict
    and (d.received_at, d.id) > (c.received_at, c.id))
order by c.received_at desc, c.id desc limit :limit;

-- name: looked_through
-- The last callback that such a page looked at, if there may be more.
select id, received_at from callbacks where verdict = :verdict and onboarding_id is not null
    and received_at >= :since and (received_at, id) < (:at, :id)
    order by received_at desc, id desc limit 1 offset :skipped;

-- name: count_flow
-- So many more of something in an hour or a day.
insert into flow (span, begins_at, what, number) values (:span, :begins_at, :what, :difference)
on conflict (span, begins_at, what) do update set number = flow.number + excluded.number;

-- name: flow
-- What was counted by the hour or by the day.
select begins_at, what, number from flow where span = :span and begins_at >= :since;

-- name: forget_hours
-- Counts by the hour that no page shows any more.
delete from flow where span = 'hour' and begins_at < :before;

-- name: failing
-- What a provider keeps from going on, since the longest time.
select * from onboardings where failing_since is not null order by failing_since limit :limit;

-- name: overdue
-- What should have been done by now.
select * from onboardings where lane = :lane and due_at is not null and due_at <= :before order by due_at limit :limit;

-- name: failed_deliveries
-- What the merchant was not told, newest first.
select * from deliveries where status = 'failed' order by created_at desc limit :limit;
