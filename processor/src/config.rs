//! Settings: each an environment variable and a flag of the same name, read and checked before anything starts (interface, section 1).
//!
//! Grouped by the part that needs them; a command takes the groups it uses. An environment variable that is empty counts
//! as not set. Secrets show nowhere.

pub mod database_url;
pub mod libpq;
pub mod properties;
pub mod values;

use chrono::NaiveDate;
use clap::{Args, ValueEnum};
use rdkafka::ClientConfig;

pub use self::{
    properties::KafkaProperties,
    values::{Certificates, RegistryUrl, Secret, SqlIdentifier},
};
use crate::{error::Failure, kafka::settings::canonical};

/// How to reach Kafka.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Kafka")]
pub struct KafkaSettings {
    /// Brokers, host:port, several separated by commas
    #[arg(
        id = "kafka-bootstrap-servers",
        long = "kafka-bootstrap-servers",
        env = "DOSI_KAFKA_BOOTSTRAP_SERVERS",
        default_value = "localhost:9092",
        value_name = "HOST:PORT",
        value_parser = values::bootstrap_servers
    )]
    pub bootstrap_servers: String,

    /// Properties file of further librdkafka settings (TLS, SASL …)
    #[arg(
        id = "kafka-config",
        long = "kafka-config",
        env = "DOSI_KAFKA_CONFIG",
        value_name = "FILE",
        value_parser = properties::kafka_properties
    )]
    pub config: Option<KafkaProperties>,
}

/// How to reach the DoS database.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Database")]
pub struct DatabaseSettings {
    /// Address as libpq has it; sslmode, sslrootcert, sslcert, sslkey and options are honoured
    #[arg(
        id = "database-url",
        long = "database-url",
        env = "DOSI_DATABASE_URL",
        default_value = "postgres://localhost/dos",
        hide_env_values = true,
        value_name = "URL",
        value_parser = database_url::database_url
    )]
    pub url: Secret,

    /// File whose first line replaces the password of the address
    #[arg(
        id = "database-password-file",
        long = "database-password-file",
        env = "DOSI_DATABASE_PASSWORD_FILE",
        value_name = "FILE",
        value_parser = values::secret_file
    )]
    pub password: Option<Secret>,

    /// Schema of the DoS tables
    #[arg(
        id = "database-schema",
        long = "database-schema",
        env = "DOSI_DATABASE_SCHEMA",
        default_value = "pathwaysdos",
        value_name = "NAME",
        value_parser = values::sql_identifier
    )]
    pub schema: SqlIdentifier,

    /// Connections of one instance, 2 to 100
    #[arg(
        id = "database-pool-size",
        long = "database-pool-size",
        env = "DOSI_DATABASE_POOL_SIZE",
        default_value = "4",
        value_name = "N",
        value_parser = pool_size
    )]
    pub pool_size: usize,
}

/// How to reach the schema registry.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Schema registry")]
pub struct RegistrySettings {
    /// Confluent-compatible address; may hold a path, and user:password
    #[arg(
        id = "schema-registry-url",
        long = "schema-registry-url",
        env = "DOSI_SCHEMA_REGISTRY_URL",
        default_value = "http://localhost:8081",
        hide_env_values = true,
        value_name = "URL",
        value_parser = values::registry_url
    )]
    pub url: RegistryUrl,

    /// File whose first line replaces the password of the address
    #[arg(
        id = "schema-registry-password-file",
        long = "schema-registry-password-file",
        env = "DOSI_SCHEMA_REGISTRY_PASSWORD_FILE",
        value_name = "FILE",
        value_parser = values::secret_file
    )]
    pub password: Option<Secret>,

    /// File of certificates to trust, PEM
    #[arg(
        id = "schema-registry-ca-file",
        long = "schema-registry-ca-file",
        env = "DOSI_SCHEMA_REGISTRY_CA_FILE",
        value_name = "FILE",
        value_parser = values::certificate_file
    )]
    pub certificates: Option<Certificates>,
}

impl RegistrySettings {
    /// User and password for basic authentication; a password file wins over the address.
    pub fn credentials(&self) -> Option<(&str, Option<&Secret>)> {
        let user = self.url.user.as_deref()?;
        Some((user, self.password.as_ref().or(self.url.password.as_ref())))
    }
}

/// Names of the topics, and what `dosi topics` makes of those that are missing.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Topics")]
pub struct TopicSettings {
    /// Topic of change events
    #[arg(
        id = "change-events-topic",
        long = "change-events-topic",
        env = "DOSI_CHANGE_EVENTS_TOPIC",
        default_value = "dos.change-events",
        value_name = "TOPIC",
        value_parser = values::kafka_name
    )]
    pub change_events: String,

    /// Topic of audit records
    #[arg(
        id = "audit-topic",
        long = "audit-topic",
        env = "DOSI_AUDIT_TOPIC",
        default_value = "dos.audit",
        value_name = "TOPIC",
        value_parser = values::kafka_name
    )]
    pub audit: String,

    /// Topic of events that could not be processed
    #[arg(
        id = "dead-letter-topic",
        long = "dead-letter-topic",
        env = "DOSI_DEAD_LETTER_TOPIC",
        default_value = "dos.change-events.dead-letter",
        value_name = "TOPIC",
        value_parser = values::kafka_name
    )]
    pub dead_letter: String,

    /// Partitions of topics that `dosi topics` creates
    #[arg(
        id = "topic-partitions",
        long = "topic-partitions",
        env = "DOSI_TOPIC_PARTITIONS",
        default_value = "12",
        value_name = "N",
        value_parser = partitions
    )]
    pub partitions: i32,

    /// Replicas of topics that `dosi topics` creates [default: the broker's]
    #[arg(
        id = "topic-replication",
        long = "topic-replication",
        env = "DOSI_TOPIC_REPLICATION",
        value_name = "N",
        value_parser = replication
    )]
    pub replication: Option<i32>,
}

/// What `dosi run` needs besides the parts it talks to.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Processing")]
pub struct ProcessingSettings {
    /// Most events in one batch, 1 to 10000
    #[arg(
        id = "batch-events-max",
        long = "batch-events-max",
        env = "DOSI_BATCH_EVENTS_MAX",
        default_value = "500",
        value_name = "N",
        value_parser = batch_events
    )]
    pub batch_events_max: usize,

    /// Static member and transactional id; two live instances must not share one [default: host name]
    #[arg(
        id = "instance-id",
        long = "instance-id",
        env = "DOSI_INSTANCE_ID",
        default_value_t = host_name(),
        hide_default_value = true,
        value_name = "ID",
        value_parser = values::kafka_name
    )]
    pub instance_id: String,

    /// Address of /metrics, /livez and /readyz
    #[arg(
        id = "http-listen",
        long = "http-listen",
        env = "DOSI_HTTP_LISTEN",
        default_value = "0.0.0.0:9464",
        value_name = "HOST:PORT",
        value_parser = values::listen_address
    )]
    pub http_listen: String,

    /// A date to take as today, for rehearsals and tests [default: today in Europe/London]
    #[arg(long, env = "DOSI_TODAY", value_name = "YYYY-MM-DD", value_parser = values::date)]
    pub today: Option<NaiveDate>,
}

/// The consumer group and what goes into every audit record.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Deployment")]
pub struct DeploymentSettings {
    /// Consumer group
    #[arg(
        id = "group-id",
        long = "group-id",
        env = "DOSI_GROUP_ID",
        default_value = "dosi",
        value_name = "GROUP",
        value_parser = values::kafka_name
    )]
    pub group_id: String,

    /// Environment, goes into every audit record
    #[arg(
        long,
        env = "DOSI_ENVIRONMENT",
        default_value = "local",
        value_name = "NAME",
        value_parser = values::printable
    )]
    pub environment: String,
}

/// What is logged, and how.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Logs")]
pub struct LogSettings {
    /// Log filter: a level, or target=level, separated by commas
    #[arg(
        id = "log",
        long = "log",
        env = "DOSI_LOG",
        default_value = "info",
        value_name = "FILTER",
        value_parser = values::log_filter
    )]
    pub filter: String,

    /// Form of the log lines on stderr
    #[arg(
        id = "log-format",
        long = "log-format",
        env = "DOSI_LOG_FORMAT",
        default_value = "json",
        value_name = "FORMAT"
    )]
    pub format: LogFormat,
}

/// Form of the log lines.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    Json,
    Text,
}

fn pool_size(text: &str) -> Result<usize, String> {
    values::whole_number(text, 2, 100)
}

fn partitions(text: &str) -> Result<i32, String> {
    values::whole_number(text, 1, 10_000)
}

fn replication(text: &str) -> Result<i32, String> {
    values::whole_number(text, 1, i32::from(i16::MAX))
}

fn batch_events(text: &str) -> Result<usize, String> {
    values::whole_number(text, 1, 10_000)
}

fn host_name() -> String {
    gethostname::gethostname().to_string_lossy().into_owned()
}

/// Brokers and the file's settings: what consumers, producers and admin clients begin from.
pub fn kafka_base_config(settings: &KafkaSettings) -> ClientConfig {
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", &settings.bootstrap_servers).set("client.id", "dosi");
    for (name, value) in settings.config.iter().flat_map(KafkaProperties::iter) {
        config.set(canonical(name), value);
    }
    config
}

/// What one setting alone cannot show to be wrong.
pub(crate) trait Consistent {
    /// The first contradiction, in one line that names the setting.
    fn check(&self) -> Result<(), Failure>;
}

impl Consistent for TopicSettings {
    fn check(&self) -> Result<(), Failure> {
        let names = [&self.change_events, &self.audit, &self.dead_letter];
        if names[0] == names[1] || names[0] == names[2] || names[1] == names[2] {
            return Err(Failure::Usage(
                "DOSI_CHANGE_EVENTS_TOPIC, DOSI_AUDIT_TOPIC and DOSI_DEAD_LETTER_TOPIC must be three different topics"
                    .to_owned(),
            ));
        }
        Ok(())
    }
}

impl Consistent for RegistrySettings {
    fn check(&self) -> Result<(), Failure> {
        if self.password.is_some() && self.url.user.is_none() {
            return Err(Failure::Usage(
                "DOSI_SCHEMA_REGISTRY_PASSWORD_FILE (--schema-registry-password-file): DOSI_SCHEMA_REGISTRY_URL names no user"
                    .to_owned(),
            ));
        }
        Ok(())
    }
}
