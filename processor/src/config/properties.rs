//! The file of further librdkafka settings (`DOSI_KAFKA_CONFIG`).
//!
//! The exactly-once protocol depends on a number of settings; a file that sets one of them is refused, under whatever name
//! librdkafka knows it.

use std::fmt;

use rdkafka::ClientConfig;

use super::values::read_text;

/// Settings of the file in its order. Values may be secret (`sasl.password`).
#[derive(Clone, Default, PartialEq, Eq)]
pub struct KafkaProperties(Vec<(String, String)>);

impl KafkaProperties {
    /// Reads the text of a file; the first fault is told with its line. Whether librdkafka knows the names is not asked.
    pub fn parse(text: &str) -> Result<Self, String> {
        parse(text)
    }

    /// Names with values, in the file's order.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|(name, value)| (name.as_str(), value.as_str()))
    }
}

/// Names only.
impl fmt::Debug for KafkaProperties {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_set().entries(self.0.iter().map(|(name, _)| name)).finish()
    }
}

/// Refused by their beginning.
const PROTECTED_PREFIXES: &[&str] = &["group.", "enable.auto.", "max.in.flight", "queued."];

/// Refused by name: those of the interface with their aliases in librdkafka.
const PROTECTED: &[&str] = &[
    "acks",
    "allow.auto.create.topics",
    "auto.commit.enable",
    "auto.offset.reset",
    "delivery.report.only.error",
    "delivery.timeout.ms",
    "enable.idempotence",
    "enable.partition.eof",
    "heartbeat.interval.ms",
    "isolation.level",
    "max.poll.interval.ms",
    "message.max.bytes",
    "message.send.max.retries",
    "message.timeout.ms",
    "partition.assignment.strategy",
    "partitioner",
    "request.required.acks",
    "retries",
    "session.timeout.ms",
    "transaction.timeout.ms",
    "transactional.id",
];

/// Refused by their beginning and by name: they bound memory, or are what dosi measures with.
const BOUNDS_PREFIXES: &[&str] = &["fetch.", "queue.buffering."];
const BOUNDS: &[&str] =
    &["batch.size", "linger.ms", "max.partition.fetch.bytes", "receive.message.max.bytes", "statistics.interval.ms"];

/// Set by a setting of its own.
const BOOTSTRAP: &[&str] = &["bootstrap.servers", "metadata.broker.list"];

/// Reads the file; the first fault is told with its line.
pub(super) fn kafka_properties(path: &str) -> Result<KafkaProperties, String> {
    let properties = parse(&read_text(path)?).map_err(|fault| format!("{path}, {fault}"))?;
    try_out(&properties).map_err(|fault| format!("{path}, {fault}"))?;
    Ok(properties)
}

fn parse(text: &str) -> Result<KafkaProperties, String> {
    let mut properties = Vec::new();
    for (index, line) in text.lines().enumerate() {
        let line = line.trim();
        if line.is_empty() || line.starts_with(['#', '!']) {
            continue;
        }
        let property = property(line).map_err(|fault| format!("line {}: {fault}", index + 1))?;
        properties.push(property);
    }
    Ok(KafkaProperties(properties))
}

/// A line that is none may hold a secret: it is not repeated.
fn property(line: &str) -> Result<(String, String), String> {
    let (name, value) = line.split_once('=').ok_or("is not key=value")?;
    let name = name.trim();
    if name.is_empty() || name.contains(char::is_whitespace) {
        return Err("is not key=value".to_owned());
    }
    refuse_protected(name)?;
    Ok((name.to_owned(), value.trim().to_owned()))
}

fn refuse_protected(name: &str) -> Result<(), String> {
    // librdkafka takes a topic's setting with this prefix too.
    let bare = name.strip_prefix("topic.").unwrap_or(name);
    if BOOTSTRAP.contains(&bare) {
        return Err(format!("{name} is set by DOSI_KAFKA_BOOTSTRAP_SERVERS"));
    }
    if PROTECTED.contains(&bare) || PROTECTED_PREFIXES.iter().any(|prefix| bare.starts_with(prefix)) {
        return Err(format!("{name} must not be set: the exactly-once protocol depends on it"));
    }
    if BOUNDS.contains(&bare) || BOUNDS_PREFIXES.iter().any(|prefix| bare.starts_with(prefix)) {
        return Err(format!("{name} must not be set: the bound of dosi's memory depends on it"));
    }
    Ok(())
}

/// Asks librdkafka about each name and value, before anything is started.
fn try_out(properties: &KafkaProperties) -> Result<(), String> {
    for (name, value) in properties.iter() {
        ClientConfig::new()
            .set(name, value)
            .create_native_config()
            .map_err(|_| format!("{name} is not known to librdkafka or has a value that it does not take"))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kafka::settings::{TUNABLE, consumer_config, producer_config};

    #[test]
    fn comments_and_blank_lines_are_passed_over() {
        let text = "# TLS\n\n! old\n security.protocol = ssl \nssl.key.password=a=b#c\n";
        let properties = parse(text).unwrap();
        let pairs: Vec<_> = properties.iter().collect();
        assert_eq!(pairs, [("security.protocol", "ssl"), ("ssl.key.password", "a=b#c")]);
        assert_eq!(format!("{properties:?}"), r#"{"security.protocol", "ssl.key.password"}"#);
    }

    #[test]
    fn a_bad_line_is_named_by_number_and_not_repeated() {
        let fault = parse("a=b\n\nhunter2\n").unwrap_err();
        assert_eq!(fault, "line 3: is not key=value");
        assert!(parse("=x").is_err());
        assert!(parse("a b=x").is_err());
    }

    #[test]
    fn what_the_protocol_depends_on_is_refused_under_every_name() {
        let families = [
            "group.id",
            "group.instance.id",
            "group.protocol",
            "enable.auto.commit",
            "enable.auto.offset.store",
            "max.in.flight",
            "max.in.flight.requests.per.connection",
            "queued.min.messages",
            "queued.max.messages.kbytes",
            "topic.acks",
            "topic.partitioner",
            "topic.delivery.timeout.ms",
            "topic.auto.offset.reset",
            "fetch.message.max.bytes",
            "queue.buffering.max.ms",
        ];
        for name in PROTECTED.iter().chain(BOUNDS).chain(BOOTSTRAP).chain(&families) {
            let fault = parse(&format!("{name}=1")).unwrap_err();
            assert!(fault.contains(name), "{fault}");
        }
        assert!(parse("topic.metadata.refresh.interval.ms=1000").is_ok());
    }

    /// What the file may say is what happens.
    #[test]
    fn nothing_that_may_be_set_is_silently_replaced() {
        let base = ClientConfig::new();
        let configs = [consumer_config(&base, "g", "i"), producer_config(&base, "t", 1, 1)];
        for name in configs.iter().flat_map(|config| config.config_map().into_keys()) {
            assert_eq!(parse(&format!("{name}=1")).is_ok(), TUNABLE.contains(&name), "{name}");
        }
        let mut base = base;
        for name in TUNABLE {
            base.set(name, "own");
        }
        for config in [consumer_config(&base, "g", "i"), producer_config(&base, "t", 1, 1)] {
            assert!(TUNABLE.iter().all(|name| config.get(name) == Some("own")));
        }
    }

    #[test]
    fn librdkafka_is_asked_about_names_and_values() {
        let right = parse("security.protocol=sasl_ssl\nsasl.mechanism=PLAIN\nsocket.keepalive.enable=true").unwrap();
        assert_eq!(try_out(&right), Ok(()));
        for wrong in ["no.such.property=1", "socket.timeout.ms=soon", "security.protocol=carrier-pigeon"] {
            assert!(try_out(&parse(wrong).unwrap()).is_err(), "{wrong}");
        }
    }
}
