//! Memory stays under the bound that `docs/settings.md` states, whatever waits and however large it is, and nothing is lost.

use std::time::Instant;

use dosi_tests::chaos::proxy::{Passage, Proxy, Weather, Wire};
use dosi_tests::program::{Dosi, Running};
use dosi_tests::stack::{Addresses, Kafka, Listener, free_port};
use dosi_tests::topics::{self, Record};
use serde_json::json;

use crate::bad_records::with;
use crate::support_faults::{World, behind_proxy, good, profile, record, until, until_within, wait_until_not_ready};

const CODES: [&str; 4] = ["FA001", "FA002", "FA003", "FA004"];
const PARTITIONS: i32 = 12;
/// How many events wait while the database is away; the number that `make test` has time for, unless this says otherwise.
const EVENTS: &str = "DOSI_TEST_WAITING_EVENTS";
const EVENTS_DEFAULT: i64 = 25_000;
/// Records in the inboxes of all partitions, past which nothing more is fetched.
const FULL: f64 = 12_000.0;
const MIB: u64 = 1 << 20;
/// `max.message.bytes` of a topic that nobody has changed.
const RECORD_BYTES_MAX: u64 = 1_048_588;
const POOL_SIZE: u64 = 4;

/// As `docs/settings.md` says: of one instance that serves all partitions, with the services of its largest code.
fn bound_bytes(record_bytes_max: u64, services: u64) -> u64 {
    let (partitions, places) = (u64::try_from(PARTITIONS).unwrap(), POOL_SIZE - 1);
    128 * MIB
        + partitions * (2 * MIB + record_bytes_max)
        + places * (32 * MIB + 8 * record_bytes_max + services * (16 << 10))
}

fn assert_bounded(running: &Running, bound: u64, what: &str) {
    let peak = running.peak_memory_kib().unwrap() * 1024;
    println!("{what}: peak {} MiB, bound {} MiB", peak / MIB, bound / MIB);
    assert!(peak < bound, "{what}: peak {} MiB, bound {} MiB", peak / MIB, bound / MIB);
}

/// All partitions' lag, as dosi tells it.
fn lag(running: &Running) -> f64 {
    let page = running.metrics().unwrap_or_default();
    let lags = page.lines().filter(|line| line.starts_with("dosi_consumer_lag{"));
    lags.filter_map(|line| line.rsplit_once(' ')?.1.parse::<f64>().ok()).sum()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_backlog_that_waits_for_the_database_is_no_matter_of_memory() {
    let events: i64 = std::env::var(EVENTS).map_or(EVENTS_DEFAULT, |events| events.parse().unwrap());
    let world = World::new(&CODES, PARTITIONS).await;
    let (database, dosi) = behind_proxy(&world).await;
    let mut running = dosi.start(&["run"]).unwrap();
    running.wait_until_ready().unwrap();
    let chosen = |n: &i64| Record {
        partition: i32::try_from(n % i64::from(PARTITIONS)).ok(),
        // Of nobody whom DoS knows: what is waited for here is memory.
        ..record("FZ999", n / i64::from(PARTITIONS), profile("FZ999", "0113 1").to_string())
    };
    let numbers: Vec<i64> = (0..events).collect();
    let (first, waiting) = numbers.split_at(usize::try_from(PARTITIONS).unwrap());
    world.produce(&first.iter().map(chosen).collect::<Vec<_>>()).await;
    world.wait_until_settled().await;
    database.set(Weather { passage: Passage::Refused, ..Weather::default() });
    for some in waiting.chunks(20_000) {
        world.produce(&some.iter().map(chosen).collect::<Vec<_>>()).await;
    }
    wait_until_not_ready(&running, "database").await;
    // Of a partition that is paused the broker tells no more than what lay there when it was last asked.
    until("inboxes are full", async || lag(&running) >= FULL).await;
    assert_bounded(&running, bound_bytes(RECORD_BYTES_MAX, 0), &format!("{events} events wait"));

    database.set(Weather::default());
    let began = Instant::now();
    let within = std::time::Duration::from_secs(120 + u64::try_from(events / 500).unwrap());
    until_within(within, "all is applied", async || world.applied_events().await == events).await;
    println!("{events} events applied in {:?}", began.elapsed());
    world.wait_until_settled().await;
    assert_bounded(&running, bound_bytes(RECORD_BYTES_MAX, 0), &format!("{events} events applied"));
    assert_eq!(world.value::<i64>("SELECT count(*) FROM dos_integration.change_event_archive").await, events);
    let counted =
        (0..PARTITIONS).map(|number| topics::offsets(&world.addresses, world.dosi.dead_letter_topic(), number));
    assert_eq!(counted.map(|offsets| offsets.unwrap().len()).sum::<usize>(), 0);
    assert_eq!(running.stop("TERM").unwrap().status.code(), Some(0));
}

/// A world on a Kafka of its own that dosi reaches through a proxy, and the others past it.
async fn behind_slow_broker(codes: &[&str]) -> (Kafka, Proxy, World, Dosi) {
    let port = free_port().unwrap();
    let proxy = Proxy::start(port, Wire::Kafka).await.unwrap();
    let listener = Listener { name: "SLOW".to_owned(), port, advertised_port: proxy.port() };
    let kafka = Kafka::start_listening(vec![listener]).unwrap();
    let addresses = Addresses { kafka_bootstrap_servers: kafka.bootstrap_servers(), ..Addresses::from_env().unwrap() };
    let world = World::bare(addresses, codes, PARTITIONS).await;
    world.dosi.set_up().unwrap();
    let through = format!("127.0.0.1:{}", proxy.port());
    let dosi = world.dosi.clone().with("DOSI_KAFKA_BOOTSTRAP_SERVERS", &through);
    (kafka, proxy, world, dosi)
}

/// Events of 1 MB and the dead letters they make, to a broker that takes less in the time of one transaction than usually is
/// sent in one: it goes on in smaller ones.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn large_events_and_a_slow_broker_are_borne() {
    const EACH: i64 = 5;
    let (_kafka, broker, world, dosi) = behind_slow_broker(&CODES).await;
    // Random, as compression would make it small.
    let padding: String = (0..1_000_000).map(|_| char::from(rand::random_range(b'a'..=b'z'))).collect();
    let rejected = with(&json!({"ODSCode": CODES[0], "OrganisationTypeId": "GPB", "Padding": padding}));
    let applied = with(&json!({"ODSCode": CODES[0], "OrganisationName": "Pharmacy FA001", "Padding": padding}));
    for partition in 0..PARTITIONS {
        let events = (1..=EACH).map(|n| {
            let value = if n % 5 == 0 { &applied } else { &rejected };
            Record { partition: Some(partition), ..record(CODES[0], n * 100 + i64::from(partition), value.clone()) }
        });
        world.produce(&events.collect::<Vec<_>>()).await;
    }
    let mut running = dosi.start(&["run"]).unwrap();
    running.wait_until_ready().unwrap();
    broker.set(Weather { uploaded_bytes_per_second: Some(500_000), ..Weather::default() });
    until("all is applied", async || world.applied_events().await == EACH * i64::from(PARTITIONS)).await;
    let before = (0..PARTITIONS).filter_map(|partition| world.group_offset(partition)).sum::<i64>();
    let began = Instant::now();
    until("something is published", async || {
        (0..PARTITIONS).filter_map(|partition| world.group_offset(partition)).sum::<i64>() > before
    })
    .await;
    println!("published after {:?}", began.elapsed());
    broker.set(Weather { uploaded_bytes_per_second: Some(20_000_000), ..Weather::default() });
    let outcomes = world.outcomes().await;
    assert_bounded(&running, bound_bytes(RECORD_BYTES_MAX, 0), "60 events of 1 MB");
    let rejected = usize::try_from((EACH - 1) * i64::from(PARTITIONS)).unwrap();
    assert_eq!((outcomes.count("REJECTED"), outcomes.dead_letters.len()), (rejected, rejected));
    let whole = |letter: &&dosi_tests::audit::Record| letter.text.as_ref().is_some_and(|text| text.len() > 1_000_000);
    assert_eq!(outcomes.dead_letters.iter().filter(whole).count(), rejected);
    assert_eq!(running.stop("TERM").unwrap().status.code(), Some(0));
}

#[tokio::test]
async fn a_code_with_5000_services_is_kept_in_step() {
    const SERVICES: usize = 5_000;
    let world = World::new(&vec![CODES[0]; SERVICES], 1).await;
    world.produce(&[good(CODES[0], 1, "0113 1")]).await;
    let began = Instant::now();
    let running = world.run();
    let outcomes = world.outcomes().await;
    println!("an event to {SERVICES} services in {:?}", began.elapsed());
    assert_bounded(&running, bound_bytes(RECORD_BYTES_MAX, SERVICES.try_into().unwrap()), "5,000 services of a code");
    assert_eq!((outcomes.count("UPDATED"), outcomes.dead_letters.len()), (1, 0));
    assert_eq!(outcomes.outcome(0, 0).field("services_updated"), 5_000);
    let changed = "SELECT count(*) FROM pathwaysdos.services WHERE publicphone = '01131'";
    assert_eq!(world.value::<i64>(changed).await, 5_000);
    let entries = "SELECT count(*) FROM pathwaysdos.servicehistories, json_object_keys(history::json) AS entry";
    assert_eq!(world.value::<i64>(entries).await, 5_000);
    assert_eq!(running.stop("TERM").unwrap().status.code(), Some(0));
}
