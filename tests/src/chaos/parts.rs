//! The parts of a run: PostgreSQL, a Kafka cluster of three nodes and a registry, and between them and each instance of dosi
//! a network of proxies. The harness itself goes past the proxies.

use anyhow::{Context, Result};
use tokio::runtime::Handle;

use super::proxy::{Proxy, Weather, Wire};
use super::small_disk::SmallDisk;
use crate::dos;
use crate::stack::{Addresses, Durability, Listener, Stack, free_port};

/// Instances of dosi; the last one is only there at times.
pub const INSTANCES: [&str; 3] = ["first", "second", "third"];
const NODES: usize = 3;

/// What lies between one instance and the parts.
#[derive(Debug)]
pub struct Network {
    pub database: Proxy,
    pub brokers: Vec<Proxy>,
    pub registry: Proxy,
}

/// All parts, running.
#[derive(Debug)]
pub struct Parts {
    pub stack: Stack,
    /// One an instance.
    pub networks: Vec<Network>,
    /// `None` where mounting is not allowed.
    pub small_disk: Option<SmallDisk>,
}

impl Parts {
    /// The parts end with the thread that calls this.
    pub fn start(runtime: &Handle) -> Result<Self> {
        let mut listeners: Vec<Vec<Listener>> = vec![Vec::new(); NODES];
        let mut brokers: Vec<Vec<Proxy>> = Vec::new();
        for instance in INSTANCES {
            let mut proxies = Vec::new();
            for node in &mut listeners {
                let port = free_port()?;
                let proxy = runtime.block_on(Proxy::start(port, Wire::Kafka))?;
                node.push(Listener { name: instance.to_uppercase(), port, advertised_port: proxy.port() });
                proxies.push(proxy);
            }
            brokers.push(proxies);
        }
        let stack = Stack::start_listening(Durability::Flushed, listeners)?;
        let start = |port, wire| runtime.block_on(Proxy::start(port, wire));
        let networks = brokers.into_iter().map(|brokers| {
            let database = start(stack.postgres.port(), Wire::Postgres)?;
            Ok(Network { database, brokers, registry: start(stack.registry.port(), Wire::Other)? })
        });
        let networks = networks.collect::<Result<_>>()?;
        runtime.block_on(dos::make_empty_template(&stack.addresses()))?;
        let small_disk = SmallDisk::mount(&stack.postgres)?;
        if let Some(disk) = &small_disk {
            runtime.block_on(disk.create_tablespace(&stack.addresses().postgres_url))?;
        }
        Ok(Self { stack, networks, small_disk })
    }

    /// Where one instance finds the parts: behind its proxies.
    pub fn addresses_for(&self, instance: usize) -> Result<Addresses> {
        let direct = self.stack.addresses();
        let network = self.networks.get(instance).context("no such instance")?;
        let brokers: Vec<_> = network.brokers.iter().map(|proxy| format!("127.0.0.1:{}", proxy.port())).collect();
        let moved = |url: &str, from: u16, to: &Proxy| url.replace(&format!(":{from}/"), &format!(":{}/", to.port()));
        Ok(Addresses {
            kafka_bootstrap_servers: brokers.join(","),
            schema_registry_url: moved(&direct.schema_registry_url, self.stack.registry.port(), &network.registry),
            postgres_url: moved(&direct.postgres_url, self.stack.postgres.port(), &network.database),
            installed: direct.installed,
        })
    }
}

impl Network {
    /// The proxies on one kind of way.
    pub fn of(&self, wire: Wire) -> std::slice::Iter<'_, Proxy> {
        match wire {
            Wire::Postgres => std::slice::from_ref(&self.database).iter(),
            Wire::Kafka => self.brokers.iter(),
            Wire::Other => std::slice::from_ref(&self.registry).iter(),
        }
    }

    /// Everything passes again.
    pub fn clear(&self) {
        for proxy in self.brokers.iter().chain([&self.database, &self.registry]) {
            proxy.set(Weather::default());
            proxy.lose_next_answer(false);
        }
    }
}
