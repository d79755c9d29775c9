//! Personal data and secrets that tests plant wherever dosi can meet them, and the search for them in everything that dosi
//! leaves behind: logs, pages of metrics, archive, outbox, audit and dead letters.
//!
//! `with-stack` searches once its command has ended, so that every test is part of the proof. Where they belong (the input
//! topic, the tables of DoS, the mail queue) nothing is searched.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::message::{Headers, Message};
use rdkafka::{ClientConfig, Offset, TopicPartitionList};
use tokio_postgres::NoTls;

use crate::stack::Addresses;

/// The family name of everybody whom an event's `Staff` or a pending change names.
pub const FAMILY_NAME: &str = "Quillfeather";
/// The domain of their mail addresses, which can never be anyone's.
pub const MAIL_DOMAIN: &str = "planted.invalid";
/// Password of dosi's roles in the database.
pub const DATABASE_PASSWORD: &str = "planted-secret-of-the-database";
/// Password of dosi's user in Kafka.
pub const KAFKA_PASSWORD: &str = "planted-secret-of-kafka";
/// Password of dosi's user at the registry.
pub const REGISTRY_PASSWORD: &str = "planted-secret-of-the-registry";
/// One of these is part of all of them.
pub const MARKERS: [&str; 3] = [FAMILY_NAME, MAIL_DOMAIN, "planted-secret"];

/// The folder that keeps what processes of dosi printed and measured.
const KEPT: &str = "DOSI_TEST_KEPT";
/// Longer than any record may stay away.
const READ_WITHIN: Duration = Duration::from_secs(120);
const BROKER_TIMEOUT: Duration = Duration::from_secs(30);

/// A change event with a `Staff` of planted people in front.
pub fn with_staff(event: &str) -> String {
    let staff = format!(
        r#"{{"Staff":[{{"Title":"Dr","GivenName":"Zebedee","FamilyName":"{FAMILY_NAME}","Email":"z@{MAIL_DOMAIN}"}}],"#
    );
    event.replacen('{', &staff, 1)
}

/// The environment in which children keep in `folder` what is to be searched.
pub fn kept_env(folder: &Path) -> (&'static str, String) {
    (KEPT, folder.display().to_string())
}

/// Keeps a text to be searched, where something is around that will search.
pub fn keep(what: &str, text: &str) {
    static NUMBER: AtomicU32 = AtomicU32::new(0);
    let Some(folder) = std::env::var_os(KEPT) else { return };
    let name = format!("{}-{}.{what}", std::process::id(), NUMBER.fetch_add(1, Ordering::Relaxed));
    // A folder that is gone is a stack that is ending.
    let _ = fs::write(PathBuf::from(folder).join(name), text);
}

/// What a search looked through, and where it found something.
#[derive(Debug, Default)]
pub struct Found {
    /// Logs, pages of metrics and outputs of commands.
    pub texts: usize,
    /// Rows of archives and outboxes.
    pub rows: i64,
    /// Records of audit and dead-letter topics, aborted ones too.
    pub records: usize,
    /// Places, with what stood there; the marker's name and not what is around it.
    pub places: Vec<String>,
}

/// Looks for `markers` in everything that dosi has left behind in this stack.
pub async fn search(addresses: &Addresses, kept: &Path, markers: &[&str]) -> Result<Found> {
    let mut found = Found::default();
    search_texts(kept, markers, &mut found)?;
    search_databases(addresses, markers, &mut found).await?;
    search_topics(addresses, markers, &mut found)?;
    Ok(found)
}

fn search_texts(kept: &Path, markers: &[&str], found: &mut Found) -> Result<()> {
    for entry in fs::read_dir(kept)? {
        let path = entry?.path();
        let text = String::from_utf8_lossy(&fs::read(&path)?).into_owned();
        found.texts += 1;
        for line in text.lines() {
            if let Some(marker) = markers.iter().find(|marker| line.contains(**marker)) {
                found.places.push(format!("{marker} in {}: {line}", path.display()));
            }
        }
    }
    Ok(())
}

async fn search_databases(addresses: &Addresses, markers: &[&str], found: &mut Found) -> Result<()> {
    let databases = "SELECT datname FROM pg_database WHERE datallowconn AND NOT datistemplate";
    let admin = connect(&addresses.postgres_url).await?;
    for row in admin.query(databases, &[]).await? {
        let database: &str = row.get(0);
        let client = connect(&addresses.database_url(database)).await?;
        let migrated = "SELECT to_regclass('dos_integration.outbox') IS NOT NULL";
        if client.query_one(migrated, &[]).await?.get(0) {
            search_database(&client, database, markers, found).await?;
        }
    }
    Ok(())
}

async fn search_database(
    client: &tokio_postgres::Client,
    database: &str,
    markers: &[&str],
    found: &mut Found,
) -> Result<()> {
    for (table, bytes) in [
        ("change_event_archive", "convert_to(concat_ws(' ', ods_code, event, correlation_id), 'UTF8')"),
        ("outbox", "payload"),
        ("consumer_position", "convert_to(coalesce(halted_reason, ''), 'UTF8')"),
    ] {
        let count = format!("SELECT count(*) FROM dos_integration.{table}");
        found.rows += client.query_one(&count, &[]).await?.get::<_, i64>(0);
        for marker in markers {
            let rows = format!("{count} WHERE position($1::bytea IN {bytes}) > 0");
            let rows: i64 = client.query_one(&rows, &[&marker.as_bytes()]).await?.get(0);
            if rows > 0 {
                found.places.push(format!("{marker} in {rows} rows of {table} in database {database}"));
            }
        }
    }
    Ok(())
}

async fn connect(url: &str) -> Result<tokio_postgres::Client> {
    let (client, connection) = tokio_postgres::connect(url, NoTls).await.context("failed to connect to PostgreSQL")?;
    tokio::spawn(connection);
    Ok(client)
}

/// Topics that dosi writes, by their names' endings.
fn is_written(topic: &str) -> bool {
    topic.rsplit_once('.').is_some_and(|(_, ending)| ["audit", "dead-letter"].contains(&ending))
}

fn search_topics(addresses: &Addresses, markers: &[&str], found: &mut Found) -> Result<()> {
    let consumer: BaseConsumer = ClientConfig::new()
        .set("bootstrap.servers", &addresses.kafka_bootstrap_servers)
        .set("group.id", "planted")
        .set("enable.auto.commit", "false")
        .set("isolation.level", "read_uncommitted")
        .set("enable.partition.eof", "true")
        .create()?;
    let mut left = TopicPartitionList::new();
    for topic in consumer.fetch_metadata(None, BROKER_TIMEOUT)?.topics().iter().filter(|topic| is_written(topic.name()))
    {
        for partition in topic.partitions() {
            left.add_partition_offset(topic.name(), partition.id(), Offset::Beginning)?;
        }
    }
    consumer.assign(&left)?;
    let (mut ends, deadline) = (0, Instant::now() + READ_WITHIN);
    while ends < left.count() {
        match consumer.poll(Duration::from_secs(1)) {
            Some(Err(rdkafka::error::KafkaError::PartitionEOF(_))) => ends += 1,
            Some(record) => search_record(&record?, markers, found),
            None if Instant::now() > deadline => bail!("{ends} of {} partitions were read", left.count()),
            None => {}
        }
    }
    Ok(())
}

fn search_record(record: &rdkafka::message::BorrowedMessage<'_>, markers: &[&str], found: &mut Found) {
    found.records += 1;
    let headers = record.headers().into_iter().flat_map(Headers::iter).filter_map(|header| header.value);
    let parts: Vec<_> = headers.chain(record.key()).chain(record.payload()).collect();
    for marker in markers {
        if parts.iter().any(|part| part.windows(marker.len()).any(|window| window == marker.as_bytes())) {
            let place = (record.topic(), record.partition(), record.offset());
            found.places.push(format!("{marker} in record {place:?}"));
        }
    }
}
