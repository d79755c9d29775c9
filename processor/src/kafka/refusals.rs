//! What brokers refuse and only a person can mend: a wrong password, a certificate that is not trusted, a missing right.
//!
//! librdkafka tells some of it only beside the call that fails, which then says no more than that time is up: a client with
//! [`Refusals`] as its context keeps it until somebody asks.

use std::{
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

use rdkafka::{
    ClientConfig, ClientContext, Offset, TopicPartitionList,
    config::RDKafkaLogLevel,
    consumer::{BaseConsumer, Consumer as _, ConsumerContext},
    error::{KafkaError, RDKafkaErrorCode as Code},
    topic_partition_list::TopicPartitionListElem,
};

use crate::error::tls_refusal;

/// One question of [`may_consume`].
const TIMEOUT: Duration = Duration::from_secs(5);
const POLL: Duration = Duration::from_millis(100);

/// The brokers answer and do not let this client.
pub fn is_refusal(error: &KafkaError) -> bool {
    let code = match error {
        KafkaError::AdminOp(code) => Some(*code),
        error => error.rdkafka_error_code(),
    };
    code.is_some_and(is_refusing)
}

fn is_refusing(code: Code) -> bool {
    matches!(
        code,
        Code::TopicAuthorizationFailed
            | Code::GroupAuthorizationFailed
            | Code::ClusterAuthorizationFailed
            | Code::TransactionalIdAuthorizationFailed
            | Code::Authentication
            | Code::SaslAuthenticationFailed
    )
}

/// What a client is told beside its calls, where only a person can mend it, in one line.
pub fn refusal(error: &KafkaError, reason: &str) -> Option<String> {
    let code = error.rdkafka_error_code()?;
    // A connection that breaks while TLS is being agreed on is no more than a broken connection.
    let untrusted = code == Code::SSL && !reason.contains("SSL transport error");
    if untrusted && reason.contains("certificate verify failed") {
        let broker = reason.split(": ").next().unwrap_or_default();
        return Some(format!(
            "Kafka: the certificate of {broker} is not trusted: it comes from no authority of ssl.ca.location, is not for \
             this host name, or is out of date"
        ));
    }
    if let Some(alert) = tls_refusal(reason) {
        let broker = reason.split(": ").next().unwrap_or_default();
        return Some(format!(
            "Kafka refuses: {broker} does not take dosi's certificate: {alert} (ssl.certificate.location, ssl.key.location)"
        ));
    }
    (untrusted || is_refusing(code)).then(|| format!("Kafka refuses: {reason}"))
}

/// Keeps the last refusal that the client was told.
#[derive(Debug, Default)]
pub struct Refusals {
    told: Mutex<Option<String>>,
}

impl Refusals {
    fn take(&self) -> Option<String> {
        self.told.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

impl ClientContext for Refusals {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, line: &str) {
        super::log(level, facility, line);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        if let Some(line) = refusal(&error, reason) {
            *self.told.lock().unwrap_or_else(PoisonError::into_inner) = Some(line);
        }
    }
}

impl ConsumerContext for Refusals {}

/// A client that only asks.
pub type Asker = BaseConsumer<Refusals>;

/// Why a call of this client failed, if it was refused. `error` is what the call itself says.
pub fn refused(asker: &Asker, error: &KafkaError) -> Option<String> {
    // What a client is told waits in its queue until somebody polls.
    let _ = asker.poll(Duration::from_millis(10));
    asker.context().take().or_else(|| is_refusal(error).then(|| format!("Kafka refuses: {error}")))
}

/// Whether this client may read the topic and the group's offsets; the error says why not, or why that is not known. Blocks.
///
/// `config` is a [`super::settings::asker_config`] that is told of offsets whatever transaction is open.
pub fn may_consume(config: &ClientConfig, topic: &str) -> Result<(), String> {
    const PARTITION: i32 = 0;
    let mut config = config.clone();
    config.set("enable.partition.eof", "true");
    let asker: Asker = config.create_with_context(Refusals::default()).map_err(|error| error.to_string())?;
    let why = |error: &KafkaError| refused(&asker, error).unwrap_or_else(|| error.to_string());
    let mut list = TopicPartitionList::new();
    list.add_partition_offset(topic, PARTITION, Offset::End).map_err(|error| error.to_string())?;
    let offsets = asker.committed_offsets(list.clone(), TIMEOUT).map_err(|error| why(&error))?;
    offsets.elements().iter().try_for_each(TopicPartitionListElem::error).map_err(|error| why(&error))?;
    asker.assign(&list).map_err(|error| why(&error))?;
    let deadline = Instant::now() + TIMEOUT;
    while Instant::now() < deadline {
        match asker.poll(POLL) {
            Some(Ok(_) | Err(KafkaError::PartitionEOF(_))) => return Ok(()),
            Some(Err(error)) if is_refusal(&error) => return Err(why(&error)),
            _ => {}
        }
    }
    Err(asker.context().take().unwrap_or_else(|| "Kafka does not answer".to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_passes_is_no_refusal() {
        let told = |code, reason| refusal(&KafkaError::Global(code), reason);
        assert_eq!(told(Code::BrokerTransportFailure, "Disconnected"), None);
        assert_eq!(told(Code::SSL, "ssl://b:1/1: SSL handshake failed: SSL transport error: Broken pipe"), None);
        assert!(told(Code::Authentication, "wrong password").is_some());
        let untrusted = told(Code::SSL, "ssl://b:1/1: SSL handshake failed: error:0A000086:certificate verify failed");
        assert!(untrusted.is_some_and(|line| line.contains("ssl://b:1/1 is not trusted")));
    }
}
