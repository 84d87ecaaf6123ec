-- Before the switch: it makes an empty database one of ours.
-- Times are unix milliseconds. $int, $bytes and $strict are the marks that the driver fills.

create table onboardings (
    id text primary key not null,
    merchant_user_id text not null,
    state text not null check (state in ('collecting', 'uploading', 'sharing', 'awaiting_callback', 'in_review',
        'confirming', 'approved', 'rejected', 'needs_attention', 'cancelled', 'expired')),
    created_at $int not null,
    updated_at $int not null,
    profile_sealed $bytes not null,
    email_hash text not null,
    link_hash text not null unique,
    link_sealed $bytes not null,
    round $int not null check (round >= 1),
    version $int not null check (version >= 1),
    seq $int not null check (seq >= 0),
    hash text not null,
    resume text check (resume in ('collecting', 'uploading', 'sharing', 'awaiting_callback', 'in_review',
        'confirming', 'approved', 'rejected', 'needs_attention', 'cancelled', 'expired')),
    claim_resume text check (claim_resume in ('collecting', 'uploading', 'sharing', 'awaiting_callback',
        'in_review', 'confirming', 'approved', 'rejected', 'needs_attention', 'cancelled', 'expired')),
    claim text check (claim in ('callback_pass', 'callback_reject', 'callback_final_reject')),
    claim_callback text,
    contradictions $int not null check (contradictions >= 0),
    contradicted_at $int,
    doubted_at $int,
    osl_user_id text,
    kyc_status text,
    reason_sealed $bytes,
    last_error_sealed $bytes,
    lane text check (lane in ('confirm', 'share', 'poll', 'upload', 'local')),
    due_at $int,
    step_at $int,
    ask_at $int,
    asked_at $int,
    lease text,
    lease_until $int,
    attempts $int not null check (attempts >= 0),
    failing_since $int,
    unauthorized $int not null check (unauthorized >= 0),
    changed $int not null check (changed in (0, 1)),
    share text not null check (share in ('none', 'intended', 'lost', 'arrived')),
    share_losses $int not null check (share_losses >= 0),
    share_questions $int not null check (share_questions >= 0),
    share_sent_at $int,
    prior_reject $int not null check (prior_reject in (0, 1)),
    polls $int not null check (polls >= 0),
    poll_rejects $int not null check (poll_rejects >= 0),
    told text not null check (told in ('collecting', 'uploading', 'sharing', 'awaiting_callback', 'in_review',
        'confirming', 'approved', 'rejected', 'needs_attention', 'cancelled', 'expired')),
    submitted_at $int,
    settled_at $int,
    closed_at $int,
    profile_deleted_at $int,
    erased_at $int,
    check ((lane is null) = (due_at is null)),
    check ((lease is null) = (lease_until is null)),
    check ((claim is null) = (claim_callback is null)),
    check (state <> 'confirming' or claim is not null)
) $strict;

-- One live onboarding per merchantUserId; a user may have been erased any number of times.
create unique index onboardings_live on onboardings (merchant_user_id)
    where state not in ('cancelled', 'expired') and erased_at is null;
create index onboardings_merchant_user on onboardings (merchant_user_id, created_at);
create index onboardings_due on onboardings (lane, due_at) where due_at is not null;
create index onboardings_newest on onboardings (created_at, id);
create index onboardings_state on onboardings (state, created_at, id);
create index onboardings_email on onboardings (email_hash);
create index onboardings_osl_user on onboardings (osl_user_id) where osl_user_id is not null;
create index onboardings_unauthorized on onboardings (lane) where unauthorized > 0;

create index onboardings_ended on onboardings ((coalesce(closed_at, settled_at)))
    where profile_deleted_at is null and coalesce(closed_at, settled_at) is not null;

create table state_counts (
    state text primary key not null,
    onboardings $int not null
) $strict;

create table signups (
    webhook_id text primary key not null,
    onboarding_id text not null references onboardings (id),
    received_at $int not null
) $strict;

create table links (
    hash text primary key not null,
    onboarding_id text not null references onboardings (id),
    replaced_at $int not null
) $strict;

create table documents (
    onboarding_id text not null references onboardings (id),
    kind text not null check (kind in ('idFileFront', 'idFileBack', 'selfie', 'amlReport')),
    media_type text not null check (media_type in ('image/jpeg', 'image/png', 'application/pdf')),
    size $int not null check (size > 0),
    sha256 text not null,
    location text not null,
    uploaded_at $int not null,
    url_sealed $bytes,
    url_at $int,
    primary key (onboarding_id, kind),
    check ((url_sealed is null) = (url_at is null))
) $strict;

create unique index documents_location on documents (location);

create table transitions (
    onboarding_id text not null references onboardings (id),
    seq $int not null check (seq >= 1),
    at $int not null,
    from_state text,
    to_state text not null,
    event text not null,
    round $int not null,
    actor text not null,
    detail text not null,
    hash text not null,
    primary key (onboarding_id, seq)
) $strict;

create table callback_tokens (
    hash text primary key not null,
    onboarding_id text not null references onboardings (id),
    round $int not null,
    sealed $bytes not null,
    created_at $int not null,
    unique (onboarding_id, round)
) $strict;

create table callbacks (
    id text primary key not null,
    received_at $int not null,
    app_id text not null,
    timestamp $int not null,
    token_hash text not null,
    onboarding_id text references onboardings (id),
    round $int,
    type text not null,
    kyc_status text,
    osl_user_id text,
    body_sealed $bytes not null,
    body_sha256 text not null,
    verdict text not null check (verdict in ('applied', 'forged', 'ignored', 'stale', 'outdated', 'superseded',
        'early', 'contradicted', 'unaddressed', 'orphan')),
    seen $int not null check (seen >= 1)
) $strict;

-- The identity of a webhook is (appId, timestamp) within its token; a forged one claims no identity.
create unique index callbacks_identity on callbacks (onboarding_id, token_hash, app_id, timestamp)
    where verdict <> 'forged' and onboarding_id is not null;
create index callbacks_of on callbacks (onboarding_id, received_at);
create index callbacks_orphans on callbacks (received_at, osl_user_id) where onboarding_id is null;

create table deliveries (
    id text primary key not null,
    onboarding_id text not null references onboardings (id),
    seq $int not null,
    type text not null,
    body_sealed $bytes not null,
    status text not null check (status in ('pending', 'delivered', 'failed')),
    created_at $int not null,
    due_at $int,
    attempts $int not null check (attempts >= 0),
    lease text,
    lease_until $int,
    last_error text,
    delivered_at $int,
    unique (onboarding_id, seq)
) $strict;
create index deliveries_due on deliveries (due_at) where due_at is not null;

create table access_tokens (
    name text primary key not null,
    role text not null check (role in ('merchant', 'operator', 'viewer')),
    hash text not null unique,
    created_at $int not null,
    revoked_at $int
) $strict;

create table sessions (
    hash text primary key not null,
    token_name text not null references access_tokens (name),
    created_at $int not null,
    seen_at $int not null
) $strict;

create table login_failures (
    address_hash text not null,
    at $int not null
) $strict;
create index login_failures_of on login_failures (address_hash, at);

create table slots (
    id $int primary key not null,
    free_at $int not null,
    lane text,
    holder text
) $strict;

create table providers (
    name text primary key not null,
    unauthorized_ids text not null,
    unhealthy_since $int,
    next_probe_at $int,
    last_probed text,
    last_success_at $int,
    last_success_of text,
    last_failure_at $int,
    last_failure text,
    skew_ms $int
) $strict;

create table chores (
    name text primary key not null,
    done_at $int not null
) $strict;

create table workers (
    id text primary key not null,
    started_at $int not null,
    beat_at $int not null
) $strict;
