//! Parts that go away while dosi runs, and come back: nothing is lost, nothing is doubled.

use std::fs;
use std::time::{Duration, Instant};

use dosi_tests::chaos::proxy::{Passage, Weather};
use dosi_tests::dos::{self, Dos};
use dosi_tests::program::{Dosi, Running};
use dosi_tests::stack::{Addresses, Durability, Kafka, Postgres, SUPERUSER, free_port, signal};
use dosi_tests::topics::{self, Record};

use rdkafka::admin::AdminOptions;

use crate::bad_input::{any_json, register};
use crate::bad_records::framed;
use crate::support_faults::{
    World, behind_proxy, good, pass_on, profile, readiness, record, until, wait_until_not_ready, wait_until_ready,
};

const CODES: [&str; 4] = ["FA001", "FA002", "FA003", "FA004"];

/// `rounds` events for each code, from this sequence number on.
fn rounds(first: i64, rounds: i64) -> Vec<Record> {
    let events = (first..first + rounds).flat_map(|n| CODES.map(|code| good(code, n, &format!("0113 {n}"))));
    events.collect()
}

/// In small batches, so that an outage meets one.
fn slowly(dosi: Dosi) -> Dosi {
    dosi.with("DOSI_BATCH_EVENTS_MAX", "5")
}

async fn own_postgres() -> (Postgres, World) {
    // A crash must not take commits along, or this would be a test of something else.
    let postgres = Postgres::start(Durability::Synced).unwrap();
    let addresses = Addresses { postgres_url: postgres.url("postgres"), ..Addresses::from_env().unwrap() };
    dos::make_empty_template(&addresses).await.unwrap();
    let mut world = World::bare(addresses, &CODES, 2).await;
    world.dosi = slowly(world.dosi);
    world.dosi.set_up().unwrap();
    (postgres, world)
}

impl World {
    async fn reopen(&mut self) {
        self.dos = Dos::open(self.dos.url()).await.unwrap();
    }

    async fn applied(&self) -> i64 {
        self.value("SELECT coalesce(sum(position), 0)::bigint FROM dos_integration.consumer_position").await
    }

    async fn wait_until_applied(&self, events: i64) {
        until(&format!("{events} events are applied"), async || self.applied().await >= events).await;
    }
}

#[tokio::test]
async fn a_database_that_goes_away_is_waited_for() {
    let (mut postgres, mut world) = own_postgres().await;
    let running = world.run();
    let mut events = 0;
    // Sessions ended in good order, and as a crash would.
    for (round, how) in [(1, "INT"), (101, "QUIT")] {
        world.produce(&rounds(round, 50)).await;
        world.wait_until_applied(events + 20).await;
        events += 200;
        postgres.stop(how).unwrap();
        wait_until_not_ready(&running, "database").await;
        postgres.launch().unwrap();
        postgres.wait_until_ready().unwrap();
        world.reopen().await;
        world.wait_until_applied(events).await;
        wait_until_ready(&running).await;
    }
    world.produce(&rounds(201, 50)).await;
    // Whoever is in the middle of a batch, and the publisher: all of them, several times.
    let others = "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity
        WHERE pid <> pg_backend_pid() AND datname = current_database()";
    let mut ended = 0;
    for part in 1..=5 {
        world.wait_until_applied(events + part * 20).await;
        ended += world.value::<i64>(others).await;
    }
    assert!(ended > 0);
    let outcomes = world.outcomes().await;

    assert_eq!((outcomes.count("UPDATED"), outcomes.dead_letters.len()), (600, 0));
    assert_eq!(world.value::<i64>("SELECT count(*) FROM dos_integration.change_event_archive").await, 600);
    let histories = "SELECT count(*) FROM pathwaysdos.servicehistories,
        json_object_keys(history::json) AS entry WHERE serviceid >= 1000";
    assert_eq!(world.value::<i64>(histories).await, 600, "each event leaves one entry of history");
    let processes = database_processes(&postgres);
    leaves_while_frozen(running, &world, 1001, |stop| send(stop, &processes)).await;
}

/// The server is gone and its standby takes no writes yet: an outage, and no event's fault.
#[tokio::test]
async fn a_fail_over_is_waited_for() {
    let (mut primary, mut world) = own_postgres().await;
    let standby = primary.standby().unwrap();
    let (_, database) = world.dos.url().rsplit_once('/').unwrap();
    let both = format!("127.0.0.1:{},127.0.0.1:{}", primary.port(), standby.port());
    let url = format!("postgres://{SUPERUSER}@{both}/{database}");
    world.dosi = world.dosi.with("DOSI_DATABASE_URL", &url);
    let running = world.run();
    world.produce(&rounds(1, 50)).await;
    world.wait_until_applied(20).await;
    // In good order: the standby has everything before the primary is gone.
    primary.stop("INT").unwrap();
    wait_until_not_ready(&running, "25006").await;
    let retries = || running.metric("dosi_retries_total{dependency=\"database\"}").unwrap().unwrap_or(0.0);
    let before = retries();
    world.produce(&rounds(51, 10)).await;
    until("more tries than five", async || retries() >= before + 6.0).await;
    assert_eq!(readiness(&running).status, 503);

    world.dos = Dos::open(&standby.url(database)).await.unwrap();
    let applied = world.applied().await;
    assert!((20..=200).contains(&applied), "{applied}");
    // Sessions that began on a standby are no better when it is one no longer: each that was refused is replaced.
    assert!(world.value::<bool>("SELECT pg_promote()").await);
    wait_until_ready(&running).await;
    world.wait_until_applied(240).await;
    let outcomes = world.outcomes().await;
    assert_eq!((outcomes.count("UPDATED"), outcomes.dead_letters.len()), (240, 0));
    assert_eq!(running.stop("TERM").unwrap().status.code(), Some(0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_broker_that_goes_away_delays_the_audit_only() {
    let mut kafka = Kafka::start(1).unwrap();
    let addresses = Addresses { kafka_bootstrap_servers: kafka.bootstrap_servers(), ..Addresses::from_env().unwrap() };
    let mut world = World::bare(addresses, &CODES, 2).await;
    world.dosi = slowly(world.dosi);
    world.dosi.set_up().unwrap();
    let running = world.run();
    world.produce(&rounds(1, 1)).await;
    world.wait_until_settled().await;

    // What is fetched by now waits behind a lock until the broker is gone.
    world.execute("BEGIN; SELECT FROM pathwaysdos.services WHERE typeid = 13 FOR UPDATE").await;
    world.produce(&rounds(2, 10)).await;
    let waiting =
        "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()";
    until("batches wait", async || world.value::<i64>(waiting).await > 0).await;
    kafka.stop_node(1, "TERM").unwrap();
    wait_until_not_ready(&running, "kafka").await;
    world.execute("COMMIT").await;
    world.wait_until_applied(44).await;
    let unpublished: i64 = world.value("SELECT sum(events)::bigint FROM dos_integration.outbox").await;
    assert!(unpublished > 0, "nothing is published without a broker");
    // Longer than a session, so that the group has lost its member.
    tokio::time::sleep(Duration::from_secs(8)).await;
    kafka.start_node(1).unwrap();
    wait_until_ready(&running).await;
    world.produce(&rounds(12, 5)).await;
    let outcomes = world.outcomes().await;

    assert_eq!((outcomes.count("UPDATED"), outcomes.dead_letters.len()), (64, 0));
    let broker = [kafka.pid(1).unwrap().to_string()];
    leaves_while_frozen(running, &world, 1001, |stop| send(stop, &broker)).await;

    let (database, through) = behind_proxy(&world).await;
    let mut running = through.start(&["run"]).unwrap();
    running.wait_until_ready().unwrap();
    let both = |frozen| {
        let passage = if frozen { Passage::Silent } else { Passage::Open };
        database.set(Weather { passage, ..Weather::default() });
        send(frozen, &broker);
    };
    leaves_while_frozen(running, &world, 2001, both).await;
}

#[tokio::test]
async fn a_registry_that_goes_away_holds_up_what_needs_it() {
    let mut world = World::new(&CODES, 2).await;
    let id = register(&world.addresses, &any_json());
    let port = free_port().unwrap();
    let (authority, path) = world.addresses.schema_registry_url.trim_start_matches("http://").split_once('/').unwrap();
    let authority = authority.to_owned();
    world.dosi = world.dosi.with("DOSI_SCHEMA_REGISTRY_URL", &format!("http://127.0.0.1:{port}/{path}"));
    let passing = pass_on(port, authority.clone()).await;
    // What passes on is a task of this test: it must not be held up by waiting.
    let running = world.dosi.start(&["run"]).unwrap();
    wait_until_ready(&running).await;
    passing.abort();
    assert!(passing.await.unwrap_err().is_cancelled());
    let value = framed(id, &profile(CODES[0], "0113 1").to_string());
    let ahead = Record { partition: Some(0), ..good(CODES[3], 1, "0113 1") };
    let needing = Record { partition: Some(0), ..record(CODES[0], 1, value) };
    let behind = Record { partition: Some(0), ..good(CODES[1], 1, "0113 1") };
    let beside = Record { partition: Some(1), ..good(CODES[2], 1, "0113 1") };
    world.produce(&[ahead, needing, behind, beside]).await;

    wait_until_not_ready(&running, "registry (partition 0): ").await;
    for code in [CODES[2], CODES[3]] {
        world.wait_for_phone(code, "01131").await;
    }
    let retries = r#"dosi_retries_total{dependency="registry"}"#;
    until("the tries are counted", async || running.metric(retries).unwrap() > Some(1.0)).await;
    assert_eq!((world.phone(CODES[0]).await, world.phone(CODES[1]).await), (None, None));
    let _passing = pass_on(port, authority).await;
    wait_until_ready(&running).await;
    let outcomes = world.outcomes().await;
    assert_eq!((outcomes.count("UPDATED"), outcomes.dead_letters.len()), (4, 0));
}

/// Each question lasts until it is given up after five seconds: in the one place that there is in the database, those of nine
/// partitions would keep the tenth waiting for most of a minute.
#[tokio::test]
async fn a_registry_that_hangs_holds_up_no_other_partition() {
    const ASKING: i32 = 9;
    let mut world = World::new(&CODES[..2], ASKING + 1).await;
    let port = free_port().unwrap();
    let (authority, path) = world.addresses.schema_registry_url.trim_start_matches("http://").split_once('/').unwrap();
    world.dosi = world.dosi.with("DOSI_SCHEMA_REGISTRY_URL", &format!("http://127.0.0.1:{port}/{path}"));
    world.dosi = world.dosi.with("DOSI_DATABASE_POOL_SIZE", "2");
    let passing = pass_on(port, authority.to_owned()).await;
    let running = world.dosi.start(&["run"]).unwrap();
    wait_until_ready(&running).await;
    passing.abort();
    assert!(passing.await.unwrap_err().is_cancelled());
    let _silent = std::net::TcpListener::bind(("127.0.0.1", port)).unwrap();
    let value = framed(1, &profile(CODES[0], "0113 1").to_string());
    let asking = |partition| Record { partition: Some(partition), ..record(CODES[0], 1, value.clone()) };
    world.produce(&(0..ASKING).map(asking).collect::<Vec<_>>()).await;
    wait_until_not_ready(&running, "registry (partition ").await;

    let since = Instant::now();
    world.produce(&[Record { partition: Some(ASKING), ..good(CODES[1], 1, "0113 1") }]).await;
    world.wait_for_phone(CODES[1], "01131").await;
    assert!(since.elapsed() < Duration::from_secs(20), "it waited for {:?}", since.elapsed());
    assert_eq!(world.phone(CODES[0]).await, None);
    assert_eq!(running.stop("TERM").unwrap().status.code(), Some(0));
}

/// Brokers answer, events are applied, and nothing can be published: that is told, and done once it can be.
#[tokio::test]
async fn an_audit_topic_that_is_gone_is_told_and_delays_the_audit_only() {
    let world = World::new(&CODES[..1], 1).await;
    let running = world.run();
    let audit = [world.dosi.audit_topic()];
    let options = AdminOptions::new().operation_timeout(Some(Duration::from_secs(10)));
    world.admin().delete_topics(&audit, &options).await.unwrap();
    world.produce(&[good(CODES[0], 1, "0113 1")]).await;
    world.wait_for_phone(CODES[0], "01131").await;
    wait_until_not_ready(&running, "kafka (publishing): ").await;

    topics::create(&world.addresses, audit[0], 1, &[]).await.unwrap();
    wait_until_ready(&running).await;
    until("it is published", async || world.group_offset(0) == Some(1)).await;
    assert_eq!(running.stop("TERM").unwrap().status.code(), Some(0));
}

/// The publisher alone meets it, and no lane has anything to apply that would say when it is over.
#[tokio::test]
async fn what_the_publisher_cannot_read_is_told_until_it_can() {
    let world = World::new(&CODES[..1], 1).await;
    world.produce(&[good(CODES[0], 1, "0113 1")]).await;
    let running = world.run();
    world.wait_until_settled().await;
    assert_eq!(running.stop("TERM").unwrap().status.code(), Some(0));
    // A batch that was applied and not published by a newer dosi, as one that replaces it again finds it.
    world.produce(&[good(CODES[0], 2, "0113 2")]).await;
    world
        .execute(
            "UPDATE dos_integration.consumer_position SET position = 2;
             INSERT INTO dos_integration.outbox (topic, partition, start_position, end_position, events, payload)
             SELECT topic, partition, 1, 2, 1, '\\xff0000' FROM dos_integration.consumer_position",
        )
        .await;
    let running = world.dosi.start(&["run"]).unwrap();
    wait_until_not_ready(&running, "outbox payload of an unknown version").await;
    assert_eq!(world.group_offset(0), Some(1));

    world.execute("UPDATE dos_integration.outbox SET payload = '\\x010000'").await;
    until("it is published", async || world.group_offset(0) == Some(2)).await;
    wait_until_ready(&running).await;
}

/// Stops processes, or lets them go on.
fn send(stop: bool, processes: &[String]) {
    for process in processes {
        // A session may have ended by itself.
        signal(if stop { "STOP" } else { "CONT" }, process);
    }
}

/// SIGTERM while parts hang with work under way: exit 0 within 10 s, whatever does not answer.
async fn leaves_while_frozen(running: Running, world: &World, first: i64, freeze: impl Fn(bool)) {
    world.produce(&rounds(first, 50)).await;
    freeze(true);
    let began = Instant::now();
    let ended = running.stop("TERM");
    let elapsed = began.elapsed();
    freeze(false);
    let ended = ended.unwrap();
    assert_eq!(ended.status.code(), Some(0), "after {elapsed:?}: {}", ended.stderr);
    assert!(elapsed < Duration::from_secs(10), "{elapsed:?}");

    // The next one goes on from there.
    let _running = world.run();
    let outcomes = world.outcomes().await;
    assert_eq!(outcomes.dead_letters.len(), 0);
    assert_eq!(outcomes.count("UPDATED"), usize::try_from(world.applied().await).unwrap());
}

/// The server and its sessions.
fn database_processes(postgres: &Postgres) -> Vec<String> {
    let server = postgres.pid().unwrap().to_string();
    let is_child = |process: &String| {
        let stat = fs::read_to_string(format!("/proc/{process}/stat")).unwrap_or_default();
        let parent = stat.rsplit_once(')').and_then(|(_, rest)| rest.split_whitespace().nth(1));
        parent == Some(server.as_str())
    };
    let all = fs::read_dir("/proc").unwrap().flatten().filter_map(|entry| entry.file_name().into_string().ok());
    let mut processes: Vec<_> = all.filter(is_child).collect();
    processes.push(server.clone());
    processes
}
