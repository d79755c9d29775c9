//! Rights that Kafka takes away while an instance runs: said in `/readyz` until they are back.
//!
//! librdkafka goes on by itself once they are, and does not say so when nothing is there to be read: so it is asked for with
//! a client of its own, for as long as something is refused.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use rdkafka::error::KafkaError;
use tokio::{runtime::Handle, task::spawn_blocking, time::sleep};

use super::Shared;
use crate::kafka::refusals::{is_refusal, may_consume};

/// Names in `/readyz`.
const CONSUMING: &str = "kafka (consuming)";
const PUBLISHING: &str = "kafka (publishing)";
/// Between two questions.
const ASK_AGAIN: Duration = Duration::from_secs(2);

/// The right to read the input topic and to be a member of the group.
pub struct Rights {
    shared: Arc<Shared>,
    asking: AtomicBool,
}

impl std::fmt::Debug for Rights {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Rights").field("asking", &self.asking).finish_non_exhaustive()
    }
}

impl Rights {
    pub fn new(shared: Arc<Shared>) -> Self {
        Self { shared, asking: AtomicBool::new(false) }
    }

    /// Says that the consumer is refused, and asks until it no longer is.
    pub fn refused(this: &Arc<Self>, runtime: &Handle, line: &str) {
        this.say(line);
        if !this.asking.swap(true, Ordering::AcqRel) {
            let this = Arc::clone(this);
            runtime.spawn(async move { this.ask_until_allowed().await });
        }
    }

    fn say(&self, line: &str) {
        if self.shared.readiness.set(CONSUMING, Some(line.to_owned())) {
            tracing::error!("{line}");
        }
    }

    async fn ask_until_allowed(&self) {
        loop {
            sleep(ASK_AGAIN).await;
            let (config, topic) = (self.shared.asker_config.clone(), self.shared.topics.change_events.clone());
            match spawn_blocking(move || may_consume(&config, &topic)).await {
                Ok(Ok(())) => break,
                Ok(Err(line)) => self.say(&line),
                Err(panic) => return self.shared.fatal(format!("asking for rights in Kafka failed: {panic}")),
            }
        }
        self.asking.store(false, Ordering::Release);
        if self.shared.readiness.clear(CONSUMING) {
            tracing::info!("Kafka lets this instance consume again");
        }
    }
}

/// Nothing is published: says so where an operator looks, under a name of its own, since the consumer may reach the brokers all the
/// while. It is tried again all the same.
pub fn cannot_publish(shared: &Shared, error: &KafkaError) {
    let line = if is_refusal(error) { format!("Kafka refuses: {error}") } else { error.to_string() };
    if shared.readiness.set(PUBLISHING, Some(line.clone())) {
        tracing::error!("nothing can be published: {line}");
    }
}

/// A transaction went through, or nothing waits for one.
pub fn can_publish(shared: &Shared) {
    if shared.readiness.clear(PUBLISHING) {
        tracing::info!("publishing goes on");
    }
}
