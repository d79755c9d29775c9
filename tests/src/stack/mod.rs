//! The real parts, as processes on this machine: PostgreSQL, Kafka and the schema registry.
//!
//! Promised: free ports, readiness by asking, everything ends with its parent even when that is killed, and data directories
//! lie outside the source tree and go at the end. Absent on purpose: containers, fixed ports, the system's own services.

mod addresses;
mod certificates;
mod installed;
mod kafka;
mod nginx;
mod part;
mod ports;
mod postgres;
mod registry;
mod scratch;
mod security;

pub use addresses::Addresses;
pub use certificates::{Authority, Identity};
pub use installed::Installed;
pub use kafka::{Kafka, Listener};
pub use nginx::Nginx;
pub use part::{Part, bound_to_parent, give_up, signal};
pub use ports::free_port;
pub use postgres::{BaseBackup, Durability, Postgres, SHARED_BUFFERS, SUPERUSER};
pub use registry::Registry;
pub use scratch::Scratch;
pub use security::{Security, USER};

use anyhow::Result;

/// How the parts are set up.
#[derive(Clone, Copy, Debug)]
pub struct Settings {
    pub durability: Durability,
    /// 1, or 3 for a cluster that can lose a broker.
    pub kafka_nodes: u16,
    /// PostgreSQL's memory for pages, as it writes it; as a rule [`SHARED_BUFFERS`].
    pub shared_buffers: &'static str,
}

/// One of each part, running. Dropping it stops all of them and removes their data.
#[derive(Debug)]
pub struct Stack {
    pub postgres: Postgres,
    pub kafka: Kafka,
    pub registry: Registry,
    installed: Installed,
}

impl Stack {
    /// Starts all parts and returns when each answers.
    ///
    /// The parts end with the thread that calls this: call it from one that stays, best the main thread.
    pub fn start(settings: &Settings) -> Result<Self> {
        Self::launch(settings.durability, settings.shared_buffers, vec![Vec::new(); settings.kafka_nodes.into()])
    }

    /// As [`Self::start`], with one Kafka node for each list of further listeners.
    pub fn start_listening(durability: Durability, listeners: Vec<Vec<Listener>>) -> Result<Self> {
        Self::launch(durability, SHARED_BUFFERS, listeners)
    }

    fn launch(durability: Durability, shared_buffers: &'static str, listeners: Vec<Vec<Listener>>) -> Result<Self> {
        let installed = Installed::find()?;
        // All are set off before any is waited for, as most of their time is spent side by side.
        let mut registry = Registry::launch(&installed)?;
        let mut postgres = Postgres::prepare(durability)?;
        postgres.shared_buffers = shared_buffers;
        let mut kafka = Kafka::prepare(&installed, listeners, None)?;
        postgres.launch()?;
        kafka.launch()?;
        postgres.wait_until_ready()?;
        kafka.wait_until_ready()?;
        registry.wait_until_ready()?;
        Ok(Self { postgres, kafka, registry, installed })
    }

    /// Where the parts are, for this process's children.
    pub fn addresses(&self) -> Addresses {
        Addresses {
            kafka_bootstrap_servers: self.kafka.bootstrap_servers(),
            schema_registry_url: self.registry.url(),
            postgres_url: self.postgres.url("postgres"),
            installed: self.installed.clone(),
        }
    }
}
