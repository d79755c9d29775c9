//! The error table of the design with its real causes: what the database refuses, and what happens when nobody can say.

use std::time::{Duration, Instant};

use dosi_tests::program::Running;
use serde_json::json;

use crate::support_faults::{World, good, readiness, until, wait_until_not_ready, wait_until_ready};

const CODES: [&str; 6] = ["FA001", "FA002", "FA003", "FA004", "FA005", "FA006"];

/// Refuses every update of the service with this code by raising an error that no table lists.
fn raising(code: &str, statement: &str) -> String {
    format!(
        "CREATE OR REPLACE FUNCTION pathwaysdos.in_the_way() RETURNS trigger LANGUAGE plpgsql AS $$
         BEGIN IF NEW.odscode ~ '{code}' THEN {statement}; END IF; RETURN NEW; END $$;
         CREATE OR REPLACE TRIGGER in_the_way BEFORE UPDATE ON pathwaysdos.services
         FOR EACH ROW EXECUTE FUNCTION pathwaysdos.in_the_way()"
    )
}

/// One event for each code, in that order, all in one batch as nothing runs yet.
async fn one_each(world: &World, sequence: i64) {
    let events: Vec<_> = CODES.iter().map(|code| good(code, sequence, &format!("0113 {sequence}"))).collect();
    world.produce(&events).await;
}

fn stopped_in_good_order(running: Running) {
    let began = Instant::now();
    let ended = running.stop("TERM").unwrap();
    assert_eq!(ended.status.code(), Some(0), "after {:?}: {}", began.elapsed(), ended.stderr);
    assert!(began.elapsed() < Duration::from_secs(10));
}

#[tokio::test]
async fn content_that_the_database_refuses_costs_one_event() {
    let world = World::new(&CODES, 1).await;
    world
        .execute(
            "ALTER TABLE pathwaysdos.services ADD CONSTRAINT no_two CHECK (odscode <> 'FA002' OR publicphone IS NULL);
             ALTER TABLE pathwaysdos.servicehistories ADD COLUMN short varchar(10);
             CREATE FUNCTION pathwaysdos.shorten() RETURNS trigger LANGUAGE plpgsql AS $$
             BEGIN IF NEW.serviceid = 1003 THEN NEW.short := 'longer than ten'; END IF; RETURN NEW; END $$;
             CREATE TRIGGER shorten BEFORE INSERT OR UPDATE ON pathwaysdos.servicehistories
             FOR EACH ROW EXECUTE FUNCTION pathwaysdos.shorten()",
        )
        .await;
    one_each(&world, 1).await;

    let running = world.run();
    let outcomes = world.outcomes().await;

    for (offset, reason, detail) in [(1, "23514", "constraint no_two"), (3, "Value too long", "")] {
        let report = outcomes.reports(0, offset, "DEAD_LETTERED")[0];
        assert_eq!((report.field("reason"), report.field("attempts")), (&json!(reason), &json!(1)));
        assert!(report.field("detail").as_str().unwrap().contains(detail), "{report:?}");
        assert_eq!(outcomes.dead_letter(0, offset).unwrap().header("dosi.attempts"), Some("1"));
    }
    assert_eq!((outcomes.count("UPDATED"), outcomes.count("DEAD_LETTERED"), outcomes.dead_letters.len()), (4, 2, 2));
    for code in ["FA001", "FA003", "FA005", "FA006"] {
        assert_eq!(world.phone(code).await.as_deref(), Some("01131"), "{code}");
    }
    let accepted = "SELECT count(*) FROM dos_integration.accepted_sequence WHERE ods_code IN ('FA002', 'FA004')";
    assert_eq!(world.value::<i64>(accepted).await, 0);
    assert_eq!(world.value::<i64>("SELECT count(*) FROM dos_integration.change_event_archive").await, 6);
    stopped_in_good_order(running);
}

#[tokio::test]
async fn another_writer_is_waited_for() {
    let world = World::new(&CODES, 1).await;
    let running = world.run();
    // Longer than the lock time-out of a session, and longer than five tries would take.
    world.execute("BEGIN; SELECT FROM pathwaysdos.services WHERE odscode = 'FA003' FOR UPDATE").await;
    one_each(&world, 1).await;
    until("a second try", async || retries(&running, "database") >= 3.0).await;
    assert_eq!(readiness(&running).status, 200);
    world.execute("COMMIT").await;
    world.wait_until_settled().await;

    // A writer that locks the other way round: the last service, then the first, which the lane holds.
    deadlock(&world, &running).await;
    let outcomes = world.outcomes().await;

    assert_eq!((outcomes.count("UPDATED"), outcomes.dead_letters.len()), (13, 0));
    stopped_in_good_order(running);
}

/// The lane has locked all but the last service and waits for that one; its holder then asks for the first.
async fn deadlock(world: &World, running: &Running) {
    // All six in one batch: they come while the lane waits with another.
    let other = dosi_tests::dos::Dos::open(world.dos.url()).await.unwrap();
    let lock = "BEGIN; SELECT FROM pathwaysdos.services WHERE odscode = 'FA003' FOR UPDATE";
    other.client().batch_execute(lock).await.unwrap();
    world.produce(&[good("FA003", 2, "0113 2")]).await;
    until_the_lane_waits(world).await;
    one_each(world, 3).await;
    let lag = "dosi_consumer_lag{partition=\"0\"}";
    until("all are there", async || running.metric(lag).unwrap().unwrap_or(0.0) >= 7.0).await;
    // Soon enough that the lane is the one to notice, before its lock time-out.
    world
        .execute(
            "SET deadlock_timeout = '30s'; BEGIN; UPDATE pathwaysdos.services SET fax = '1' WHERE odscode = 'FA006'",
        )
        .await;
    other.client().batch_execute("COMMIT").await.unwrap();
    until("the lane has gone on", async || world.position(0).await == Some(7)).await;
    let before = retries(running, "database");
    until_the_lane_waits(world).await;
    world.execute("UPDATE pathwaysdos.services SET fax = '1' WHERE odscode = 'FA001'; COMMIT").await;
    until("the lane gave way", async || retries(running, "database") > before).await;
}

async fn until_the_lane_waits(world: &World) {
    let waiting =
        "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()";
    until("the lane waits", async || world.value::<i64>(waiting).await > 0).await;
}

fn retries(running: &Running, dependency: &str) -> f64 {
    running.metric(&format!("dosi_retries_total{{dependency=\"{dependency}\"}}")).unwrap().unwrap_or(0.0)
}

#[tokio::test]
async fn an_unlisted_error_is_tried_five_times_and_costs_one_event() {
    let world = World::new(&CODES, 1).await;
    world.execute(&raising("FA002", "RAISE EXCEPTION 'hush-hush'")).await;
    let running = world.run();
    let began = Instant::now();
    one_each(&world, 1).await;
    world.wait_for_phone("FA006", "01131").await;
    assert!(began.elapsed() < Duration::from_secs(8), "five tries took {:?}", began.elapsed());

    // A statement that takes for ever is an unlisted error, too: it is cancelled, in each try after 0.8 s.
    world.execute("CREATE SEQUENCE pathwaysdos.met; GRANT USAGE ON SEQUENCE pathwaysdos.met TO PUBLIC").await;
    let cancelled = "IF nextval('pathwaysdos.met') > 2 THEN PERFORM pg_sleep(20); END IF;
        RAISE EXCEPTION 'x' USING ERRCODE = 'query_canceled'";
    world.execute(&raising("FA003", cancelled)).await;
    let began = Instant::now();
    one_each(&world, 2).await;
    world.wait_for_phone("FA006", "01132").await;
    assert!(began.elapsed() < Duration::from_secs(8), "five tries took {:?}", began.elapsed());
    let outcomes = world.outcomes().await;

    for (offset, reason) in [(1, "P0001"), (8, "57014")] {
        let report = outcomes.reports(0, offset, "DEAD_LETTERED")[0];
        assert_eq!((report.field("reason"), report.field("attempts")), (&json!(reason), &json!(5)));
        assert_eq!(outcomes.dead_letter(0, offset).unwrap().header("dosi.attempts"), Some("5"));
        assert_eq!(outcomes.dead_letter(0, offset).unwrap().header("__connect.errors.stage"), Some("TASK_PUT"));
    }
    assert_eq!((outcomes.count("UPDATED"), outcomes.dead_letters.len()), (10, 2));
    assert!(!running.log().contains("hush-hush"), "the server's message may quote a row");
    stopped_in_good_order(running);
}

#[tokio::test]
async fn two_organisations_that_fail_alike_are_no_events_fault() {
    let world = World::new(&CODES, 1).await;
    world.execute(&raising("FA00[23]", "RAISE EXCEPTION 'x'")).await;
    let running = world.run();
    one_each(&world, 1).await;
    wait_until_not_ready(&running, "database").await;
    assert!(readiness(&running).body.contains("P0001"), "{}", readiness(&running).body);
    assert_eq!(world.phone("FA004").await, None, "nothing is applied after an event that waits");

    world.execute("DROP TRIGGER in_the_way ON pathwaysdos.services").await;
    wait_until_ready(&running).await;
    let outcomes = world.outcomes().await;

    assert_eq!((outcomes.count("UPDATED"), outcomes.count("DEAD_LETTERED")), (5, 1));
    assert_eq!(outcomes.outcome(0, 1).field("outcome"), "DEAD_LETTERED");
    stopped_in_good_order(running);
}

/// An event that is under suspicion and then finds a row locked waits like any other.
#[tokio::test]
async fn a_suspected_event_that_meets_another_writer_is_not_dead_lettered() {
    let world = World::new(&[&CODES[..], &["ZZ999"]].concat(), 1).await;
    let other = dosi_tests::dos::Dos::open(world.dos.url()).await.unwrap();
    let lock = "BEGIN; SELECT FROM pathwaysdos.services WHERE odscode = 'ZZ999' FOR UPDATE";
    other.client().batch_execute(lock).await.unwrap();
    // Unclear with the batch, alone and in the first of the five tries; from then on another writer is in the way.
    world.execute("CREATE SEQUENCE pathwaysdos.met; GRANT USAGE ON SEQUENCE pathwaysdos.met TO PUBLIC").await;
    let statement = "IF nextval('pathwaysdos.met') <= 3 THEN RAISE EXCEPTION 'x'; END IF;
        PERFORM FROM pathwaysdos.services WHERE odscode = 'ZZ999' FOR UPDATE";
    world.execute(&raising("FA002", statement)).await;
    let running = world.run();
    one_each(&world, 1).await;
    let met = "SELECT last_value FROM pathwaysdos.met";
    until("more tries than five", async || world.value::<i64>(met).await > 10 || world.phone("FA006").await.is_some())
        .await;
    other.client().batch_execute("COMMIT").await.unwrap();
    let outcomes = world.outcomes().await;
    assert_eq!((outcomes.count("UPDATED"), outcomes.dead_letters.len()), (6, 0));
    stopped_in_good_order(running);
}

#[tokio::test]
async fn a_right_that_is_taken_away_is_named_and_waited_for() {
    let world = World::new(&CODES, 1).await;
    let role = world.dos.url().rsplit_once('/').unwrap().1.to_owned();
    let grants = format!(
        "CREATE ROLE {role} LOGIN PASSWORD 'local';
         GRANT USAGE ON SCHEMA pathwaysdos, dos_integration TO {role};
         GRANT ALL ON ALL TABLES IN SCHEMA pathwaysdos, dos_integration TO {role};
         GRANT ALL ON ALL SEQUENCES IN SCHEMA pathwaysdos, dos_integration TO {role}"
    );
    world.execute(&grants).await;
    let url = world.dos.url().replacen("postgres:local@", &format!("{role}:local@"), 1);
    let mut running = world.dosi.clone().with("DOSI_DATABASE_URL", &url).start(&["run"]).unwrap();
    running.wait_until_ready().unwrap();
    one_each(&world, 1).await;
    world.wait_until_settled().await;

    world.execute(&format!("REVOKE UPDATE ON pathwaysdos.services FROM {role}")).await;
    one_each(&world, 2).await;
    wait_until_not_ready(&running, "42501").await;
    assert_eq!(running.metric("dosi_dependency_up{dependency=\"database\"}").unwrap(), Some(0.0));
    world.execute(&format!("GRANT UPDATE ON pathwaysdos.services TO {role}")).await;
    wait_until_ready(&running).await;
    let outcomes = world.outcomes().await;

    assert_eq!((outcomes.count("UPDATED"), outcomes.dead_letters.len()), (12, 0));
    stopped_in_good_order(running);
    world.execute(&format!("DROP OWNED BY {role}; DROP ROLE {role}")).await;
}
