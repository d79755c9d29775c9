//! What is asked of the brokers besides records: topics, their shapes and settings.

use std::{
    collections::HashMap,
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::anyhow;
use rdkafka::{
    admin::{AdminClient, AdminOptions, NewTopic, ResourceSpecifier},
    client::DefaultClientContext,
    consumer::Consumer as _,
    error::{KafkaError, RDKafkaErrorCode},
    metadata::Metadata,
};

use super::refusals::{Asker, Refusals, is_refusal, refused};
use crate::{
    config::{KafkaSettings, kafka_base_config},
    error::{Failure, Refused},
};

/// How long set-up commands wait for a part that does not answer (interface, section 1).
pub const PATIENCE: Duration = Duration::from_secs(30);
/// One attempt within that time.
const ATTEMPT: Duration = Duration::from_secs(5);
const PAUSE: Duration = Duration::from_millis(250);

/// Asks brokers; cheap to clone.
#[derive(Clone)]
pub struct Admin {
    client: Arc<AdminClient<DefaultClientContext>>,
    /// Is told what the other one is not: why no broker lets it in.
    asker: Arc<Asker>,
    servers: String,
}

impl std::fmt::Debug for Admin {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Admin").field("servers", &self.servers).finish_non_exhaustive()
    }
}

/// What metadata tells of a topic.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TopicShape {
    pub partitions: usize,
    /// Of the first partition.
    pub replicas: usize,
}

/// librdkafka refused to make a client: a setting of the file names what is not there (a certificate …).
pub fn refused_settings(error: &KafkaError) -> Failure {
    Failure::Usage(format!("DOSI_KAFKA_CONFIG (--kafka-config): {error}"))
}

impl Admin {
    /// Makes a client; brokers are not waited for.
    pub fn connect(settings: &KafkaSettings) -> Result<Self, Failure> {
        let mut config = kafka_base_config(settings);
        // Asking for a topic must not make it.
        config.set("allow.auto.create.topics", "false");
        let client = config.create().map_err(|error| refused_settings(&error))?;
        let asker = config.create_with_context(Refusals::default()).map_err(|error| refused_settings(&error))?;
        Ok(Self { client: Arc::new(client), asker: Arc::new(asker), servers: settings.bootstrap_servers.clone() })
    }

    /// All topics by name. Tries again until the deadline.
    pub async fn topics(&self, deadline: Instant) -> anyhow::Result<HashMap<String, TopicShape>> {
        loop {
            let asker = Arc::clone(&self.asker);
            let timeout = ATTEMPT.min(remaining(deadline));
            // librdkafka's call blocks, so it runs beside the workers.
            let question = tokio::task::spawn_blocking(move || {
                asker.fetch_metadata(None, timeout).map_err(|error| (refused(&asker, &error), error))
            });
            match question.await? {
                Ok(metadata) => return Ok(shapes(&metadata)),
                Err((Some(line), _)) => return Err(Refused(line).into()),
                Err((None, error)) if Instant::now() >= deadline => {
                    return Err(anyhow!("Kafka at {} does not answer: {error}", self.servers));
                }
                Err(_) => tokio::time::sleep(PAUSE.min(remaining(deadline))).await,
            }
        }
    }

    /// A topic's settings. Tries again until the deadline: one just created is not known everywhere at once.
    pub async fn topic_config(&self, topic: &str, deadline: Instant) -> anyhow::Result<HashMap<String, String>> {
        loop {
            match self.try_topic_config(topic, deadline).await {
                Err(error) if error.passes() && Instant::now() < deadline => tokio::time::sleep(PAUSE).await,
                // A broker that has only just heard of the topic answers without a single setting.
                Ok(config) if config.is_empty() && Instant::now() < deadline => tokio::time::sleep(PAUSE).await,
                asked => {
                    return asked
                        .map_err(|error| anyhow::Error::new(error.0).context(format!("settings of topic {topic}")));
                }
            }
        }
    }

    async fn try_topic_config(&self, topic: &str, deadline: Instant) -> Result<HashMap<String, String>, AskError> {
        let options = AdminOptions::new().request_timeout(Some(ATTEMPT.min(remaining(deadline))));
        let answers = self.client.describe_configs(&[ResourceSpecifier::Topic(topic)], &options).await?;
        let answer = answers.into_iter().next().ok_or(KafkaError::Canceled)?;
        let resource = answer.map_err(KafkaError::AdminOp)?;
        Ok(resource.entries.into_iter().filter_map(|entry| Some((entry.name, entry.value?))).collect())
    }

    /// Creates a topic; `false` when it was there already.
    pub async fn create(&self, topic: &NewTopic<'_>, deadline: Instant) -> anyhow::Result<bool> {
        let timeout = Some(remaining(deadline));
        let options = AdminOptions::new().request_timeout(timeout).operation_timeout(timeout);
        let answers = self.client.create_topics([topic], &options).await;
        let failed = |error| anyhow::Error::new(error).context(format!("failed to create topic {}", topic.name));
        let answers = answers.map_err(failed)?;
        match answers.into_iter().next() {
            Some(Ok(_)) => Ok(true),
            Some(Err((_, RDKafkaErrorCode::TopicAlreadyExists))) => Ok(false),
            Some(Err((_, code))) => {
                Err(refused_shape(topic.name, code).unwrap_or_else(|| failed(KafkaError::AdminOp(code))))
            }
            None => Err(failed(KafkaError::Canceled)),
        }
    }
}

/// The brokers do not make a topic like this: the setting that a person may change.
fn refused_shape(topic: &str, code: RDKafkaErrorCode) -> Option<anyhow::Error> {
    let setting = match code {
        RDKafkaErrorCode::InvalidReplicationFactor => "DOSI_TOPIC_REPLICATION",
        RDKafkaErrorCode::InvalidPartitions => "DOSI_TOPIC_PARTITIONS",
        // Whatever the operator's policy looks at.
        RDKafkaErrorCode::PolicyViolation => "DOSI_TOPIC_PARTITIONS, DOSI_TOPIC_REPLICATION",
        _ => return None,
    };
    Some(
        Refused(format!("{setting}: the brokers refuse to create topic {topic}: {}", KafkaError::AdminOp(code))).into(),
    )
}

/// What asking came to; some of it passes.
struct AskError(KafkaError);

impl From<KafkaError> for AskError {
    fn from(error: KafkaError) -> Self {
        Self(error)
    }
}

impl AskError {
    fn passes(&self) -> bool {
        match self.0.rdkafka_error_code() {
            _ if is_refusal(&self.0) => false,
            Some(_) => true,
            None => matches!(self.0, KafkaError::AdminOp(_) | KafkaError::Canceled),
        }
    }
}

fn shapes(metadata: &Metadata) -> HashMap<String, TopicShape> {
    let shape = |topic: &rdkafka::metadata::MetadataTopic| TopicShape {
        partitions: topic.partitions().len(),
        replicas: topic.partitions().first().map_or(0, |partition| partition.replicas().len()),
    };
    metadata.topics().iter().map(|topic| (topic.name().to_owned(), shape(topic))).collect()
}

/// librdkafka takes no time-out of zero for "at once".
fn remaining(deadline: Instant) -> Duration {
    deadline.saturating_duration_since(Instant::now()).max(Duration::from_millis(100))
}
