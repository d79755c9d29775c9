//! What is seen from outside: log lines, metrics, and whether this instance lives and is ready.

pub mod http;
pub mod metrics;
pub mod readiness;

use std::io;

use tracing_subscriber::{EnvFilter, fmt, layer::SubscriberExt as _, util::SubscriberInitExt as _};

use crate::{
    config::{LogFormat, LogSettings},
    error::Failure,
};

/// Starts logging to stderr, librdkafka's lines included. To be called once, before the first Kafka client is made.
///
/// A payload or personal data is never logged; every line about an event carries `correlation_id` and `ods_code`.
pub fn init(settings: &LogSettings) -> Result<(), Failure> {
    let filter = settings.filter.parse::<EnvFilter>().map_err(|error| Failure::Usage(format!("DOSI_LOG: {error}")))?;
    let registry = tracing_subscriber::registry().with(filter);
    let started = match settings.format {
        LogFormat::Json => {
            let lines = fmt::layer().json().flatten_event(true).with_span_list(false).with_writer(io::stderr);
            registry.with(lines).try_init()
        }
        LogFormat::Text => registry.with(fmt::layer().with_ansi(false).with_writer(io::stderr)).try_init(),
    };
    started.map_err(|error| Failure::Failed(error.into()))
}
