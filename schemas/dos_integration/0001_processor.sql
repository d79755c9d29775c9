-- What the processor keeps beside DoS. No statement here touches a table of DoS.

-- Where each partition stands (design: exactly once). Some dozen rows, each rewritten by every batch: a low fill factor
-- keeps the new version on the page of the old one, so that it needs no index entry and is pruned in passing (HOT).
CREATE TABLE dos_integration.consumer_position (
    topic         text        NOT NULL,
    partition     int         NOT NULL,
    position      bigint      NOT NULL,
    start         bigint      NOT NULL,
    halted_reason text,
    updated_at    timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (topic, partition)
) WITH (fillfactor = 20, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 2000);

-- What is applied and not yet known to be published: one row for a batch, written once, deleted in bulk. The payload is
-- never compressed (it is read once, soon); vacuum comes by the number of dead rows, whatever the size.
CREATE TABLE dos_integration.outbox (
    topic          text        NOT NULL,
    partition      int         NOT NULL,
    start_position bigint      NOT NULL,
    end_position   bigint      NOT NULL,
    events         int         NOT NULL,
    payload        bytea       NOT NULL,
    created_at     timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (topic, partition, start_position)
) WITH (
    autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 500, autovacuum_vacuum_cost_delay = 0,
    autovacuum_vacuum_insert_threshold = -1, toast.autovacuum_vacuum_scale_factor = 0,
    toast.autovacuum_vacuum_threshold = 2000, toast.autovacuum_vacuum_cost_delay = 0,
    toast.autovacuum_vacuum_insert_threshold = -1
);
ALTER TABLE dos_integration.outbox ALTER COLUMN payload SET STORAGE EXTERNAL;

-- The largest accepted sequence number of each ODS code (rule 1.4). Byte order, because codes are locked in it.
CREATE TABLE dos_integration.accepted_sequence (
    ods_code        text COLLATE "C" PRIMARY KEY,
    sequence_number bigint NOT NULL
) WITH (fillfactor = 60, autovacuum_vacuum_scale_factor = 0.1);

-- Every event that names an ODS code, without Staff (rule 1.5). Text, not jsonb, which refuses \u0000.
CREATE TABLE dos_integration.change_event_archive (
    ods_code         text        NOT NULL,
    sequence_number  bigint,
    received_at      timestamptz NOT NULL,
    event            text        NOT NULL,
    correlation_id   text        NOT NULL,
    source_topic     text        NOT NULL,
    source_partition int         NOT NULL,
    source_offset    bigint      NOT NULL,
    PRIMARY KEY (source_topic, source_partition, source_offset, received_at)
);
CREATE INDEX change_event_archive_ods_code ON dos_integration.change_event_archive (ods_code, sequence_number);
-- lz4 costs a fraction of the default compression; a server built without it keeps the default.
DO $$
BEGIN
    EXECUTE 'ALTER TABLE dos_integration.change_event_archive ALTER COLUMN event SET COMPRESSION lz4';
EXCEPTION WHEN OTHERS THEN
    NULL;
END
$$;

-- Rejection e-mails to send (rules 4.2 to 4.4). Personal data: rows go when they are sent.
CREATE TABLE dos_integration.mail_queue (
    id                 bigint      GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    change_id          text        NOT NULL,
    service_uid        text        NOT NULL,
    service_name       text        NOT NULL,
    creator_username   text        NOT NULL,
    creator_first_name text        NOT NULL,
    creator_last_name  text        NOT NULL,
    creator_email      text,
    changes            text        NOT NULL,
    correlation_id     text        NOT NULL,
    created_at         timestamptz NOT NULL,
    attempts           int         NOT NULL DEFAULT 0,
    next_attempt_at    timestamptz NOT NULL,
    last_error         text
);
CREATE INDEX mail_queue_next_attempt_at ON dos_integration.mail_queue (next_attempt_at);

-- Service histories that were no JSON object, as they were (rule 7.1).
CREATE TABLE dos_integration.kept_history (
    id         bigint      GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    service_id int         NOT NULL,
    kept_at    timestamptz NOT NULL,
    history    text        NOT NULL
);
