//! How soon others go on with what an instance had, and when they do not have to.

use std::time::{Duration, Instant};

use dosi_tests::group::Group;
use dosi_tests::program::Running;
use dosi_tests::topics::Record;

use crate::support_faults::{World, good, until, until_within, wait_until_ready};

const CODES: [&str; 4] = ["FA001", "FA002", "FA003", "FA004"];
const PARTITIONS: i32 = 4;
/// Looser than what is promised (3, 15 and 30 s): tests share the machine with others.
const AFTER_SIGTERM: Duration = Duration::from_secs(20);
const AFTER_KILL: Duration = Duration::from_secs(40);
const AUDIT_AFTER_KILL: Duration = Duration::from_secs(60);
const SESSION: Duration = Duration::from_secs(6);
const TRIES: i64 = 5;

/// One event for each partition's code.
fn round(sequence: i64) -> Vec<Record> {
    let events = (0..PARTITIONS).zip(CODES);
    events
        .map(|(partition, code)| Record {
            partition: Some(partition),
            ..good(code, sequence, &format!("0113 {sequence}"))
        })
        .collect()
}

fn group(world: &World) -> Group {
    Group::new(&world.addresses, world.dosi.setting("DOSI_GROUP_ID"), world.dosi.input_topic()).unwrap()
}

fn start(world: &World, instance: &str) -> Running {
    world.dosi.clone().with("DOSI_INSTANCE_ID", instance).start(&["run"]).unwrap()
}

/// Both with half of the partitions, and everything so far applied and published.
async fn two(world: &World) -> (Running, Running) {
    let (stays, goes) = (start(world, "stays"), start(world, "goes"));
    until("each has two partitions", async || {
        // The first to ask may come before the coordinator has loaded its log.
        let owners = group(world).owners().unwrap_or_default();
        ["stays", "goes"].iter().all(|one| owners.get(*one).map(Vec::len) == Some(2))
    })
    .await;
    wait_until_ready(&stays).await;
    world.wait_until_settled().await;
    (stays, goes)
}

async fn caught_up(world: &World, events: i64, within: Duration) -> Duration {
    let began = Instant::now();
    until_within(within, &format!("{events} events are applied"), async || world.applied_events().await == events)
        .await;
    began.elapsed()
}

#[tokio::test]
async fn after_sigterm_the_other_goes_on_at_once() {
    let world = World::new(&CODES, PARTITIONS).await;
    world.produce(&round(1)).await;
    let (_stays, goes) = two(&world).await;
    let began = Instant::now();
    goes.signal("TERM");
    // Whoever has the partition: no event waits long, first for the one that leaves, then for the one that stays.
    let (mut sequence, mut longest, mut has_all) = (1, Duration::ZERO, false);
    while !has_all {
        has_all = group(&world).owners().unwrap().get("stays").map(Vec::len) == Some(4);
        sequence += 1;
        let sent = Instant::now();
        world.produce(&round(sequence)).await;
        caught_up(&world, 4 * sequence, AFTER_SIGTERM).await;
        longest = longest.max(sent.elapsed());
    }
    println!(
        "all partitions moved {:?} after SIGTERM, events sent and applied in {longest:?} at most",
        began.elapsed()
    );
    let outcomes = world.outcomes().await;
    assert_eq!((outcomes.count("UPDATED"), outcomes.dead_letters.len()), (4 * usize::try_from(sequence).unwrap(), 0));
    assert_eq!(goes.wait().unwrap().status.code(), Some(0));
}

/// It may have left a Kafka transaction open, behind which its successor's audit waits until the broker ends that.
#[tokio::test]
async fn after_a_kill_the_other_goes_on_and_its_audit_follows() {
    let world = World::new(&CODES, PARTITIONS).await;
    world.produce(&round(1)).await;
    let (_stays, goes) = two(&world).await;
    // Killed while events come, so that most times a transaction is open.
    for sequence in 2..=20 {
        world.produce(&round(sequence)).await;
    }
    drop(goes);
    let began = Instant::now();
    world.produce(&round(21)).await;
    println!("caught up {:?} after a kill", caught_up(&world, 84, AFTER_KILL).await);
    until_within(AUDIT_AFTER_KILL, "everything is published and can be read", async || {
        let group = group(&world);
        (0..PARTITIONS).all(|partition| world.group_offset(partition) == Some(21))
            && group.is_readable(world.dosi.audit_topic()).unwrap_or(false)
    })
    .await;
    println!("audit visible {:?} after a kill", began.elapsed());
    let outcomes = world.outcomes().await;
    assert_eq!((outcomes.count("UPDATED"), outcomes.dead_letters.len()), (84, 0));
}

/// Who is back before its session has ended finds its partitions as it left them: nobody is disturbed.
#[tokio::test]
async fn a_kill_and_a_quick_start_move_no_partition() {
    let world = World::new(&CODES, PARTITIONS).await;
    world.produce(&round(1)).await;
    let (stays, mut goes) = two(&world).await;
    let mut sequence = 1;
    // On a machine that is busy a start may take longer than the session.
    loop {
        assert!(sequence <= TRIES, "never back within {SESSION:?}");
        sequence += 1;
        let owned = group(&world).owners().unwrap();
        let rebalances = stays.metric("dosi_rebalances_total").unwrap();
        drop(goes);
        let began = Instant::now();
        goes = start(&world, "goes");
        world.produce(&round(sequence)).await;
        let caught_up = caught_up(&world, 4 * sequence, AFTER_KILL).await;
        if began.elapsed() < SESSION {
            println!("caught up {caught_up:?} after a kill and a start");
            assert_eq!(group(&world).owners().unwrap(), owned);
            assert_eq!(stays.metric("dosi_rebalances_total").unwrap(), rebalances);
            break;
        }
        world.wait_until_settled().await;
    }
    let outcomes = world.outcomes().await;
    assert_eq!((outcomes.count("UPDATED"), outcomes.dead_letters.len()), (4 * usize::try_from(sequence).unwrap(), 0));
    wait_until_ready(&goes).await;
}
