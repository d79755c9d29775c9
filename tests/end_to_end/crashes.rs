//! The process ends before or after each durable step: the next one goes on as if nothing had happened.
//!
//! These run a binary with fail points, which no release has.

use std::os::unix::process::ExitStatusExt;

use dosi_tests::golden_form::members;
use dosi_tests::http;
use dosi_tests::stack::Scratch;

use crate::support_faults::{World, good, until};

const CODES: [&str; 3] = ["FA001", "FA002", "FA003"];
const SIGABRT: i32 = 6;

async fn one_each(world: &World, sequence: i64) {
    let events: Vec<_> = CODES.iter().map(|code| good(code, sequence, &format!("0113{sequence}"))).collect();
    world.produce(&events).await;
}

/// Runs with a fail point until that has ended the process; meanwhile the same events come again and again, so that every step
/// is come by more than once.
async fn crash(world: &World, failpoint: &str, sequence: i64) {
    let dosi = world.dosi.clone().with_fault_injection().with("FAILPOINTS", failpoint);
    let mut running = dosi.start(&["run"]).unwrap();
    if failpoint.starts_with("revocation") {
        // Partitions are given up on leaving.
        running.wait_until_ready().unwrap();
        world.wait_until_settled().await;
        running.signal("TERM");
    }
    until(&format!("{failpoint} ends the process"), async || {
        one_each(world, sequence).await;
        !running.is_running().unwrap()
    })
    .await;
    assert_eq!(running.wait().unwrap().status.signal(), Some(SIGABRT), "{failpoint}");
}

/// A crash with an outbox row left behind, one at the place when it is first come by, and one later.
async fn crash_at(point: &str) {
    let world = World::new(&CODES, 2).await;
    one_each(&world, 1).await;
    crash(&world, "database-commit-after=panic", 1).await;
    one_each(&world, 2).await;
    crash(&world, &format!("{point}=panic"), 2).await;
    one_each(&world, 3).await;
    let comes_again = ["database", "kafka"].iter().any(|step| point.starts_with(step));
    if comes_again {
        crash(&world, &format!("{point}=1*off->panic"), 3).await;
    }
    one_each(&world, 4).await;
    let running = world.run();
    let outcomes = world.outcomes().await;
    assert_eq!(outcomes.count("UPDATED"), 4 * CODES.len());
    assert_eq!(outcomes.dead_letters.len(), 0);
    for code in CODES {
        assert_eq!(world.phone(code).await.as_deref(), Some("01134"));
        assert_eq!(history_entries(&world, code).await, 4, "history of {code}");
    }
    assert_eq!(running.stop("TERM").unwrap().status.code(), Some(0));
}

async fn history_entries(world: &World, code: &str) -> usize {
    let history: String = world
        .value(&format!(
            "SELECT history FROM pathwaysdos.servicehistories AS h JOIN pathwaysdos.services AS s ON s.id = h.serviceid
             WHERE s.odscode = '{code}'"
        ))
        .await;
    members(&history).unwrap().len()
}

macro_rules! crashes {
    ($($name:ident: $($point:literal),+;)+) => {
        $(
            #[tokio::test]
            async fn $name() {
                $(crash_at($point).await;)+
            }
        )+
    };
}

crashes! {
    around_an_assignment: "assignment-before", "assignment-after";
    around_a_revocation: "revocation-before", "revocation-after";
    around_a_commit_in_the_database: "database-commit-before", "database-commit-after";
    around_a_look_into_the_outbox: "outbox-read-before", "outbox-read-after";
    around_the_beginning_of_a_kafka_transaction: "kafka-begin-before", "kafka-begin-after";
    around_the_offsets_of_a_kafka_transaction: "kafka-offsets-before", "kafka-commit-before";
    after_the_end_of_a_kafka_transaction: "kafka-commit-after";
    around_a_deletion_from_the_outbox: "outbox-delete-before", "outbox-delete-after";
}

/// Between giving partitions up and the rebalance in which the other would take them: the broker takes the one that comes
/// back for the one that was there.
#[tokio::test]
async fn partitions_that_belong_to_nobody_are_taken() {
    let codes: Vec<String> = (0..12).map(|number| format!("FA1{number:02}")).collect();
    let codes: Vec<&str> = codes.iter().map(String::as_str).collect();
    let world = World::new(&codes, 6).await;
    let each = |sequence| codes.iter().map(|code| good(code, sequence, &format!("0113{sequence}"))).collect::<Vec<_>>();
    let failing = world.dosi.clone().with_fault_injection().with("FAILPOINTS", "revocation-after=panic");
    let mut first = failing.start(&["run"]).unwrap();
    first.wait_until_ready().unwrap();
    world.produce(&each(1)).await;
    world.wait_until_settled().await;
    let _second = world.dosi.clone().with("DOSI_INSTANCE_ID", "second").start(&["run"]).unwrap();
    until("the first dies giving partitions up", async || !first.is_running().unwrap()).await;
    let _first = world.run();
    world.produce(&each(2)).await;
    assert_eq!(world.outcomes().await.count("UPDATED"), 2 * codes.len());
}

/// What hangs the main thread, such as a client of librdkafka that is dropped, does not keep the process.
#[tokio::test]
async fn a_start_that_hangs_ends_at_sigterm() {
    let world = World::new(&CODES, 1).await;
    let dosi = world.dosi.clone().with_fault_injection().with("FAILPOINTS", "setup=sleep(100000)");
    let mut running = dosi.start(&["run"]).unwrap();
    let url = running.url("/metrics");
    running.wait_until(|| http::get(&url).is_ok()).unwrap();
    running.signal("TERM");
    let ended = running.wait().unwrap();
    assert_eq!(ended.status.code(), Some(0), "{}", ended.stderr);
    assert!(ended.stderr.contains("left before everything had ended"), "{}", ended.stderr);
}

/// Whoever logs waits for a reader of stderr, which may be all that works.
#[tokio::test]
async fn a_stderr_that_nobody_reads_does_not_hold_the_process() {
    let world = World::new(&CODES, 1).await;
    let fifo = Scratch::new("stderr").unwrap();
    let fifo = fifo.path().join("fifo");
    let unread = "mkfifo \"$0\" && exec 3<>\"$0\" && exec \"$@\" 2>&3";
    // One thread for all tasks.
    let dosi = world.dosi.clone().with("DOSI_LOG", "debug").with("DOSI_DATABASE_POOL_SIZE", "4");
    let dosi = dosi.under(&["bash", "-c", unread, &fifo.display().to_string()]);
    let mut running = dosi.start(&["run"]).unwrap();
    running.wait_until_ready().unwrap();
    // A line each: more than a pipe holds.
    let events: Vec<_> = (1..=1_000).map(|sequence| good(CODES[0], sequence, "0113")).collect();
    world.produce(&events).await;
    let url = running.url("/livez");
    running.wait_until(|| http::get(&url).is_err()).unwrap();
    running.signal("TERM");
    let ended = running.wait().unwrap();
    assert_eq!(ended.status.code(), Some(0));
}

/// A transaction that is still under way when its partitions have to go sends nothing more; the next owner publishes.
#[tokio::test]
async fn a_transaction_that_does_not_end_is_abandoned() {
    let world = World::new(&CODES, 1).await;
    let dosi = world.dosi.clone().with_fault_injection().with("FAILPOINTS", "kafka-offsets-before=1*off->sleep(8000)");
    let mut first = dosi.start(&["run"]).unwrap();
    first.wait_until_ready().unwrap();
    one_each(&world, 1).await;
    let waiting = "SELECT count(*) FROM dos_integration.outbox";
    until("a batch waits for its publication", async || world.value::<i64>(waiting).await > 0).await;
    let _second = world.dosi.clone().with("DOSI_INSTANCE_ID", "second").start(&["run"]).unwrap();
    first.signal("TERM");
    until("the transaction is abandoned", async || first.log().contains("Kafka transaction abandoned")).await;
    let outcomes = world.outcomes().await;
    assert_eq!(outcomes.count("UPDATED"), CODES.len());
    until("the first has left", async || !first.is_running().unwrap()).await;
}
