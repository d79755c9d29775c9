//! Where a running stack is, and how its parent tells its children.

use anyhow::{Context, Result};

use super::Installed;

// Not the names of dosi's own settings: a test of what dosi does without a setting must find it unset.
const KAFKA: &str = "DOSI_TEST_KAFKA_BOOTSTRAP_SERVERS";
const REGISTRY: &str = "DOSI_TEST_SCHEMA_REGISTRY_URL";
const POSTGRES: &str = "DOSI_TEST_POSTGRES_URL";

/// Addresses of the parts of a running stack.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Addresses {
    pub kafka_bootstrap_servers: String,
    /// Base of the Confluent-compatible API, without a slash at its end.
    pub schema_registry_url: String,
    /// A superuser's URL of the maintenance database.
    pub postgres_url: String,
    pub installed: Installed,
}

impl Addresses {
    /// Of the stack that `with-stack` started around this process.
    pub fn from_env() -> Result<Self> {
        let read = |name| std::env::var(name).context("no local stack is running: start this with `make test`");
        Ok(Self {
            kafka_bootstrap_servers: read(KAFKA)?,
            schema_registry_url: read(REGISTRY)?,
            postgres_url: read(POSTGRES)?,
            installed: Installed::find()?,
        })
    }

    /// The environment that [`Self::from_env`] reads.
    pub fn to_env(&self) -> Vec<(&'static str, String)> {
        let mut env = vec![
            (KAFKA, self.kafka_bootstrap_servers.clone()),
            (REGISTRY, self.schema_registry_url.clone()),
            (POSTGRES, self.postgres_url.clone()),
        ];
        env.extend(self.installed.to_env());
        env
    }

    /// URL of another database of the same server.
    pub fn database_url(&self, database: &str) -> String {
        let server = self.postgres_url.rsplit_once('/').map_or(self.postgres_url.as_str(), |(server, _)| server);
        format!("{server}/{database}")
    }
}
