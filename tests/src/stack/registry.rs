//! The schema registry: Apicurio with its Confluent-compatible API, in memory.

use anyhow::Result;

use super::installed::Installed;
use super::part::{Part, bound_to_parent};
use super::ports::free_port;
use super::scratch::Scratch;
use crate::http;

/// A registry on 127.0.0.1.
#[derive(Debug)]
pub struct Registry {
    // Before `scratch`: the process must be gone before its directory.
    part: Part,
    port: u16,
    _scratch: Scratch,
}

impl Registry {
    /// Starts a registry and returns when it answers.
    pub fn start() -> Result<Self> {
        let mut registry = Self::launch(&Installed::find()?)?;
        registry.wait_until_ready()?;
        Ok(registry)
    }

    pub(super) fn launch(installed: &Installed) -> Result<Self> {
        let scratch = Scratch::new("registry")?;
        let port = free_port()?;
        let mut command = bound_to_parent("KILL", "java");
        command
            .current_dir(scratch.path())
            .args(["-Xmx256m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-XX:-UsePerfData"])
            .arg(format!("-Djava.io.tmpdir={}", scratch.path().display()))
            .arg("-Dquarkus.http.host=127.0.0.1")
            .arg(format!("-Dquarkus.http.port={port}"))
            .arg("-jar")
            .arg(&installed.registry_jar);
        let process = Part::start("the schema registry", command, &scratch.path().join("registry.log"))?;
        Ok(Self { part: process, port, _scratch: scratch })
    }

    pub(super) fn wait_until_ready(&mut self) -> Result<()> {
        let subjects = format!("{}/subjects", self.url());
        self.part.wait_until(|| http::get(&subjects).is_ok_and(|answer| answer.status == 200))
    }

    /// Base of the Confluent-compatible API.
    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}/apis/ccompat/v7", self.port)
    }

    pub fn port(&self) -> u16 {
        self.port
    }

    pub fn pid(&self) -> u32 {
        self.part.pid()
    }
}
