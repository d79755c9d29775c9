//! The command line: commands, their settings and examples, and what wrong use is told.

use std::{io::IsTerminal as _, path::PathBuf};

use clap::{Args, CommandFactory, FromArgMatches, Parser, Subcommand, error::ErrorKind};

use crate::{
    config::{
        Consistent, DatabaseSettings, DeploymentSettings, KafkaSettings, LogSettings, ProcessingSettings,
        RegistrySettings, TopicSettings,
    },
    error::Failure,
    version,
};

mod usage;

/// Keeps the NHS Directory of Services in step with NHS.uk
///
/// Every setting is a flag and an environment variable; the flag wins. An empty variable counts as not set.
#[derive(Debug, Parser)]
#[command(name = "dosi", version = version::text(), propagate_version = false, after_help = EXAMPLES)]
pub struct Cli {
    #[command(subcommand)]
    pub command: Command,
}

const EXAMPLES: &str = "\
Examples:
  dosi migrate && dosi topics    prepare database, topics and schema
  dosi run                       process change events until told to stop
  dosi position show             see what is applied and what is published

Exit codes: 0 done; 1 failed while running; 2 wrong use, a wrong setting, or what only a person can mend";

/// What dosi can be asked to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    Migrate(MigrateSettings),
    Topics(TopicsSettings),
    Run(RunSettings),
    Position(PositionSettings),
    Publish(PublishSettings),
    Completions(CompletionsSettings),
}

/// Settings of `dosi migrate`.
#[derive(Args, Clone, Debug)]
#[command(about = "Create or upgrade the schema dos_integration")]
#[command(
    long_about = "Create or upgrade the schema dos_integration\n\nSafe to run again, and beside running instances."
)]
#[command(after_help = "\
Examples:
  dosi migrate
  dosi migrate --database-url postgres://dosi@db:5432/dos --database-password-file /run/secrets/db")]
pub struct MigrateSettings {
    #[command(flatten)]
    pub database: DatabaseSettings,
    #[command(flatten)]
    pub log: LogSettings,
}

/// Create missing topics and register the audit schema
///
/// Never changes or deletes one that exists, but reports what differs.
#[derive(Args, Clone, Debug)]
#[command(after_help = "\
Examples:
  dosi topics
  dosi topics --kafka-bootstrap-servers kafka:9092 --topic-partitions 24 --topic-replication 3")]
pub struct TopicsSettings {
    #[command(flatten)]
    pub kafka: KafkaSettings,
    #[command(flatten)]
    pub registry: RegistrySettings,
    #[command(flatten)]
    pub topics: TopicSettings,
    #[command(flatten)]
    pub log: LogSettings,
}

/// Process change events until SIGTERM or SIGINT
#[derive(Args, Clone, Debug)]
#[command(after_help = "\
Examples:
  dosi run
  dosi run --exit-at-end         process what the topic holds now, then exit
  DOSI_TODAY=2026-12-25 dosi run --exit-at-end --group-id rehearsal")]
pub struct RunSettings {
    /// Process every record that the topic holds at start, publish all audit, exit 0
    #[arg(long)]
    pub exit_at_end: bool,
    #[command(flatten)]
    pub kafka: KafkaSettings,
    #[command(flatten)]
    pub registry: RegistrySettings,
    #[command(flatten)]
    pub database: DatabaseSettings,
    #[command(flatten)]
    pub topics: TopicSettings,
    #[command(flatten)]
    pub deployment: DeploymentSettings,
    #[command(flatten)]
    pub processing: ProcessingSettings,
    #[command(flatten)]
    pub log: LogSettings,
}

/// Show or repair where processing stands
#[derive(Args, Clone, Debug)]
#[command(after_help = "\
Examples:
  dosi position show
  dosi position set --partition 3 --offset 1200 --reason 'topic was made again'")]
pub struct PositionSettings {
    #[command(subcommand)]
    pub action: PositionAction,
}

impl PositionSettings {
    /// The parts, whatever is done with them.
    fn parts(&self) -> &PositionParts {
        match &self.action {
            PositionAction::Show(show) => &show.parts,
            PositionAction::Set(set) => &set.parts,
        }
    }

    /// What is logged, and how.
    pub fn log(&self) -> &LogSettings {
        &self.parts().log
    }
}

/// What to do with positions.
#[derive(Clone, Debug, Subcommand)]
pub enum PositionAction {
    Show(PositionShowSettings),
    Set(PositionSetSettings),
}

/// Show each partition's position, the group's offset, the log's ends and what is unpublished
#[derive(Args, Clone, Debug)]
#[command(after_help = "\
Examples:
  dosi position show
  dosi position show --group-id rehearsal")]
pub struct PositionShowSettings {
    #[command(flatten)]
    pub parts: PositionParts,
}

/// Settings of `dosi position set`.
#[derive(Args, Clone, Debug)]
#[command(about = "Set a partition's position and the group's offset")]
#[command(long_about = "\
Set a partition's position and the group's offset

Refused while an instance works on the partition; leaves an audit record (POSITION_SET).")]
#[command(after_help = "\
Examples:
  dosi position set --partition 3 --offset 1200 --reason 'topic was made again'")]
pub struct PositionSetSettings {
    /// Partition of the topic of change events
    #[arg(long, value_name = "N", value_parser = partition)]
    pub partition: i32,
    /// Offset of the next record to process
    #[arg(long, value_name = "M", value_parser = offset)]
    pub offset: i64,
    /// Why, for the audit record
    #[arg(long, value_name = "TEXT", value_parser = reason)]
    pub reason: String,
    #[command(flatten)]
    pub parts: PositionParts,
}

/// The parts that positions lie in.
#[derive(Args, Clone, Debug)]
pub struct PositionParts {
    #[command(flatten)]
    pub kafka: KafkaSettings,
    #[command(flatten)]
    pub registry: RegistrySettings,
    #[command(flatten)]
    pub database: DatabaseSettings,
    #[command(flatten)]
    pub topics: TopicSettings,
    #[command(flatten)]
    pub deployment: DeploymentSettings,
    #[command(flatten)]
    pub log: LogSettings,
}

/// Settings of `dosi publish`.
#[derive(Args, Clone, Debug)]
#[command(about = "Send change events from a file of JSON lines")]
#[command(long_about = "\
Send change events from a file of JSON lines

Each line is {\"sequence\": N, \"correlation_id\": \"…\", \"event\": {…}}. A bad line is named by number and reason, \
the others are sent, and the exit code is 1.")]
#[command(after_help = "\
Examples:
  dosi publish events.jsonl
  zcat events.jsonl.gz | dosi publish -
  dosi publish --change-events-topic rehearsal events.jsonl.gz")]
pub struct PublishSettings {
    /// File of JSON lines, plain or gzip; - is stdin
    #[arg(value_name = "FILE")]
    pub file: PathBuf,
    #[command(flatten)]
    pub kafka: KafkaSettings,
    #[command(flatten)]
    pub topics: TopicSettings,
    #[command(flatten)]
    pub log: LogSettings,
}

/// Print a completion script for a shell
#[derive(Args, Clone, Debug)]
#[command(after_help = "\
Examples:
  dosi completions bash > /etc/bash_completion.d/dosi
  source <(dosi completions zsh)")]
pub struct CompletionsSettings {
    pub shell: clap_complete::Shell,
}

/// What reading the command line comes to.
#[derive(Debug)]
pub enum Invocation {
    Command(Box<Command>),
    /// `--help` or `--version`: to be printed on stdout.
    Print(String),
}

/// Reads command line and environment; whatever is wrong is told in one line that names the setting.
pub fn parse(arguments: impl IntoIterator<Item = std::ffi::OsString>) -> Result<Invocation, Failure> {
    let command = prepared(Cli::command());
    let known = command.clone();
    let parsed = command.try_get_matches_from(arguments).and_then(|matches| Cli::from_arg_matches(&matches));
    match parsed {
        Ok(cli) => check(&cli.command).map(|()| Invocation::Command(Box::new(cli.command))),
        Err(error) if matches!(error.kind(), ErrorKind::DisplayHelp | ErrorKind::DisplayVersion) => {
            let text = error.render();
            let is_seen = std::io::stdout().is_terminal();
            Ok(Invocation::Print(if is_seen { text.ansi().to_string() } else { text.to_string() }))
        }
        Err(error) => Err(Failure::Usage(usage::one_line(&error, &known))),
    }
}

/// An environment variable that is set to nothing counts as not set; a missing command is told in one line like other wrong use.
fn prepared(command: clap::Command) -> clap::Command {
    let is_empty = |argument: &clap::Arg| {
        argument.get_env().is_some_and(|name| std::env::var_os(name).is_some_and(|value| value.is_empty()))
    };
    command
        .arg_required_else_help(false)
        .mut_args(|argument| {
            let argument = if is_empty(&argument) { argument.env(clap::builder::Resettable::Reset) } else { argument };
            // A negative number is a wrong value of its setting, no unknown flag.
            if argument.get_action().takes_values() { argument.allow_negative_numbers(true) } else { argument }
        })
        .mut_subcommands(prepared)
}

fn check(command: &Command) -> Result<(), Failure> {
    match command {
        Command::Migrate(_) | Command::Completions(_) => Ok(()),
        Command::Topics(settings) => settings.topics.check().and_then(|()| settings.registry.check()),
        Command::Run(settings) => settings.topics.check().and_then(|()| settings.registry.check()),
        Command::Publish(settings) => settings.topics.check(),
        Command::Position(settings) => {
            let parts = settings.parts();
            parts.topics.check().and_then(|()| parts.registry.check())
        }
    }
}

/// The completion script for a shell.
pub fn completions(shell: clap_complete::Shell) -> String {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "dosi", &mut script);
    String::from_utf8_lossy(&script).into_owned()
}

fn partition(text: &str) -> Result<i32, String> {
    text.parse().ok().filter(|number| *number >= 0).ok_or_else(|| "must be a partition: 0, 1, 2 …".to_owned())
}

fn offset(text: &str) -> Result<i64, String> {
    text.parse().ok().filter(|number| *number >= 0).ok_or_else(|| "must be an offset: 0, 1, 2 …".to_owned())
}

fn reason(text: &str) -> Result<String, String> {
    const CHARACTERS_MAX: usize = 1000;
    if text.trim().is_empty() || text.chars().count() > CHARACTERS_MAX || text.contains('\0') {
        return Err("must be a text of 1 to 1000 characters".to_owned());
    }
    Ok(text.to_owned())
}

#[cfg(test)]
mod tests;
