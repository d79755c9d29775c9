//! The program `dosi`: reads settings, fails early, hands over.

use std::{
    io::{self, Write as _},
    process::ExitCode,
    time::Duration,
};

use dosi::{
    cli::{self, Command, Invocation, MigrateSettings},
    error::Failure,
    kafka::records,
    output, position,
    postgres::{
        Fault,
        database::Database,
        migrations::{self, Migrated},
    },
    run, telemetry,
};
use tokio::time::{Instant, timeout_at};

/// A quarter of the processor time went into the C library's allocator.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

fn main() -> ExitCode {
    end_on_panic();
    // Before any other use of it: without this, OpenSSL clears up at exit under threads that still use it (a client that is being
    // made or ended beside), and the process dies of a segmentation fault in place of its exit code.
    openssl::init();
    #[cfg(feature = "fault-injection")]
    dosi::fault_injection::set_up();
    match cli::parse(std::env::args_os()).and_then(invoke) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            // Nothing can be done about a stderr that is gone.
            let _ = writeln!(io::stderr(), "dosi: {failure}");
            failure.exit_code()
        }
    }
}

/// A panic is a defect. One thread or task less would leave partitions to nobody; a process less is taken over by others.
fn end_on_panic() {
    let print = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        if records::may_panic() {
            return;
        }
        print(panic);
        std::process::abort();
    }));
}

fn invoke(invocation: Invocation) -> Result<(), Failure> {
    match invocation {
        Invocation::Print(text) => output::print(&text),
        Invocation::Command(command) => carry_out(*command),
    }
}

fn carry_out(command: Command) -> Result<(), Failure> {
    match command {
        Command::Completions(settings) => output::print(&cli::completions(settings.shell)),
        Command::Migrate(settings) => {
            telemetry::init(&settings.log)?;
            block_on(1, migrate(settings))
        }
        Command::Topics(settings) => {
            telemetry::init(&settings.log)?;
            block_on(1, dosi::kafka::topics::run(&settings))
        }
        Command::Run(settings) => {
            telemetry::init(&settings.log)?;
            let stop = run::listen_for_stop()?;
            block_on(run::workers(&settings), run::run(settings, stop))
        }
        Command::Position(settings) => {
            telemetry::init(settings.log())?;
            block_on(1, position::run(settings))
        }
        Command::Publish(settings) => {
            telemetry::init(&settings.log)?;
            block_on(1, dosi::publish::run(settings))
        }
    }
}

/// A command that cannot reach what it needs gives up after this long.
const GIVE_UP: Duration = Duration::from_secs(30);
/// What is asked again and again gives up a little earlier, so that what is told is why.
const ASK_UNTIL: Duration = Duration::from_millis(29_500);

/// The deadline holds until the work begins: making a large index may take longer.
async fn migrate(settings: MigrateSettings) -> Result<(), Failure> {
    let deadline = Instant::now() + GIVE_UP;
    let database = Database::new(&settings.database)?;
    // One attempt may take longer than what is left.
    let lease = timeout_at(deadline, database.lease_within(ASK_UNTIL)).await;
    let mut lease = lease.unwrap_or_else(|_| Err(Fault::no_answer()))?;
    let Migrated { version, applied } = migrations::migrate(&mut lease, deadline).await?;
    lease.give_back();
    output::print(&format!("schema dos_integration is at version {version} ({applied} migrations applied)"))
}

fn block_on(workers: usize, work: impl Future<Output = Result<(), Failure>>) -> Result<(), Failure> {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(workers).enable_all().build();
    let runtime = runtime.map_err(|error| Failure::Failed(error.into()))?;
    let ended = runtime.block_on(work);
    // A blocking call of librdkafka that still waits for its time-out does not hold the process.
    runtime.shutdown_background();
    ended
}
