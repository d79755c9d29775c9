//! `with-stack [--synced | --bare] [--searched] [--] COMMAND…`: runs a command with PostgreSQL, Kafka and the schema registry
//! around it.
//!
//! `--bare`: without them, for a command that starts its own; it still ends with this program, and its scratch with it.
//! `--searched`: everything that dosi left behind is then searched for what tests planted; to find any is a failure.

use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::Path;
use std::process::{ExitCode, ExitStatus};
use std::time::Duration;

use anyhow::{Context, Result};
use dosi_tests::stack::{
    Addresses, Durability, SHARED_BUFFERS, Scratch, Settings, Stack, bound_to_parent, give_up, signal,
};
use dosi_tests::{dos, planted};
use tokio::process::Child;
use tokio::signal::unix::{SignalKind, signal as listen};
use tokio::sync::watch;
use tokio::time::timeout;

/// How long the command may take to end after a signal before it is killed.
const GRACE: Duration = Duration::from_secs(15);

/// The parts end with the thread that started them: that is the main one, and another listens for signals meanwhile.
#[tokio::main(worker_threads = 1)]
async fn main() -> ExitCode {
    match run().await {
        Ok(code) => code,
        Err(error) => {
            eprintln!("with-stack: {error:#}");
            ExitCode::FAILURE
        }
    }
}

async fn run() -> Result<ExitCode> {
    let mut arguments: Vec<_> = std::env::args_os().skip(1).collect();
    let mut takes = |option: &str| {
        let given = arguments.first().is_some_and(|first| first == option);
        arguments.drain(..usize::from(given));
        given
    };
    let (synced, bare, searched) = (takes("--synced"), takes("--bare"), takes("--searched"));
    takes("--");
    let usage = "usage: with-stack [--synced | --bare] [--searched] [--] COMMAND…";
    let (program, rest) = arguments.split_first().context(usage)?;

    // From here on a signal waits until it is asked for, so that it cannot leave half a stack behind.
    let mut signalled = listen_for_signals()?;
    let scratch = Scratch::new("stack")?;
    let kept = scratch.path().join("kept");
    std::fs::create_dir(&kept)?;
    // Lives until the command has ended.
    let stack = match start(synced, bare).await {
        Err(_) if signalled.has_changed()? => return Ok(ExitCode::from(signalled.borrow().1)),
        started => started?,
    };

    // A group of its own: Ctrl-C comes here alone and is passed on to all of it.
    let mut command = bound_to_parent("KILL", program);
    let addresses = stack.as_ref().map(Stack::addresses);
    command.args(rest).envs(addresses.iter().flat_map(Addresses::to_env)).envs([scratch.to_env()]).process_group(0);
    if searched {
        command.envs([planted::kept_env(&kept)]);
    }
    let mut child = tokio::process::Command::from(command).spawn().context("failed to start the command")?;
    let status = tokio::select! {
        status = child.wait() => status?,
        changed = signalled.changed() => {
            changed?;
            let (name, code) = *signalled.borrow_and_update();
            end(&mut child, name).await;
            return Ok(ExitCode::from(code));
        }
    };
    if let Some(addresses) = addresses.filter(|_| searched)
        && !nothing_planted_is_found(&addresses, &kept).await?
    {
        return Ok(ExitCode::FAILURE);
    }
    Ok(exit_code(status))
}

/// Says on stderr what was searched, and each place where personal data or a secret was found.
async fn nothing_planted_is_found(addresses: &Addresses, kept: &Path) -> Result<bool> {
    let found = planted::search(addresses, kept, &planted::MARKERS).await?;
    eprintln!(
        "searched for planted personal data and secrets: {} logs, metrics and outputs, {} rows of archive and outbox, {} records \
         of audit and dead letters: {} found",
        found.texts,
        found.rows,
        found.records,
        found.places.len()
    );
    found.places.iter().for_each(|place| eprintln!("  {place}"));
    Ok(found.places.is_empty())
}

async fn start(synced: bool, bare: bool) -> Result<Option<Stack>> {
    if bare {
        return Ok(None);
    }
    eprintln!("starting PostgreSQL, Kafka and the schema registry");
    let durability = if synced { Durability::Synced } else { Durability::Unsynced };
    let stack = Stack::start(&Settings { durability, kafka_nodes: 1, shared_buffers: SHARED_BUFFERS })?;
    dos::make_empty_template(&stack.addresses()).await?;
    Ok(Some(stack))
}

async fn end(child: &mut Child, name: &str) {
    let Some(group) = child.id().map(|id| format!("-{id}")) else { return };
    signal(name, &group);
    let _ = timeout(GRACE, child.wait()).await;
    // Whatever of the group did not listen.
    signal("KILL", &group);
    let _ = child.wait().await;
}

/// Name of the signal that came, and the exit code that tells of it.
type Signalled = (&'static str, u8);

/// The last signal that came; one that comes while the parts are starting ends that.
fn listen_for_signals() -> Result<watch::Receiver<Signalled>> {
    let mut interrupt = listen(SignalKind::interrupt())?;
    let mut terminate = listen(SignalKind::terminate())?;
    let (tell, signalled) = watch::channel(("", 0));
    tokio::spawn(async move {
        loop {
            let signal = tokio::select! {
                _ = interrupt.recv() => ("INT", 130),
                _ = terminate.recv() => ("TERM", 143),
            };
            tell.send_replace(signal);
            give_up();
        }
    });
    Ok(signalled)
}

fn exit_code(status: ExitStatus) -> ExitCode {
    let code = status.code().unwrap_or_else(|| 128 + status.signal().unwrap_or(0));
    ExitCode::from(u8::try_from(code).unwrap_or(1))
}
