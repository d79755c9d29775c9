//! Instances come and go: DoS and the audit topic end as if nothing had happened.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use dosi_tests::dos::Dos;
use dosi_tests::program::Running;

use crate::ending::{Ending, assert_same};
use crate::golden::{Control, GoldenScene, cases, control};
use crate::support::{PARTITIONS, Run, until};
use crate::support_faults::{World, good};

/// Small batches, so that there are many moments to be killed in.
const BATCH_EVENTS: &str = "10";
/// The instance that goes has had this many events before it does.
const EVENTS_BEFORE: f64 = 40.0;
const STAYS: &str = "stays";
const GOES: &str = "goes";
/// Tries to kill between two commits that lie some milliseconds apart.
const KILLS_MAX: usize = 20;
const STOPS_WITHIN: Duration = Duration::from_secs(10);

struct Two {
    stays: Running,
    goes: Running,
    partitions_that_go: Vec<i32>,
    /// Holds one of these partitions back, so that the instance that goes cannot be done however quick it is.
    holding: Dos,
}

#[tokio::test]
async fn two_instances_one_killed() {
    one_of_two_goes(drop).await;
}

#[tokio::test]
async fn two_instances_one_asked_to_stop() {
    one_of_two_goes(stop).await;
}

async fn one_of_two_goes(go: fn(Running)) {
    let control = control();
    let run = control.golden.scene.new_run().await;
    let Two { mut stays, goes, partitions_that_go, holding } = two_in_the_middle(&run).await;

    go(goes);

    assert_unfinished(&run, &partitions_that_go).await;
    holding.client().batch_execute("COMMIT").await.unwrap();
    finish(control, &run, &mut stays).await;
    stop(stays);
    assert_as_control(control, &run).await;
}

/// One more than there are partitions waits for its turn; whoever rolls out a new version waits for it to be ready.
#[tokio::test]
async fn an_instance_without_partitions_is_ready() {
    let world = World::new(&["FA001"], 1).await;
    let mut first = world.run();
    let mut second = world.dosi.clone().with("DOSI_INSTANCE_ID", "second").start(&["run"]).unwrap();
    second.wait_until_ready().unwrap();
    first.wait_until_ready().unwrap();
}

#[tokio::test]
async fn killed_between_the_first_position_and_the_first_group_offset() {
    // A partition that has a position, and the group no offset for it.
    let landed = |positions: &Positions, committed: &BTreeMap<i32, i64>| {
        let bare = positions.iter().filter(|(partition, _)| !committed.contains_key(partition));
        let bare: Vec<_> = bare.collect();
        assert!(bare.iter().all(|(_, (start, position))| start == position), "applied before the group has an offset");
        !bare.is_empty()
    };
    killed_when(|positions| !positions.is_empty(), landed).await;
}

#[tokio::test]
async fn killed_between_the_first_batch_and_its_publication() {
    // A partition of which less is published than applied.
    let landed = |positions: &Positions, committed: &BTreeMap<i32, i64>| {
        positions.iter().any(|(partition, (_, position))| committed.get(partition) < Some(position))
    };
    killed_when(|positions| positions.values().any(|(start, position)| start < position), landed).await;
}

/// Effects, position and outbox row are one: whichever of them is held up, a kill leaves none of the others.
#[tokio::test]
async fn killed_while_part_of_a_batch_is_held_up() {
    let world = World::new(&["FA001"], 1).await;
    let held_up = [
        "SELECT FROM dos_integration.consumer_position FOR UPDATE",
        "SELECT FROM pathwaysdos.services WHERE odscode = 'FA001' FOR UPDATE",
        "LOCK TABLE dos_integration.change_event_archive",
        "LOCK TABLE dos_integration.outbox",
    ];
    world.produce(&[good("FA001", 1, "0113 1")]).await;
    for (sequence, hold) in (2..).zip(held_up) {
        let running = world.run();
        world.wait_until_settled().await;
        let before = world.position(0).await;
        world.execute(&format!("BEGIN; {hold}")).await;
        world.produce(&[good("FA001", sequence, &format!("0113 {sequence}"))]).await;
        let waiting =
            "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()";
        until("a batch waits", async || world.value::<i64>(waiting).await > 0).await;
        drop(running);
        world.execute("COMMIT").await;
        assert_eq!(world.position(0).await, before, "{hold}");
    }
    let _running = world.run();
    let outcomes = world.outcomes().await;
    assert_eq!((outcomes.count("UPDATED"), outcomes.dead_letters.len()), (5, 0));
    let entries = "SELECT count(*) FROM pathwaysdos.servicehistories, json_object_keys(history::json) AS entry";
    assert_eq!(world.value::<i64>(entries).await, 5, "each event leaves one entry of history");
}

/// Start and position of each partition that has a row.
type Positions = BTreeMap<i32, (i64, i64)>;

async fn positions(run: &Run) -> Positions {
    let read = "SELECT partition, start, position FROM dos_integration.consumer_position";
    let rows = run.dos.client().query(read, &[]).await.unwrap();
    rows.iter().map(|row| (row.get(0), (row.get(1), row.get(2)))).collect()
}

/// Kills as soon as the database shows `seen`, until one kill has `landed` in front of the next commit to Kafka; each of
/// these runs is then started again and must end well.
async fn killed_when(seen: fn(&Positions) -> bool, landed: impl Fn(&Positions, &BTreeMap<i32, i64>) -> bool) {
    let golden = GoldenScene::set(cases(1).into_iter().take(60).collect()).await;
    for _ in 0..KILLS_MAX {
        let run = golden.scene.new_run().await;
        let running = run.dosi.start(&["run"]).unwrap();
        until("the database shows what is waited for", async || seen(&positions(&run).await)).await;
        drop(running);

        let has_landed = landed(&positions(&run).await, &run.group.committed());
        run.to_end(Duration::from_secs(60));
        golden.assert_expected(&Ending::read(&golden.scene, &run).await);
        if has_landed {
            return;
        }
    }
    panic!("none of {KILLS_MAX} kills came between the two commits");
}

/// Two instances with half the partitions each, the one that is to go at work and not done: one to stay and one to go.
async fn two_in_the_middle(run: &Run) -> Two {
    let start = |instance| {
        let dosi = run.dosi.clone().with("DOSI_INSTANCE_ID", instance).with("DOSI_BATCH_EVENTS_MAX", BATCH_EVENTS);
        dosi.start(&["run"]).unwrap()
    };
    // No batch gets past this until both have their share: whoever came first would be done before the other began.
    let sql = run.dos.client();
    sql.batch_execute("BEGIN; LOCK TABLE dos_integration.change_event_archive IN SHARE MODE").await.unwrap();
    let (stays, goes) = (start(STAYS), start(GOES));
    let half = usize::try_from(PARTITIONS / 2).unwrap();
    let shared_out = async || [STAYS, GOES].iter().all(|one| run.group.owners().get(*one).map(Vec::len) == Some(half));
    until("each instance has half the partitions", shared_out).await;
    let partitions_that_go = run.group.owners().remove(GOES).unwrap();
    let holding = Dos::open(run.dos.url()).await.unwrap();
    let hold = format!(
        "BEGIN; SELECT FROM dos_integration.consumer_position WHERE partition = {} FOR UPDATE",
        partitions_that_go[0]
    );
    // Comes between two tries of its lane, which gives up waiting for the table now and then.
    holding.client().batch_execute(&hold).await.unwrap();
    sql.batch_execute("COMMIT").await.unwrap();
    // The other may still wait to try again: who waited for both might find this one done.
    until("the instance that is to go works", async || events_of(&goes) >= EVENTS_BEFORE).await;
    Two { stays, goes, partitions_that_go, holding }
}

/// Events that an instance has decided so far.
fn events_of(instance: &Running) -> f64 {
    // Before it listens there is no page.
    let page = instance.metrics().unwrap_or_default();
    let counts = page.lines().filter(|line| line.starts_with("dosi_change_events_total{"));
    counts.filter_map(|line| line.rsplit_once(' ')?.1.parse::<f64>().ok()).sum()
}

/// Otherwise nobody went in the middle of anything.
async fn assert_unfinished(run: &Run, partitions: &[i32]) {
    let (positions, ends) = (positions(run).await, run.group.ends());
    let left = partitions.iter().filter(|partition| positions[partition].1 < ends[partition]).count();
    assert!(left > 0, "the instance that went had nothing left to do");
}

async fn finish(control: &Control, run: &Run, stays: &mut Running) {
    run.wait_until_published(stays).await;
    let all = i64::try_from(control.ending.events.len()).unwrap();
    assert_eq!(run.applied().await, all);
    // Rows that are published are cleared from time to time.
    until("the outbox is cleared", async || run.outbox_rows().await == 0).await;
}

/// Exit code 0 within ten seconds.
fn stop(instance: Running) {
    let asked = Instant::now();
    let ended = instance.stop("TERM").unwrap();
    assert_eq!(ended.status.code(), Some(0), "{}", ended.stderr);
    assert!(asked.elapsed() < STOPS_WITHIN, "stopped after {:?}", asked.elapsed());
}

async fn assert_as_control(control: &Control, run: &Run) {
    let before = control.golden.services();
    let ending = Ending::read(&control.golden.scene, run).await;
    assert_same(&ending.without_moments(&before), &control.ending.without_moments(&before));
}
