//! What `deploy/local/install` put on this machine.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

const KAFKA_LIB: &str = "DOSI_TEST_KAFKA_LIB";
const REGISTRY_JAR: &str = "DOSI_TEST_REGISTRY_JAR";

/// Places of the Java parts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Installed {
    /// Folder of jars: Kafka's broker, tools and client, and Apache Avro.
    pub kafka_lib: PathBuf,
    pub registry_jar: PathBuf,
}

impl Installed {
    /// From the environment where a parent has asked before, else from the install script, which installs what is missing.
    pub fn find() -> Result<Self> {
        Self::from(|name| std::env::var(name).ok()).or_else(|_| Self::install())
    }

    fn install() -> Result<Self> {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy/local/install");
        let output =
            Command::new(&script).stderr(Stdio::inherit()).output().context("failed to run deploy/local/install")?;
        if !output.status.success() {
            bail!("deploy/local/install failed");
        }
        let text = String::from_utf8_lossy(&output.stdout);
        let named: HashMap<_, _> = text.lines().filter_map(|line| line.split_once('=')).collect();
        Self::from(|name| named.get(name).map(ToString::to_string))
    }

    fn from(lookup: impl Fn(&str) -> Option<String>) -> Result<Self> {
        let place = |name| lookup(name).map(PathBuf::from).with_context(|| format!("{name} is not known"));
        Ok(Self { kafka_lib: place(KAFKA_LIB)?, registry_jar: place(REGISTRY_JAR)? })
    }

    pub(super) fn to_env(&self) -> [(&'static str, String); 2] {
        [(KAFKA_LIB, self.kafka_lib.display().to_string()), (REGISTRY_JAR, self.registry_jar.display().to_string())]
    }

    /// The class path of Kafka and Avro.
    pub fn class_path(&self) -> String {
        format!("{}/*", self.kafka_lib.display())
    }
}
