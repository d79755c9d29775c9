//! A DoS that has grown: more services, a larger archive, longer histories.

use anyhow::Result;
use clap::ValueEnum;
use dosi_tests::dos::Dos;
use tokio_postgres::Client;

use crate::figures::Figures;
use crate::ground::Ground;
use crate::statements::Counting;

/// Rows of the archive that count as one: a year or so of events. Bodies are small, keys are what grows.
pub const ARCHIVE_ROWS: u32 = 500_000;
/// Rows of one statement of the bare prepend, as in a batch of dosi.
const PREPENDED_TOGETHER: usize = 500;
/// Histories that are prepended to.
const PREPENDED: i64 = 10_000;

/// Copies of every service with all that hangs on it, under other codes: England's begin with an F, the copies' with the letters
/// that follow. What refers to what is right by construction, so nothing is checked.
const MORE_SERVICES: &str = "SET search_path = pathwaysdos; SET session_replication_role = replica;
    DO $$ DECLARE each record; BEGIN
        FOR each IN SELECT * FROM (VALUES
            ('services', 'id = id + 100000, uid = (uid::bigint + 100000)::text,
                odscode = chr(ascii(odscode) + 1) || substr(odscode, 2)', 'typeid <> -1'),
            ('servicedayopenings', 'id = id + 10000000, serviceid = serviceid + 100000', 'true'),
            ('servicedayopeningtimes', 'id = id + 10000000, servicedayopeningid = servicedayopeningid + 10000000', 'true'),
            ('servicespecifiedopeningdates', 'id = id + 10000000, serviceid = serviceid + 100000', 'true'),
            ('servicespecifiedopeningtimes',
                'id = id + 10000000, servicespecifiedopeningdateid = servicespecifiedopeningdateid + 10000000', 'true'),
            ('servicesgsds', 'id = id + 10000000, serviceid = serviceid + 100000', 'true'),
            ('servicehistories', 'serviceid = serviceid + 100000', 'true'),
            ('changes', 'id = id || ''+'', serviceid = serviceid + 100000', 'true')
        ) AS tables(name, next_copy, wanted) LOOP
            EXECUTE format('CREATE TEMP TABLE copied AS SELECT * FROM pathwaysdos.%I WHERE %s', each.name, each.wanted);
            FOR copy IN 2..{factor} LOOP
                EXECUTE format('UPDATE copied SET %s', each.next_copy);
                EXECUTE format('INSERT INTO pathwaysdos.%I SELECT * FROM copied', each.name);
            END LOOP;
            DROP TABLE copied;
            IF each.next_copy LIKE 'id = id + %' THEN
                EXECUTE format('SELECT setval(''pathwaysdos.%s_id_seq'', (SELECT max(id) FROM pathwaysdos.%I))', each.name, each.name);
            END IF;
        END LOOP;
    END $$";
const MORE_ARCHIVE: &str = "INSERT INTO dos_integration.change_event_archive
        (ods_code, sequence_number, received_at, event, correlation_id, source_topic, source_partition, source_offset)
    SELECT 'F' || upper(substr(md5((n % 11207)::text), 1, 4)), n, timestamptz '2026-01-01' + n * interval '1 second', '{}',
        md5(n::text), 'dos.change-events', n % 12, n
    FROM generate_series(1, {rows}) AS n";
/// Older entries made of the newest ones: the words stay, as they do in real histories, all digits are others.
const LONGER_HISTORIES: &str = "UPDATE pathwaysdos.servicehistories AS h SET history = '{' || inside || (
        SELECT string_agg(',' || translate(inside, '0123456789', substr('01234567890123456789', 1 + n % 10, 10)), '')
        FROM generate_series(1, {factor} - 1) AS n) || '}'
    FROM (SELECT serviceid AS id, substr(history, 2, length(history) - 2) AS inside FROM pathwaysdos.servicehistories) AS old
    WHERE old.id = h.serviceid AND old.inside <> ''";
const PREPEND: &str =
    "UPDATE pathwaysdos.servicehistories AS h SET history = '{' || w.entry || ',' || right(h.history, -1)
    FROM unnest($1::int[], $2::text[]) AS w(serviceid, entry) WHERE h.serviceid = w.serviceid";

/// As dosi sets it for its sessions: the bare statement must not be dearer for a worse plan.
const BY_KEY: &str = "SET enable_seqscan = off; SET enable_hashjoin = off; SET enable_mergejoin = off; SET jit = off";

/// What has grown.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Growth {
    Services,
    Archive,
    History,
    /// Of the topic, not of DoS
    Backlog,
}

impl Growth {
    pub fn name(self) -> &'static str {
        match self {
            Self::Services => "services",
            Self::Archive => "archive",
            Self::History => "history length",
            Self::Backlog => "backlog",
        }
    }

    /// Nothing to do is a statement that does nothing.
    fn sql(self, factor: u32) -> String {
        match self {
            Self::Archive => MORE_ARCHIVE.replace("{rows}", &(factor * ARCHIVE_ROWS).to_string()),
            Self::Services | Self::History if factor == 1 => String::new(),
            Self::Backlog => String::new(),
            Self::Services => MORE_SERVICES.replace("{factor}", &factor.to_string()),
            Self::History => LONGER_HISTORIES.replace("{factor}", &factor.to_string()),
        }
    }
}

/// A template `name` that is `from`, grown by a factor.
pub async fn make(ground: &Ground, name: &str, from: &str, growth: Growth, factor: u32) -> Result<()> {
    let dos = Dos::create_named(&ground.addresses, name, from).await?;
    dos.client().batch_execute(&growth.sql(factor)).await?;
    dos.client().batch_execute("VACUUM ANALYZE").await?;
    dos.close(&ground.addresses, name).await
}

/// Microseconds that one entry of the usual size takes to prepend with a bare statement.
pub async fn bare_prepend(client: &Client) -> Result<f64> {
    let ids = "SELECT serviceid FROM pathwaysdos.servicehistories ORDER BY serviceid LIMIT $1";
    let ids: Vec<i32> = client.query(ids, &[&PREPENDED]).await?.iter().map(|row| row.get(0)).collect();
    let entry =
        "SELECT left(substr(history, 2), 600) FROM pathwaysdos.servicehistories ORDER BY length(history) DESC LIMIT 1";
    let entry: String = client.query_one(entry, &[]).await?.get(0);
    client.batch_execute(BY_KEY).await?;
    let statement = client.prepare(PREPEND).await?;
    let counting = Counting::begin(client).await?;
    for some in ids.chunks(PREPENDED_TOGETHER) {
        client.execute(&statement, &[&some, &vec![entry.as_str(); some.len()]]).await?;
    }
    let executed = counting.executed(client).await?;
    #[expect(clippy::cast_precision_loss, reason = "some thousand")]
    Ok(executed.seconds * 1e6 / ids.len() as f64)
}

/// How many histories the database has prepended to so far.
pub async fn histories_written(client: &Client) -> Result<f64> {
    let read = "SELECT n_tup_upd::float8 FROM pg_stat_user_tables WHERE relname = 'servicehistories'";
    Ok(client.query_one(read, &[]).await?.get(0))
}

/// Microseconds an event: of the clock, and of the processors that dosi and PostgreSQL used.
pub fn cost(figures: &Figures, events: usize) -> (f64, f64) {
    #[expect(clippy::cast_precision_loss, reason = "some thousand")]
    let an_event = |seconds: f64| seconds * 1e6 / events as f64;
    let processors = figures.get("processor time of dosi") + figures.get("processor time of PostgreSQL");
    (an_event(figures.get("first to last commit in DoS")), an_event(processors))
}
