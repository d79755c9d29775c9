//! What must be there before anything starts: waited for when it cannot be reached, refused when only a person can mend it.

use std::{
    collections::BTreeMap,
    fmt::Display,
    sync::{Arc, atomic::AtomicBool},
    time::{Duration, Instant},
};

use fail::fail_point;
use rdkafka::{
    ClientConfig, TopicPartitionList, consumer::Consumer as _, error::KafkaError, metadata::MetadataTopic,
    topic_partition_list::TopicPartitionListElem, types::RDKafkaRespErr,
};
use tokio::{
    sync::{Notify, Semaphore, watch},
    task::spawn_blocking,
    time::{sleep, timeout},
};

use crate::{
    cli::RunSettings,
    config::kafka_base_config,
    error::Failure,
    kafka::{
        admin::Admin,
        refusals::{Asker, Refusals, is_refusal, refused},
        registry::Registry,
        settings::{asker_config, producer_config},
        topics::max_message_bytes,
    },
    pipeline::{Shared, Topics, backoff::Backoff, serving::Serving},
    postgres::{
        database::Database,
        setup::{self, SetupFault},
    },
    telemetry::{
        metrics::{Dependency, Metrics},
        readiness::Readiness,
    },
    wire::audit::AuditEncoder,
};

/// What a record batch adds to its one record, at most.
const RECORD_BATCH_BYTES: usize = 512;
/// Among the codes of a topic's metadata: it may not even be described.
const TOPIC_REFUSED: RDKafkaRespErr = RDKafkaRespErr::RD_KAFKA_RESP_ERR_TOPIC_AUTHORIZATION_FAILED;
/// A question to the brokers waits this long before it is asked again.
const BROKER_TIMEOUT: Duration = Duration::from_secs(2);

/// All questions of one look together, each with its own time-out: a longer one means that those do not work. librdkafka waits on the
/// wall clock, which may be set back.
const LOOK_TIMEOUT: Duration = Duration::from_secs(60);
/// The same where each partition is asked about.
const LOOK_AT_ENDS_TIMEOUT: Duration = Duration::from_secs(600);

/// Everything that lanes and publisher share, once all parts have answered.
pub(super) async fn setup(
    settings: &RunSettings,
    metrics: &Arc<Metrics>,
    readiness: &Arc<Readiness>,
    fatal: watch::Sender<Option<String>>,
) -> Result<Shared, Failure> {
    fail_point!("setup");
    let watch = Watch { metrics, readiness };
    let (brokers, (registry, schema_id), database) =
        tokio::try_join!(watch.brokers(settings), watch.registry(settings), watch.database(settings))?;
    let topics = &settings.topics;
    let transactional_id = format!("{}-{}", settings.deployment.group_id, settings.processing.instance_id);
    let base = kafka_base_config(&settings.kafka);
    Ok(Shared {
        places: Arc::new(Semaphore::new(lanes_at_once(settings.database.pool_size))),
        database,
        registry,
        metrics: Arc::clone(metrics),
        readiness: Arc::clone(readiness),
        encoder: AuditEncoder::new(schema_id, &settings.deployment.environment, &topics.dead_letter),
        topics: Topics {
            change_events: topics.change_events.clone(),
            audit: topics.audit.clone(),
            dead_letter: topics.dead_letter.clone(),
        },
        producer_config: producer_config(
            &base,
            &transactional_id,
            brokers.dead_letter_bytes_max.max(1 << 20),
            brokers.dead_letter_bytes_max.min(brokers.audit_bytes_max),
        ),
        asker_config: asker_config(&base, &settings.deployment.group_id, "read_uncommitted"),
        dead_letter_bytes_max: brokers.dead_letter_bytes_max.saturating_sub(RECORD_BATCH_BYTES),
        batch_events_max: settings.processing.batch_events_max,
        today: settings.processing.today,
        ends: if settings.exit_at_end { brokers.ends } else { BTreeMap::new() },
        serving: Serving::default(),
        publish_now: Notify::new(),
        consumer: std::sync::OnceLock::new(),
        fatal,
        topic_gone: AtomicBool::new(false),
    })
}

/// Batches may take all connections but one: publishing, looks at positions and lanes that begin need one for a moment each. With the
/// default pool that is a lane more than two cores of a database can serve, for the time that the others wait for its disk or work
/// themselves. A pool of two, the smallest, gives one batch at a time.
fn lanes_at_once(pool_size: usize) -> usize {
    pool_size - 1
}

/// What the brokers say of the topics.
struct Brokers {
    /// Partitions that hold records, with the end of each as a `read_committed` reader sees it.
    ends: BTreeMap<i32, i64>,
    /// Largest records that the topics take.
    dead_letter_bytes_max: usize,
    audit_bytes_max: usize,
}

struct Watch<'a> {
    metrics: &'a Metrics,
    readiness: &'a Readiness,
}

impl Watch<'_> {
    fn up(&self, dependency: Dependency) {
        self.metrics.set_up(dependency, true);
        self.readiness.clear(dependency.as_str());
    }

    fn down(&self, dependency: Dependency, why: &dyn Display) {
        if self.readiness.set(dependency.as_str(), Some(why.to_string())) {
            tracing::warn!(dependency = dependency.as_str(), "not reachable, waiting: {why}");
        }
    }

    async fn database(&self, settings: &RunSettings) -> Result<Database, Failure> {
        let given = settings.database.clone();
        let database = beside(move || Database::new(&given)).await?;
        let mut backoff = Backoff::new(Duration::from_millis(100), Duration::from_secs(2));
        loop {
            match check(&database, settings).await {
                Ok(()) => {
                    self.up(Dependency::Database);
                    return Ok(database);
                }
                Err(SetupFault::Database(fault)) if !fault.needs_person() => self.down(Dependency::Database, &fault),
                Err(fault) => return Err(Failure::Setup(fault.to_string())),
            }
            sleep(backoff.next_wait()).await;
        }
    }

    /// With the id of the audit schema.
    async fn registry(&self, settings: &RunSettings) -> Result<(Registry, u32), Failure> {
        let given = settings.registry.clone();
        let registry = beside(move || Registry::connect(&given)).await?;
        let mut backoff = Backoff::new(Duration::from_millis(100), Duration::from_secs(2));
        loop {
            match registry.audit_schema_id(&settings.topics.audit).await {
                Ok(id) => {
                    self.up(Dependency::Registry);
                    return Ok((registry, id));
                }
                Err(error) if error.needs_person() => return Err(error.into()),
                Err(unreachable) => self.down(Dependency::Registry, &unreachable),
            }
            sleep(backoff.next_wait()).await;
        }
    }

    async fn brokers(&self, settings: &RunSettings) -> Result<Brokers, Failure> {
        let base = kafka_base_config(&settings.kafka);
        let config = asker_config(&base, &settings.deployment.group_id, "read_committed");
        let mut backoff = Backoff::new(Duration::from_millis(100), Duration::from_secs(2));
        let given = settings.kafka.clone();
        let admin = beside(move || Admin::connect(&given)).await?;
        loop {
            let (config, topics) = (config.clone(), settings.topics.clone());
            let names = [topics.change_events, topics.audit, topics.dead_letter];
            let exit_at_end = settings.exit_at_end;
            let looking = async {
                match beside(move || Ok(look(&config, &names, exit_at_end))).await? {
                    Ok(ends) => Ok(bytes_max(&admin, settings).await.map(|bytes_max| (ends, bytes_max))),
                    Err(look) => Ok::<_, Failure>(Err(look)),
                }
            };
            let within = if exit_at_end { LOOK_AT_ENDS_TIMEOUT } else { LOOK_TIMEOUT };
            let Ok(look) = timeout(within, looking).await else {
                let line = "the Kafka client hangs, its own time-outs with it: to be started anew";
                // Dropping it would wait for its threads.
                super::leave_within(Duration::ZERO, 1, Some(line.to_owned()));
                return std::future::pending().await;
            };
            match look? {
                Ok((ends, (audit_bytes_max, dead_letter_bytes_max))) => {
                    drop_beside(admin);
                    self.up(Dependency::Kafka);
                    return Ok(Brokers { ends, dead_letter_bytes_max, audit_bytes_max });
                }
                Err(Look::Person(line)) => return Err(Failure::Setup(line)),
                Err(Look::Unreachable(why)) => self.down(Dependency::Kafka, &why),
            }
            sleep(backoff.next_wait()).await;
        }
    }
}

/// What takes its time, off the workers and next to what else there is to wait for: reading the system's certificates, which both
/// TLS libraries do when a client is made, takes as long as all questions to the brokers together.
async fn beside<T: Send + 'static>(work: impl FnOnce() -> Result<T, Failure> + Send + 'static) -> Result<T, Failure> {
    spawn_blocking(work).await.map_err(|panic| Failure::Failed(panic.into()))?
}

/// A Kafka client takes a tenth of a second to end.
fn drop_beside(client: impl Send + 'static) {
    spawn_blocking(move || drop(client));
}

async fn check(database: &Database, settings: &RunSettings) -> Result<(), SetupFault> {
    let schema = settings.database.schema.as_str();
    // What is missing is an answer, too.
    database.ask(async |lease| Ok(setup::check(&**lease, schema).await)).await?
}

/// Why the brokers could not be looked at.
enum Look {
    Person(String),
    Unreachable(String),
}

/// The largest records that the audit and the dead-letter topic take.
async fn bytes_max(admin: &Admin, settings: &RunSettings) -> Result<(usize, usize), Look> {
    let deadline = Instant::now() + BROKER_TIMEOUT;
    let told = tokio::try_join!(
        max_message_bytes(admin, &settings.topics.audit, deadline),
        max_message_bytes(admin, &settings.topics.dead_letter, deadline)
    );
    let usize_of = |bytes: u64| usize::try_from(bytes).unwrap_or(usize::MAX);
    told.map(|(audit, dead_letter)| (usize_of(audit), usize_of(dead_letter))).map_err(|error| {
        let refused = error.downcast_ref().is_some_and(is_refusal);
        let line = format!("{error:#}");
        if refused { Look::Person(line) } else { Look::Unreachable(line) }
    })
}

/// Whether the topics are there, and where the partitions of the first end. Blocks.
fn look(config: &ClientConfig, topics: &[String; 3], with_ends: bool) -> Result<BTreeMap<i32, i64>, Look> {
    let consumer: Asker =
        config.create_with_context(Refusals::default()).map_err(|error| Look::Person(error.to_string()))?;
    let told = ask(&consumer, topics, with_ends);
    drop_beside(consumer);
    told
}

fn ask(consumer: &Asker, topics: &[String; 3], with_ends: bool) -> Result<BTreeMap<i32, i64>, Look> {
    let unreachable = |error: KafkaError| {
        refused(consumer, &error).map_or_else(|| Look::Unreachable(error.to_string()), Look::Person)
    };
    let mut partitions = Vec::new();
    for (index, topic) in topics.iter().enumerate() {
        let metadata = consumer.fetch_metadata(Some(topic), BROKER_TIMEOUT).map_err(&unreachable)?;
        let found = metadata.topics().iter().find(|found| found.name() == topic);
        if found.and_then(MetadataTopic::error) == Some(TOPIC_REFUSED) {
            return Err(Look::Person(format!("Kafka refuses: no right to topic {topic}")));
        }
        let Some(found) = found.filter(|found| !found.partitions().is_empty()) else {
            return Err(Look::Person(format!("topic {topic} does not exist: run `dosi topics`")));
        };
        if index == 0 {
            partitions = found.partitions().iter().map(rdkafka::metadata::MetadataPartition::id).collect();
        }
    }
    refused_group(consumer, &topics[0]).map_or(Ok(()), |line| Err(Look::Person(line)))?;
    let mut ends = BTreeMap::new();
    if with_ends {
        for partition in partitions {
            let (low, high) = consumer.fetch_watermarks(&topics[0], partition, BROKER_TIMEOUT).map_err(&unreachable)?;
            if high > low {
                ends.insert(partition, high);
            }
        }
    }
    Ok(ends)
}

/// Why the brokers do not let this client into its group. An answer that is held back (another instance's transaction is open)
/// is no refusal, and not waited for.
fn refused_group(asker: &Asker, topic: &str) -> Option<String> {
    let mut list = TopicPartitionList::new();
    list.add_partition(topic, 0);
    let answer = asker.committed_offsets(list, Duration::from_secs(1));
    let told = answer.and_then(|offsets| offsets.elements().iter().try_for_each(TopicPartitionListElem::error));
    told.err().filter(is_refusal).and_then(|error| refused(asker, &error))
}
