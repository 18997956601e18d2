"""Workitems, subscriptions, and the events that wait for their subscribers."""

from alembic import op

revision = "0001"
down_revision = None

_SCHEMA = """
CREATE TABLE workitems (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    uid text COLLATE "C" NOT NULL UNIQUE,
    transaction_uid text,
    -- Empty once deleted_at is set: the row stays, so that its UID is known to have been used (410).
    dataset jsonb NOT NULL,
    state text COLLATE "C" GENERATED ALWAYS AS (dataset #>> '{00741000,Value,0}') STORED,
    patient_id text COLLATE "C" GENERATED ALWAYS AS (dataset #>> '{00100020,Value,0}') STORED,
    patient_name_alphabetic text COLLATE "C"
        GENERATED ALWAYS AS (lower(dataset #>> '{00100010,Value,0,Alphabetic}' COLLATE "und-x-icu")) STORED,
    patient_name_ideographic text COLLATE "C"
        GENERATED ALWAYS AS (lower(dataset #>> '{00100010,Value,0,Ideographic}' COLLATE "und-x-icu")) STORED,
    patient_name_phonetic text COLLATE "C"
        GENERATED ALWAYS AS (lower(dataset #>> '{00100010,Value,0,Phonetic}' COLLATE "und-x-icu")) STORED,
    scheduled_start timestamptz,
    modified timestamptz,
    expected_completion timestamptz,
    finished_at timestamptz,
    deleted_at timestamptz
) WITH (fillfactor = 80);
CREATE INDEX workitems_state ON workitems (state, id);
CREATE INDEX workitems_patient_id ON workitems (patient_id, id);
CREATE INDEX workitems_name_alphabetic ON workitems (patient_name_alphabetic);
CREATE INDEX workitems_name_ideographic ON workitems (patient_name_ideographic) WHERE patient_name_ideographic IS NOT NULL;
CREATE INDEX workitems_name_phonetic ON workitems (patient_name_phonetic) WHERE patient_name_phonetic IS NOT NULL;
CREATE INDEX workitems_scheduled_start ON workitems (scheduled_start);
CREATE INDEX workitems_modified ON workitems (modified);
CREATE INDEX workitems_expected_completion ON workitems (expected_completion);
CREATE INDEX workitems_finished_at ON workitems (finished_at) WHERE deleted_at IS NULL AND finished_at IS NOT NULL;
CREATE INDEX workitems_dataset ON workitems USING gin (dataset jsonb_path_ops);

CREATE TABLE worklist_subscriptions (
    aetitle text COLLATE "C" NOT NULL,
    worklist text COLLATE "C" NOT NULL,
    deletion_lock boolean NOT NULL,
    filter jsonb NOT NULL,
    suspended boolean NOT NULL DEFAULT false,
    PRIMARY KEY (aetitle, worklist)
);

CREATE TABLE workitem_subscriptions (
    uid text COLLATE "C" NOT NULL REFERENCES workitems (uid),
    aetitle text COLLATE "C" NOT NULL,
    deletion_lock boolean NOT NULL,
    -- The worklist whose subscription made this one; empty for one that was asked for by itself.
    worklist text COLLATE "C" NOT NULL,
    PRIMARY KEY (uid, aetitle)
);
CREATE INDEX workitem_subscriptions_aetitle ON workitem_subscriptions (aetitle);

CREATE TABLE events (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    aetitle text COLLATE "C" NOT NULL,
    body jsonb NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX events_aetitle ON events (aetitle, id);
CREATE INDEX events_created_at ON events (created_at);

-- Which connection has a subscriber's channel: the one that was opened last.
CREATE TABLE channels (
    aetitle text COLLATE "C" PRIMARY KEY,
    connection text NOT NULL
);
"""


def upgrade() -> None:
    """Make the schema."""
    op.execute(_SCHEMA)
