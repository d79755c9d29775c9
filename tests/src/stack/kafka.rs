//! Kafka in KRaft mode: one node, or several that make a cluster.

use std::fs;
use std::net::TcpStream;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result};
use rdkafka::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer};

use super::installed::Installed;
use super::part::{Part, bound_to_parent};
use super::ports::free_port;
use super::scratch::Scratch;
use super::security::{self, Security};

const CLUSTER_ID: &str = "bG9jYWwtc3RhY2stMDAwMQ";

/// A cluster whose nodes are brokers and controllers at once.
#[derive(Debug)]
pub struct Kafka {
    nodes: Vec<Node>,
    class_path: String,
    security: Option<Security>,
}

#[derive(Debug)]
struct Node {
    // Before `scratch`: the process must be gone before its directory.
    part: Option<Part>,
    formatting: Option<Part>,
    id: usize,
    broker_port: u16,
    controller_port: u16,
    listeners: Vec<Listener>,
    scratch: Scratch,
}

/// A further listener of a node, for clients that come by another way: it advertises a port that someone else (a proxy)
/// listens on.
#[derive(Clone, Debug)]
pub struct Listener {
    /// Capital letters.
    pub name: String,
    pub port: u16,
    pub advertised_port: u16,
}

impl Kafka {
    /// Starts a cluster and returns when all its brokers know each other.
    pub fn start(nodes: u16) -> Result<Self> {
        Self::prepare(&Installed::find()?, vec![Vec::new(); nodes.into()], None)?.started()
    }

    /// Starts one node with further listeners.
    pub fn start_listening(listeners: Vec<Listener>) -> Result<Self> {
        Self::prepare(&Installed::find()?, vec![listeners], None)?.started()
    }

    /// Starts one node that also has the listeners of `security`, whose users may do what they were given rights for.
    pub fn start_secured(security: Security) -> Result<Self> {
        Self::prepare(&Installed::find()?, vec![Vec::new()], Some(security))?.started()
    }

    fn started(mut self) -> Result<Self> {
        self.launch()?;
        self.wait_until_ready()?;
        Ok(self)
    }

    /// Writes the settings and sets the formatting of the log directories off without waiting for it.
    /// One node for each list of further listeners.
    pub(super) fn prepare(
        installed: &Installed,
        listeners: Vec<Vec<Listener>>,
        security: Option<Security>,
    ) -> Result<Self> {
        let nodes = (1..).zip(listeners).map(|(id, listeners)| Node::new(id, listeners)).collect::<Result<_>>()?;
        let mut kafka = Self { nodes, class_path: installed.class_path(), security };
        let settings: Vec<_> = kafka.nodes.iter().map(|node| kafka.settings(node)).collect();
        for (node, settings) in kafka.nodes.iter_mut().zip(settings) {
            fs::write(node.file("server.properties"), settings)?;
            let more = kafka.security.as_ref().map(Security::formatting).unwrap_or_default();
            node.format(&kafka.class_path, &more)?;
        }
        Ok(kafka)
    }

    pub(super) fn launch(&mut self) -> Result<()> {
        self.nodes.iter_mut().try_for_each(|node| node.launch(&self.class_path))
    }

    /// Returns when every node that was started answers and knows as many brokers as were started.
    pub fn wait_until_ready(&mut self) -> Result<()> {
        let started = self.nodes.iter().filter(|node| node.part.is_some()).count();
        for node in &mut self.nodes {
            let address = node.address();
            if let Some(part) = &mut node.part {
                part.wait_until(|| TcpStream::connect(&address).is_ok())?;
                part.wait_until(|| brokers_known_to(&address).is_some_and(|known| known >= started))?;
            }
        }
        Ok(())
    }

    pub fn bootstrap_servers(&self) -> String {
        self.nodes.iter().map(Node::address).collect::<Vec<_>>().join(",")
    }

    /// Stops one node (numbered from 1) and keeps its log: `TERM` in good order, `KILL` as a crash would.
    pub fn stop_node(&mut self, id: usize, with: &str) -> Result<()> {
        if let Some(mut part) = self.node(id)?.part.take() {
            part.stop(with)?;
        }
        Ok(())
    }

    /// Starts a node again after [`Self::stop_node`].
    pub fn start_node(&mut self, id: usize) -> Result<()> {
        self.launch_node(id)?;
        self.wait_until_ready()
    }

    /// As [`Self::start_node`], without waiting for it.
    pub fn launch_node(&mut self, id: usize) -> Result<()> {
        let class_path = self.class_path.clone();
        self.node(id)?.launch(&class_path)
    }

    /// Numbers of all nodes.
    pub fn nodes(&self) -> std::ops::RangeInclusive<usize> {
        1..=self.nodes.len()
    }

    /// What each node has logged since it was last started.
    pub fn log_files(&self) -> Vec<PathBuf> {
        self.nodes.iter().map(|node| node.file("broker.log").into()).collect()
    }

    /// Process id of a node that runs, to stop and continue it.
    pub fn pid(&mut self, id: usize) -> Result<u32> {
        Ok(self.node(id)?.part.as_ref().context("this node does not run")?.pid())
    }

    /// Gives or takes rights with `deploy/kafka/acls`; `settings` are dosi's, for the names.
    pub fn acls<'a>(&self, arguments: &[&str], settings: impl IntoIterator<Item = (&'a str, &'a str)>) -> Result<()> {
        security::acls(&self.class_path, &self.bootstrap_servers(), arguments, settings)
    }

    /// Runs Kafka's own command for rights.
    pub fn acl_command(&self, arguments: &[&str]) -> Result<()> {
        security::acl_command(&self.class_path, &self.bootstrap_servers(), arguments)
    }

    fn node(&mut self, id: usize) -> Result<&mut Node> {
        self.nodes.get_mut(id.wrapping_sub(1)).with_context(|| format!("there is no node {id}"))
    }

    fn settings(&self, node: &Node) -> String {
        let replicas = self.nodes.len().min(3);
        let in_sync = if replicas < 3 { 1 } else { 2 };
        let voters: Vec<_> =
            self.nodes.iter().map(|node| format!("{}@127.0.0.1:{}", node.id, node.controller_port)).collect();
        let Node { id, broker_port, controller_port, .. } = node;
        let security = self.security.as_ref();
        let (secured, secured_advertised) =
            security.map(|security| (security.listeners(), security.advertised())).unwrap_or_default();
        let further = |each: &dyn Fn(&Listener) -> String| node.listeners.iter().map(each).collect::<String>();
        let bound = further(&|listener| format!(",{}://127.0.0.1:{}", listener.name, listener.port));
        let advertised = further(&|listener| format!(",{}://127.0.0.1:{}", listener.name, listener.advertised_port));
        let protocols = further(&|listener| format!(",{}:PLAINTEXT", listener.name));
        let mut settings = vec![
            "process.roles=broker,controller".to_owned(),
            format!("node.id={id}"),
            format!("controller.quorum.voters={}", voters.join(",")),
            format!(
                "listeners=PLAINTEXT://127.0.0.1:{broker_port},CONTROLLER://127.0.0.1:{controller_port}{bound}{secured}"
            ),
            format!("advertised.listeners=PLAINTEXT://127.0.0.1:{broker_port}{advertised}{secured_advertised}"),
            "inter.broker.listener.name=PLAINTEXT".to_owned(),
            "controller.listener.names=CONTROLLER".to_owned(),
            format!(
                "listener.security.protocol.map=\
                 PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT,SASL_SSL:SASL_SSL,SSL:SSL{protocols}"
            ),
            format!("log.dirs={}", node.file("log")),
            format!("default.replication.factor={replicas}"),
            format!("min.insync.replicas={in_sync}"),
            format!("offsets.topic.replication.factor={replicas}"),
            format!("transaction.state.log.replication.factor={replicas}"),
            format!("transaction.state.log.min.isr={in_sync}"),
            format!("share.coordinator.state.topic.replication.factor={replicas}"),
            format!("share.coordinator.state.topic.min.isr={in_sync}"),
            // The defaults of 50 partitions make the first group and the first transaction wait for as many logs.
            "offsets.topic.num.partitions=8".to_owned(),
            "transaction.state.log.num.partitions=8".to_owned(),
            "group.initial.rebalance.delay.ms=0".to_owned(),
            "auto.create.topics.enable=false".to_owned(),
            // The default of 15 s is a long wait for a test of compaction.
            "log.cleaner.backoff.ms=1000".to_owned(),
        ];
        settings.extend(security.into_iter().flat_map(Security::settings));
        settings.join("\n")
    }
}

impl Node {
    fn new(id: usize, listeners: Vec<Listener>) -> Result<Self> {
        Ok(Self {
            part: None,
            formatting: None,
            id,
            broker_port: free_port()?,
            controller_port: free_port()?,
            listeners,
            scratch: Scratch::new("kafka")?,
        })
    }

    fn address(&self) -> String {
        format!("127.0.0.1:{}", self.broker_port)
    }

    fn file(&self, name: &str) -> String {
        self.scratch.path().join(name).display().to_string()
    }

    fn format(&mut self, class_path: &str, more: &[String]) -> Result<()> {
        let mut command = self.java(class_path, &["-XX:TieredStopAtLevel=1", "kafka.tools.StorageTool"]);
        command.args(["format", "-t", CLUSTER_ID, "-c", &self.file("server.properties")]).args(more);
        self.formatting = Some(Part::start("Kafka's StorageTool", command, self.file("format.log").as_ref())?);
        Ok(())
    }

    fn launch(&mut self, class_path: &str) -> Result<()> {
        if let Some(formatting) = self.formatting.take() {
            formatting.finish()?;
        }
        // Behind proxies it is killed and started over and over: what counts is how soon it is back.
        let quick: &[_] =
            if self.listeners.is_empty() { &[] } else { &["-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1"] };
        let mut command = self.java(class_path, &[quick, &["-Xmx512m", "kafka.Kafka"]].concat());
        command.arg(self.file("server.properties"));
        self.part = Some(Part::start("Kafka", command, self.file("broker.log").as_ref())?);
        Ok(())
    }

    fn java(&self, class_path: &str, arguments: &[&str]) -> Command {
        let mut command = java(class_path, &[]);
        // Kafka unpacks a library of its compression there; a broker that is killed leaves it behind.
        command.arg(format!("-Djava.io.tmpdir={}", self.scratch.path().display())).args(arguments);
        command
    }
}

pub(super) fn java(class_path: &str, arguments: &[&str]) -> Command {
    let mut command = bound_to_parent("KILL", "java");
    command.args(["-XX:-UsePerfData", "-cp", class_path]).args(arguments);
    command
}

fn brokers_known_to(address: &str) -> Option<usize> {
    let client: BaseConsumer = ClientConfig::new().set("bootstrap.servers", address).create().ok()?;
    let metadata = client.fetch_metadata(None, Duration::from_secs(2)).ok()?;
    Some(metadata.brokers().len())
}
