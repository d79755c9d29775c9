//! Topics read back with Kafka's own Java client and Avro's own Java decoder, which share no code with dosi.

use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};
use serde::Deserialize;
use serde_json::Value;

use crate::stack::{Addresses, bound_to_parent};

/// One record of a topic, as `tests/java/TopicReader.java` prints it.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Record {
    pub topic: String,
    pub partition: i32,
    pub offset: i64,
    /// Milliseconds since 1970.
    pub timestamp: i64,
    /// Text where it is UTF-8, else `{"base64": …}`.
    pub key: Value,
    /// Values as in `key`.
    pub headers: Vec<(String, Value)>,
    /// A framed value, decoded with the schema under its id.
    #[serde(default)]
    pub avro: Option<Value>,
    /// A value that is not framed and is UTF-8.
    #[serde(default)]
    pub text: Option<String>,
    /// Any other value.
    #[serde(default)]
    pub base64: Option<String>,
}

impl Record {
    /// The last header of this name.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().rev().find(|(key, _)| key == name)?.1.as_str()
    }

    /// A field of a decoded record; null when there is no such field.
    pub fn field(&self, name: &str) -> &Value {
        self.avro.as_ref().and_then(|fields| fields.get(name)).unwrap_or(&Value::Null)
    }
}

/// Every committed record of the topics, from their starts to their present ends; in order for each partition.
///
/// Blocks for some seconds: in async code run it with `spawn_blocking`.
pub fn read(addresses: &Addresses, topics: &[&str]) -> Result<Vec<Record>> {
    let mut java = java(addresses);
    java.args([&addresses.kafka_bootstrap_servers, &addresses.schema_registry_url]).args(topics);
    let output = java.stderr(Stdio::piped()).output().context("failed to run java")?;
    if !output.status.success() {
        bail!("failed to read {topics:?}:\n{}", String::from_utf8_lossy(&output.stderr));
    }
    let lines = output.stdout.split(|byte| *byte == b'\n').filter(|line| !line.is_empty());
    lines.map(|line| serde_json::from_slice(line).context("not a line of TopicReader")).collect()
}

fn java(addresses: &Addresses) -> Command {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("java/TopicReader.java");
    let mut java = bound_to_parent("KILL", "java");
    // Compiled in memory at each start, so that nothing is built into the tree.
    java.args([
        "-Xmx1g",
        "-XX:-UsePerfData",
        "-XX:+UseSerialGC",
        "-XX:TieredStopAtLevel=1",
        "-cp",
        &addresses.installed.class_path(),
    ]);
    java.arg(source);
    java
}
