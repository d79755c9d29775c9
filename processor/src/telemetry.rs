//! What is seen from outside: log lines, metrics, and whether this instance lives and is ready.

pub mod http;
pub mod metrics;
pub mod readiness;

use std::io;

use tracing::subscriber;
use tracing_subscriber::{fmt, layer::SubscriberExt as _};

use crate::{
    config::{LogFormat, LogSettings, values::env_filter},
    error::Failure,
};

/// Starts logging to stderr, librdkafka's lines included. To be called once, before the first Kafka client is made.
///
/// A payload or personal data is never logged; every line about an event carries `correlation_id` and `ods_code`. So what
/// libraries write through the `log` crate is left out, whatever `DOSI_LOG` says: at `debug` the database's driver writes each
/// statement's parameters.
pub fn init(settings: &LogSettings) -> Result<(), Failure> {
    let filter = env_filter(&settings.filter).ok_or_else(|| Failure::Usage("DOSI_LOG is no filter".to_owned()))?;
    let registry = tracing_subscriber::registry().with(filter);
    let started = match settings.format {
        LogFormat::Json => {
            let lines = fmt::layer().json().flatten_event(true).with_span_list(false).with_writer(io::stderr);
            subscriber::set_global_default(registry.with(lines))
        }
        LogFormat::Text => {
            subscriber::set_global_default(registry.with(fmt::layer().with_ansi(false).with_writer(io::stderr)))
        }
    };
    started.map_err(|error| Failure::Failed(error.into()))
}
