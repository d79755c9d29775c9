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
    postgres::{database::Database, migrations},
    run, telemetry,
};

/// A quarter of the processor time went into the C library's allocator.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

fn main() -> ExitCode {
    end_on_panic();
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
            block_on(migrate(settings))
        }
        Command::Topics(settings) => {
            telemetry::init(&settings.log)?;
            block_on(dosi::kafka::topics::run(&settings))
        }
        Command::Run(settings) => {
            telemetry::init(&settings.log)?;
            block_on(run::run(settings))
        }
        Command::Position(settings) => {
            telemetry::init(settings.log())?;
            block_on(position::run(settings))
        }
        Command::Publish(settings) => {
            telemetry::init(&settings.log)?;
            block_on(dosi::publish::run(settings))
        }
    }
}

/// A command that cannot reach what it needs gives up after this long.
const GIVE_UP: Duration = Duration::from_secs(30);

async fn migrate(settings: MigrateSettings) -> Result<(), Failure> {
    let database = Database::new(&settings.database)?;
    let mut lease = database.lease_within(GIVE_UP).await?;
    let applied = migrations::migrate(&mut lease).await?;
    lease.give_back();
    output::print(&format!(
        "schema dos_integration is at version {} ({applied} migrations applied)",
        migrations::VERSION
    ))
}

fn block_on(work: impl Future<Output = Result<(), Failure>>) -> Result<(), Failure> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    let runtime = runtime.map_err(|error| Failure::Failed(error.into()))?;
    let ended = runtime.block_on(work);
    // A blocking call of librdkafka that still waits for its time-out does not hold the process.
    runtime.shutdown_background();
    ended
}
