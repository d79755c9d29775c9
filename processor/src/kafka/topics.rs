//! `dosi topics`: makes what is missing, reports what differs, changes and deletes nothing.

use std::{
    collections::HashMap,
    time::{Duration, Instant},
};

use anyhow::{Context as _, anyhow};
use rdkafka::admin::{NewTopic, TopicReplication};
use tokio::time::timeout;

use super::{
    admin::{Admin, PATIENCE, TopicShape},
    registry::{Registry, RegistryError},
};
use crate::{cli::TopicsSettings, config::TopicSettings, error::Failure, output};

/// The topic setting that bounds a record's size.
pub const MAX_MESSAGE_BYTES: &str = "max.message.bytes";
/// By how much the dead-letter topic takes more than the input: its headers.
const DEAD_LETTER_MARGIN_BYTES: u64 = 64 * 1024;
const DAY_MS: i64 = 24 * 60 * 60 * 1000;
/// A part that is asked again and again gives up a little before the command, so that what is told is which one it was.
const ASK_UNTIL: Duration = Duration::from_millis(29_500);
const REGISTRY_PAUSE: Duration = Duration::from_millis(500);

/// What one topic should be.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Wanted {
    name: String,
    partitions: i32,
    /// `None`: the broker's default.
    replication: Option<i32>,
    settings: Vec<(&'static str, String)>,
}

/// Creates the missing topics and registers the audit schema; prints one line for each thing done or found to differ.
pub async fn run(settings: &TopicsSettings) -> Result<(), Failure> {
    let admin = Admin::connect(&settings.kafka)?;
    let registry = Registry::connect(&settings.registry)?;
    let deadline = Instant::now() + ASK_UNTIL;
    let work = async {
        prepare_topics(&admin, &settings.topics, deadline).await?;
        prepare_subject(&registry, &settings.topics.audit, deadline)
            .await?
            .iter()
            .try_for_each(|line| output::print(line))
    };
    timeout(PATIENCE, work).await.unwrap_or_else(|_| Err(Failure::Failed(anyhow!("no answer within 30 s"))))
}

/// Tells of each topic when it is done: what is refused after it does not undo it.
async fn prepare_topics(admin: &Admin, topics: &TopicSettings, deadline: Instant) -> Result<(), Failure> {
    let there = admin.topics(deadline).await?;
    let prepare = async |wanted: Wanted| {
        let lines = prepare_topic(admin, &there, &wanted, deadline).await?;
        lines.iter().try_for_each(|line| output::print(line))
    };
    prepare(change_events(topics)).await?;
    prepare(audit(topics)).await?;
    let input_bytes = max_message_bytes(admin, &topics.change_events, deadline).await?;
    prepare(dead_letter(topics, input_bytes)).await
}

/// The largest record that a topic takes, in bytes as the broker counts them.
pub async fn max_message_bytes(admin: &Admin, topic: &str, deadline: Instant) -> anyhow::Result<u64> {
    let config = admin.topic_config(topic, deadline).await?;
    let value = config.get(MAX_MESSAGE_BYTES).and_then(|value| value.parse().ok());
    value.with_context(|| format!("topic {topic} has no {MAX_MESSAGE_BYTES}"))
}

async fn prepare_topic(
    admin: &Admin,
    there: &HashMap<String, TopicShape>,
    wanted: &Wanted,
    deadline: Instant,
) -> anyhow::Result<Vec<String>> {
    let name = &wanted.name;
    if !there.contains_key(name) && admin.create(&wanted.new_topic(), deadline).await? {
        // Its settings can be read once the broker knows it: whoever starts next finds it.
        admin.topic_config(name, deadline).await?;
        return Ok(vec![format!("{name}: created")]);
    }
    // Made by someone else since `there` was asked.
    let late = if there.contains_key(name) { None } else { admin.topics(deadline).await?.get(name).copied() };
    let shape = there.get(name).copied().or(late);
    let config = admin.topic_config(name, deadline).await?;
    let differences = shape.map(|shape| wanted.differences(shape, &config)).unwrap_or_default();
    let lines = differences.into_iter().map(|difference| format!("{name}: exists, left as it is: {difference}"));
    let lines: Vec<_> = lines.collect();
    Ok(if lines.is_empty() { vec![format!("{name}: exists")] } else { lines })
}

fn wanted(topics: &TopicSettings, name: &str, retention_ms: i64) -> Wanted {
    Wanted {
        name: name.to_owned(),
        partitions: topics.partitions,
        replication: topics.replication,
        settings: vec![("cleanup.policy", "delete".to_owned()), ("retention.ms", retention_ms.to_string())],
    }
}

fn change_events(topics: &TopicSettings) -> Wanted {
    wanted(topics, &topics.change_events, 14 * DAY_MS)
}

fn audit(topics: &TopicSettings) -> Wanted {
    wanted(topics, &topics.audit, 400 * DAY_MS)
}

fn dead_letter(topics: &TopicSettings, input_bytes: u64) -> Wanted {
    const UNLIMITED: i64 = -1;
    let mut wanted = wanted(topics, &topics.dead_letter, UNLIMITED);
    wanted.settings.push((MAX_MESSAGE_BYTES, (input_bytes + DEAD_LETTER_MARGIN_BYTES).to_string()));
    wanted
}

impl Wanted {
    fn new_topic(&self) -> NewTopic<'_> {
        const BROKER_DEFAULT: i32 = -1;
        let replication = TopicReplication::Fixed(self.replication.unwrap_or(BROKER_DEFAULT));
        let topic = NewTopic::new(&self.name, self.partitions, replication);
        self.settings.iter().fold(topic, |topic, (name, value)| topic.set(name, value))
    }

    /// One text for each thing that is otherwise than it would have been created.
    fn differences(&self, shape: TopicShape, config: &HashMap<String, String>) -> Vec<String> {
        let mut shown = vec![("partitions", self.partitions.to_string(), shape.partitions.to_string())];
        if let Some(replication) = self.replication {
            shown.push(("replication", replication.to_string(), shape.replicas.to_string()));
        }
        for (name, value) in &self.settings {
            shown.push((name, value.clone(), config.get(*name).cloned().unwrap_or_default()));
        }
        let differing = shown.into_iter().filter(|(name, wanted, found)| !suffices(name, wanted, found));
        differing.map(|(name, wanted, found)| format!("{name} is {found}, not {wanted}")).collect()
    }
}

/// A topic that takes larger records than it needs to is as good.
fn suffices(name: &str, wanted: &str, found: &str) -> bool {
    if name == MAX_MESSAGE_BYTES {
        let (wanted, found) = (wanted.parse::<u64>(), found.parse::<u64>());
        return matches!((wanted, found), (Ok(wanted), Ok(found)) if found >= wanted);
    }
    wanted == found
}

async fn prepare_subject(
    registry: &Registry,
    audit_topic: &str,
    deadline: Instant,
) -> Result<Vec<String>, RegistryError> {
    let state = loop {
        match registry.prepare_audit_subject(audit_topic).await {
            Err(RegistryError::Unreachable(_)) if Instant::now() + REGISTRY_PAUSE < deadline => {
                tokio::time::sleep(REGISTRY_PAUSE).await;
            }
            prepared => break prepared?,
        }
    };
    let subject = &state.subject;
    let done = if state.registered { "schema registered" } else { "exists" };
    let mut lines = vec![format!("{subject}: {done}")];
    if let Some(level) = state.differing_compatibility {
        lines.push(format!("{subject}: exists, left as it is: compatibility is {level}, not BACKWARD"));
    }
    Ok(lines)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn topics(replication: Option<i32>) -> TopicSettings {
        TopicSettings {
            change_events: "in".to_owned(),
            audit: "audit".to_owned(),
            dead_letter: "dead".to_owned(),
            partitions: 12,
            replication,
        }
    }

    fn config(retention: &str, bytes: &str) -> HashMap<String, String> {
        [("cleanup.policy", "delete"), ("retention.ms", retention), (MAX_MESSAGE_BYTES, bytes)]
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .into()
    }

    #[test]
    fn topics_are_made_as_the_design_says() {
        let topics = topics(None);
        assert_eq!(change_events(&topics).settings[1], ("retention.ms", "1209600000".to_owned()));
        assert_eq!(audit(&topics).settings[1], ("retention.ms", "34560000000".to_owned()));
        let dead = dead_letter(&topics, 1_048_588);
        assert_eq!(dead.settings[1], ("retention.ms", "-1".to_owned()));
        assert_eq!(dead.settings[2], (MAX_MESSAGE_BYTES, "1114124".to_owned()));
        assert_eq!(dead.new_topic().num_partitions, 12);
    }

    #[test]
    fn what_differs_is_told_one_by_one() {
        let wanted = dead_letter(&topics(Some(3)), 1000);
        let same = TopicShape { partitions: 12, replicas: 3 };
        assert_eq!(wanted.differences(same, &config("-1", "66536")), Vec::<String>::new());
        assert_eq!(wanted.differences(same, &config("-1", "9999999")), Vec::<String>::new());
        let other = TopicShape { partitions: 1, replicas: 1 };
        assert_eq!(
            wanted.differences(other, &config("7", "1000")),
            [
                "partitions is 1, not 12",
                "replication is 1, not 3",
                "retention.ms is 7, not -1",
                "max.message.bytes is 1000, not 66536"
            ]
        );
    }
}
