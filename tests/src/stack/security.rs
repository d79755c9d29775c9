//! What makes a Kafka node one that asks who is there: TLS, SASL, client certificates, and rights.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use super::certificates::Identity;
use super::kafka::java;
use super::ports::free_port;

/// The name under which dosi's certificate and password are known.
pub const USER: &str = "dosi";

/// Listeners besides the one without any security, whose users may do everything: that one is the administrator's.
#[derive(Debug)]
pub struct Security {
    sasl_port: u16,
    certificates_port: u16,
    node: Identity,
    authority: PathBuf,
    password: String,
}

impl Security {
    /// `node` is who the broker is, at `localhost`; `authority` is whose certificates of clients it takes; `password` is that
    /// of [`USER`], with every SASL mechanism.
    pub fn new(node: Identity, authority: &Path, password: &str) -> Result<Self> {
        let (sasl_port, certificates_port) = (free_port()?, free_port()?);
        Ok(Self { sasl_port, certificates_port, node, authority: authority.to_owned(), password: password.to_owned() })
    }

    /// Port that asks for user and password over TLS.
    pub fn sasl_port(&self) -> u16 {
        self.sasl_port
    }

    /// Port that asks for a certificate over TLS.
    pub fn certificates_port(&self) -> u16 {
        self.certificates_port
    }

    pub(super) fn listeners(&self) -> String {
        format!(",SASL_SSL://127.0.0.1:{},SSL://127.0.0.1:{}", self.sasl_port, self.certificates_port)
    }

    pub(super) fn advertised(&self) -> String {
        format!(",SASL_SSL://localhost:{},SSL://localhost:{}", self.sasl_port, self.certificates_port)
    }

    pub(super) fn settings(&self) -> Vec<String> {
        let module = "org.apache.kafka.common.security";
        let (user, password) = (USER, &self.password);
        let mut settings = vec![
            "authorizer.class.name=org.apache.kafka.metadata.authorizer.StandardAuthorizer".to_owned(),
            "super.users=User:ANONYMOUS".to_owned(),
            "inter.broker.listener.name=PLAINTEXT".to_owned(),
            "ssl.keystore.type=PEM".to_owned(),
            format!("ssl.keystore.location={}", self.node.both.display()),
            "ssl.truststore.type=PEM".to_owned(),
            format!("ssl.truststore.location={}", self.authority.display()),
            "listener.name.ssl.ssl.client.auth=required".to_owned(),
            "ssl.principal.mapping.rules=RULE:^CN=([^,]+).*$/$1/,DEFAULT".to_owned(),
            "sasl.enabled.mechanisms=PLAIN,SCRAM-SHA-256,SCRAM-SHA-512".to_owned(),
            format!(
                "listener.name.sasl_ssl.plain.sasl.jaas.config={module}.plain.PlainLoginModule required \
                 user_{user}=\"{password}\";"
            ),
        ];
        settings.extend(["256", "512"].map(|bits| {
            format!(
                "listener.name.sasl_ssl.scram-sha-{bits}.sasl.jaas.config={module}.scram.ScramLoginModule required;"
            )
        }));
        settings
    }

    /// Arguments of the formatting of a node's log, which must know the passwords before anybody can come in to set them.
    pub(super) fn formatting(&self) -> Vec<String> {
        let scram = |bits| format!("SCRAM-SHA-{bits}=[name={USER},password={}]", self.password);
        ["256", "512"].into_iter().flat_map(|bits| ["--add-scram".to_owned(), scram(bits)]).collect()
    }
}

/// Runs `deploy/kafka/acls`, the script that operators use, with these arguments and settings of dosi.
pub(super) fn acls<'a>(
    class_path: &str,
    bootstrap_servers: &str,
    arguments: &[&str],
    settings: impl IntoIterator<Item = (&'a str, &'a str)>,
) -> Result<()> {
    let tool = tool(class_path);
    let words = std::iter::once(tool.get_program()).chain(tool.get_args()).map(|word| word.to_string_lossy());
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy/kafka/acls");
    let mut command = Command::new(script);
    command.args(arguments).envs(settings).env("KAFKA_ACLS", words.collect::<Vec<_>>().join(" "));
    succeed(command.env("DOSI_KAFKA_BOOTSTRAP_SERVERS", bootstrap_servers))
}

/// Runs Kafka's own command with these arguments.
pub(super) fn acl_command(class_path: &str, bootstrap_servers: &str, arguments: &[&str]) -> Result<()> {
    succeed(tool(class_path).args(["--bootstrap-server", bootstrap_servers]).args(arguments))
}

fn tool(class_path: &str) -> Command {
    java(class_path, &["-XX:TieredStopAtLevel=1", "org.apache.kafka.tools.AclCommand"])
}

fn succeed(command: &mut Command) -> Result<()> {
    let output = command.output().context("failed to change rights in Kafka")?;
    if !output.status.success() {
        let (stdout, stderr) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        bail!("failed to change rights in Kafka: {stdout}{stderr}");
    }
    Ok(())
}
