//! The Kafka side: consumer thread, transactional publisher, registry, topics.

pub mod admin;
pub mod consumer;
pub mod group;
pub mod partitions;
pub mod publisher;
pub mod records;
pub mod refusals;
pub mod registry;
pub mod settings;
pub mod sharing;
pub mod told;
pub mod topics;

use rdkafka::config::RDKafkaLogLevel;

/// librdkafka's own log lines join ours.
pub(crate) fn log(level: RDKafkaLogLevel, facility: &str, line: &str) {
    match level {
        RDKafkaLogLevel::Emerg | RDKafkaLogLevel::Alert | RDKafkaLogLevel::Critical | RDKafkaLogLevel::Error => {
            tracing::error!(target: "librdkafka", facility, "{line}");
        }
        RDKafkaLogLevel::Warning => tracing::warn!(target: "librdkafka", facility, "{line}"),
        RDKafkaLogLevel::Notice | RDKafkaLogLevel::Info => tracing::info!(target: "librdkafka", facility, "{line}"),
        RDKafkaLogLevel::Debug => tracing::debug!(target: "librdkafka", facility, "{line}"),
    }
}
