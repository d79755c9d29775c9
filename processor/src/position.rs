//! `dosi position show` and `dosi position set`: where each partition stands, and its repair by a person (design: beginnings,
//! ends and edges).

use std::{
    fmt::Write as _,
    sync::atomic::AtomicBool,
    time::{Duration, Instant},
};

use anyhow::{Context as _, anyhow};
use chrono::Utc;
use rdkafka::{Offset, TopicPartitionList, consumer::Consumer as _, error::KafkaResult, groups::GroupInfo};
use tokio::{
    task::spawn_blocking,
    time::{sleep, timeout},
};

use crate::{
    cli::{PositionAction, PositionParts, PositionSetSettings, PositionSettings},
    config::kafka_base_config,
    error::{Failure, Refused},
    kafka::{
        admin::refused_settings,
        group,
        publisher::{self, Content, OutputTopics},
        refusals::{Asker, Refusals, refused},
        registry::{Registry, RegistryError},
        settings::{asker_config, producer_config},
    },
    output,
    postgres::{
        database::Database,
        outbox,
        position::{self, PositionRow},
    },
    protocol::position::{GroupOffset, LogEnds},
    wire::audit::{AuditEncoder, PositionSet},
};

/// A command that nothing answers gives up after this long.
const GIVE_UP: Duration = Duration::from_secs(30);
/// A part that is asked first gives up a little earlier, so that what is told is which one it was.
const ASK_UNTIL: Duration = Duration::from_millis(29_500);
/// Between two questions to a part that did not answer.
const PAUSE: Duration = Duration::from_millis(250);
/// One question to the brokers.
const BROKER_TIMEOUT: Duration = Duration::from_secs(5);

/// What Kafka says of one partition.
#[derive(Clone, Copy, Debug)]
struct InKafka {
    partition: i32,
    group: GroupOffset,
    log: LogEnds,
}

/// Shows or repairs.
pub async fn run(settings: PositionSettings) -> Result<(), Failure> {
    let deadline = Instant::now() + ASK_UNTIL;
    let work = async {
        match settings.action {
            PositionAction::Show(settings) => show(&settings.parts, deadline).await,
            PositionAction::Set(settings) => set(&settings, deadline).await,
        }
    };
    timeout(GIVE_UP, work).await.unwrap_or_else(|_| Err(Failure::Failed(anyhow!("no answer within 30 s"))))
}

async fn show(parts: &PositionParts, deadline: Instant) -> Result<(), Failure> {
    let topic = &parts.topics.change_events;
    let in_kafka = read_kafka(parts, None, deadline).await?;
    let database = Database::new(&parts.database)?;
    let client = database.lease_within(GIVE_UP).await?;
    let numbers: Vec<i32> = in_kafka.iter().map(|partition| partition.partition).collect();
    let rows = position::read(&*client, topic, &numbers).await.context("failed to read positions")?;
    let unpublished = outbox::unpublished(&*client, topic, &numbers).await.context("failed to read the outbox")?;
    let mut table = format!(
        "{:>9} {:>12} {:>12} {:>12} {:>12} {:>12} {:>11}  STATE\n",
        "PARTITION", "POSITION", "GROUP", "LOG START", "LOG END", "TO APPLY", "UNPUBLISHED"
    );
    for InKafka { partition, group, log } in in_kafka {
        let row = rows.get(&partition);
        let waiting = unpublished.iter().find(|row| row.partition == partition).map_or(0, |row| row.events);
        let position = row.map(|row| row.position);
        let _ = writeln!(
            table,
            "{partition:>9} {:>12} {:>12} {:>12} {:>12} {:>12} {waiting:>11}  {}",
            text(position),
            text(offset(group)),
            log.low,
            log.high,
            text(position.map(|position| (log.high - position).max(0))),
            row.and_then(|row| row.halted_reason.as_deref()).unwrap_or("ok"),
        );
    }
    output::print(&table)
}

fn text(number: Option<i64>) -> String {
    number.map_or_else(|| "-".to_owned(), |number| number.to_string())
}

fn offset(group: GroupOffset) -> Option<i64> {
    match group {
        GroupOffset::At(offset) => Some(offset),
        GroupOffset::Missing | GroupOffset::Unknown => None,
    }
}

async fn set(settings: &PositionSetSettings, deadline: Instant) -> Result<(), Failure> {
    let parts = &settings.parts;
    let topic = &parts.topics.change_events;
    let found = read_kafka(parts, Some(settings.partition), deadline).await?;
    let Some(&in_kafka) = found.first() else {
        return Err(Failure::Usage(format!("--partition {}: {topic} has no such partition", settings.partition)));
    };
    let (low, high) = (in_kafka.log.low, in_kafka.log.high);
    if !(low..=high).contains(&settings.offset) {
        return Err(Failure::Usage(format!("--offset {}: the log holds {low} to {high}", settings.offset)));
    }
    let schema_id = audit_schema_id(parts, deadline).await?;
    let encoder = AuditEncoder::new(schema_id, &parts.deployment.environment, &parts.topics.dead_letter);
    let database = Database::new(&parts.database)?;
    let mut client = database.lease_within(GIVE_UP).await?;
    let row = position::read(&*client, topic, &[settings.partition]).await.context("failed to read the position")?;
    let row = row.get(&settings.partition);
    refuse_owned(parts, settings.partition, row, deadline).await?;
    refuse_publishable(&*client, topic, settings.partition, in_kafka.group).await?;

    // Three steps, each of which can be repeated: hold the partition at its new position; the group's offset and the audit
    // record; let it go on. Whatever breaks off between them leaves it halted, with nothing that could be published.
    let standing = row.map(|row| row.position);
    let detail = detail(row, in_kafka.group);
    let reason = format!(
        "{UNDERWAY}{detail}): repeat `dosi position set --partition {} --offset {} --reason …`",
        settings.partition, settings.offset
    );
    let held = position::hold(&mut client, topic, settings.partition, standing, settings.offset, &reason).await?;
    let Some(rows) = held else {
        return Err(Failure::Failed(anyhow!("partition {} moved meanwhile: try again", settings.partition)));
    };
    let detail = format!("{detail}, outbox rows deleted {rows}");
    commit(settings, &encoder, &detail).await?;
    position::lift(&*client, topic, settings.partition, settings.offset)
        .await
        .context("the partition is still held: repeat the command")?;
    output::print(&format!(
        "{topic}/{}: position and group offset are {} ({detail})",
        settings.partition, settings.offset
    ))
}

async fn audit_schema_id(parts: &PositionParts, deadline: Instant) -> Result<u32, Failure> {
    let registry = Registry::connect(&parts.registry)?;
    loop {
        match registry.audit_schema_id(&parts.topics.audit).await {
            Err(RegistryError::Unreachable(_)) if Instant::now() + PAUSE < deadline => sleep(PAUSE).await,
            told => return Ok(told.context("failed to get the audit schema")?),
        }
    }
}

/// How the reason of a repair that did not end begins; what it found follows, for the audit record of the repetition.
const UNDERWAY: &str = "position set was begun and did not end (";

/// Where the partition stood before the repair.
fn detail(row: Option<&PositionRow>, group: GroupOffset) -> String {
    let underway = row.and_then(|row| row.halted_reason.as_deref()).and_then(|reason| reason.strip_prefix(UNDERWAY));
    if let Some((found, _)) = underway.and_then(|rest| rest.split_once(')')) {
        return found.to_owned();
    }
    format!("old position {}, old group offset {}", text(row.map(|row| row.position)), text(offset(group)))
}

/// A partition that somebody works on is not for a person to move; a halted one waits for just that.
async fn refuse_owned(
    parts: &PositionParts,
    partition: i32,
    row: Option<&PositionRow>,
    deadline: Instant,
) -> Result<(), Failure> {
    if row.is_some_and(|row| row.halted_reason.is_some()) {
        return Ok(());
    }
    let consumer = group_consumer(parts)?;
    let (group_id, topic) = (parts.deployment.group_id.clone(), parts.topics.change_events.clone());
    let owner = spawn_blocking(move || {
        let groups = patiently(&consumer, deadline, |within| consumer.fetch_group_list(Some(&group_id), within))
            .context("failed to ask for the group")?;
        groups.groups().iter().try_fold(None, |owner, group| Ok(owner.or(owner_of(group, &topic, partition)?)))
    });
    let owner: anyhow::Result<Option<String>> = owner.await.map_err(|panic| Failure::Failed(panic.into()))?;
    match owner? {
        None => Ok(()),
        Some(owner) => Err(Failure::Failed(anyhow!(
            "partition {partition} is owned by running instance {owner}: stop it first, or wait until the group has noticed that it ended"
        ))),
    }
}

fn owner_of(group: &GroupInfo, topic: &str, partition: i32) -> anyhow::Result<Option<String>> {
    if !matches!(group.state(), "Stable" | "Empty" | "Dead") {
        return Err(anyhow!("the group is {}: try again when it is stable", group.state()));
    }
    let owns = |assignment: &[u8]| group::assigned_partitions(assignment, topic).contains(&partition);
    let owner = group.members().iter().find(|member| member.assignment().is_some_and(owns));
    Ok(owner.map(|member| format!("{} at {}", member.id(), member.client_host())))
}

/// Outbox rows that go on from the group's offset can still be published, and must be before the offset moves.
async fn refuse_publishable(
    client: &impl deadpool_postgres::GenericClient,
    topic: &str,
    partition: i32,
    group: GroupOffset,
) -> Result<(), Failure> {
    if let GroupOffset::At(offset) = group {
        let rows =
            outbox::read_covering(client, topic, partition, offset, 1, 1).await.context("failed to read the outbox")?;
        if rows.first().is_some_and(|row| row.start <= offset) {
            return Err(Failure::Failed(anyhow!(
                "partition {partition} has outbox rows that can still be published: run `dosi run` until `dosi position show` tells of none"
            )));
        }
    }
    Ok(())
}

/// Audit record and group offset in one Kafka transaction: the group refuses other ways while it has members.
async fn commit(settings: &PositionSetSettings, encoder: &AuditEncoder, detail: &str) -> Result<(), Failure> {
    let parts = &settings.parts;
    let topic = parts.topics.change_events.clone();
    let record = encoder.encode_position_set(&PositionSet {
        topic: &topic,
        partition: settings.partition,
        offset: settings.offset,
        reason: &settings.reason,
        detail,
        occurred_at: Utc::now(),
    })?;
    let consumer = group_consumer(parts)?;
    let transactional_id = format!("{}-position-set-{}", parts.deployment.group_id, settings.partition);
    let config = producer_config(&kafka_base_config(&parts.kafka), &transactional_id, 1 << 20, 1 << 20);
    let topics = OutputTopics { audit: parts.topics.audit.clone(), dead_letter: parts.topics.dead_letter.clone() };
    let (partition, offset) = (settings.partition, settings.offset);
    let committing = spawn_blocking(move || -> anyhow::Result<()> {
        let producer = publisher::open(&config, &topics.audit).context("failed to open a Kafka transaction")?;
        let offsets = publisher::offsets(&topic, [(partition, offset)])?;
        let group = consumer.group_metadata().context("the consumer has no group")?;
        let (records, abandoned) = (std::iter::once(&record), AtomicBool::new(false));
        let (topics, offsets, group, abandoned) = (&topics, &offsets, &group, &abandoned);
        // Whatever the offset was: it is set.
        let confirm = &|_| Ok(true);
        publisher::publish(&producer, Content { topics, records, offsets, group, confirm, abandoned })?;
        Ok(())
    });
    Ok(committing.await.map_err(|panic| Failure::Failed(panic.into()))??)
}

/// A consumer of the group that never joins it.
fn group_consumer(parts: &PositionParts) -> Result<Asker, Failure> {
    let base = kafka_base_config(&parts.kafka);
    let config = asker_config(&base, &parts.deployment.group_id, "read_committed");
    config.create_with_context(Refusals::default()).map_err(|error| refused_settings(&error))
}

/// Group offsets and log ends of all partitions, or of one.
async fn read_kafka(parts: &PositionParts, only: Option<i32>, deadline: Instant) -> Result<Vec<InKafka>, Failure> {
    let consumer = group_consumer(parts)?;
    let topic = parts.topics.change_events.clone();
    let reading = spawn_blocking(move || read_kafka_blocking(&consumer, &topic, only, deadline));
    reading.await.map_err(|panic| Failure::Failed(panic.into()))?
}

/// Asks again until the deadline, unless the brokers refuse: after a kill they hold offsets back until they have ended its
/// transaction.
fn patiently<T>(
    consumer: &Asker,
    deadline: Instant,
    mut ask: impl FnMut(Duration) -> KafkaResult<T>,
) -> anyhow::Result<T> {
    loop {
        let left = deadline.saturating_duration_since(Instant::now()).max(PAUSE);
        match ask(BROKER_TIMEOUT.min(left)) {
            Ok(told) => return Ok(told),
            Err(error) => match refused(consumer, &error) {
                Some(line) => return Err(anyhow!(Refused(line))),
                None if Instant::now() + PAUSE < deadline => std::thread::sleep(PAUSE),
                None => return Err(error.into()),
            },
        }
    }
}

fn read_kafka_blocking(
    consumer: &Asker,
    topic: &str,
    only: Option<i32>,
    deadline: Instant,
) -> Result<Vec<InKafka>, Failure> {
    let metadata = patiently(consumer, deadline, |within| consumer.fetch_metadata(Some(topic), within))
        .context("failed to reach Kafka")?;
    let partitions: Vec<i32> = metadata
        .topics()
        .iter()
        .flat_map(rdkafka::metadata::MetadataTopic::partitions)
        .map(rdkafka::metadata::MetadataPartition::id)
        .collect();
    if partitions.is_empty() {
        return Err(Failure::Setup(format!("topic {topic} does not exist: run `dosi topics`")));
    }
    let mut found = Vec::new();
    for partition in partitions.into_iter().filter(|&partition| only.is_none_or(|only| only == partition)) {
        let group = patiently(consumer, deadline, |within| group_offset(consumer, topic, partition, within))
            .context("failed to read the group's offset")?;
        let (low, high) = patiently(consumer, deadline, |within| consumer.fetch_watermarks(topic, partition, within))
            .context("failed to read the log's ends")?;
        found.push(InKafka { partition, group, log: LogEnds { low, high } });
    }
    found.sort_by_key(|found| found.partition);
    Ok(found)
}

fn group_offset(consumer: &Asker, topic: &str, partition: i32, within: Duration) -> KafkaResult<GroupOffset> {
    let mut list = TopicPartitionList::new();
    list.add_partition(topic, partition);
    let committed = consumer.committed_offsets(list, within)?;
    let Some(told) = committed.find_partition(topic, partition) else { return Ok(GroupOffset::Missing) };
    // The call succeeds although the broker refused to answer for the partition.
    told.error()?;
    Ok(match told.offset() {
        Offset::Offset(offset) => GroupOffset::At(offset),
        _ => GroupOffset::Missing,
    })
}
