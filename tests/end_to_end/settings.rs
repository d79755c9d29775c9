//! Wrong settings and missing parts: one clear line each, the exit code of the interface, nothing half done.

use std::fs;
use std::io::Write as _;
use std::iter::repeat_n;
use std::net::TcpListener;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use dosi_tests::dos::{self, Dos};
use dosi_tests::program::Dosi;
use dosi_tests::stack::{Addresses, Durability, Postgres, Scratch, free_port};
use dosi_tests::{audit, http, topics};
use flate2::{Compression, write::GzEncoder};
use serde_json::json;

use crate::support_faults::{World, assert_one_line, good, pass_on, profile, wait_until_not_ready, wait_until_ready};

/// Every setting with a value that it does not take.
const WRONG: [(&str, &str); 24] = [
    ("DOSI_KAFKA_BOOTSTRAP_SERVERS", "host:port:9092"),
    ("DOSI_KAFKA_CONFIG", "/nowhere/kafka.properties"),
    ("DOSI_SCHEMA_REGISTRY_URL", "ftp://localhost"),
    ("DOSI_SCHEMA_REGISTRY_PASSWORD_FILE", "/nowhere/password"),
    ("DOSI_SCHEMA_REGISTRY_CA_FILE", "/nowhere/ca.pem"),
    ("DOSI_DATABASE_URL", "mysql://me:hunter2@localhost/dos"),
    ("DOSI_DATABASE_URL", "postgres://me:hunter2@localhost/dos?sslmode=perhaps"),
    ("DOSI_DATABASE_PASSWORD_FILE", "/nowhere/password"),
    ("DOSI_DATABASE_SCHEMA", "path\"ways"),
    ("DOSI_DATABASE_POOL_SIZE", "none"),
    ("DOSI_DATABASE_POOL_SIZE", "1"),
    ("DOSI_CHANGE_EVENTS_TOPIC", "a topic"),
    ("DOSI_AUDIT_TOPIC", ".."),
    ("DOSI_DEAD_LETTER_TOPIC", "é"),
    ("DOSI_TOPIC_PARTITIONS", "0"),
    ("DOSI_TOPIC_REPLICATION", "-1"),
    ("DOSI_BATCH_EVENTS_MAX", "0"),
    ("DOSI_GROUP_ID", "my group"),
    ("DOSI_INSTANCE_ID", "a/b"),
    ("DOSI_ENVIRONMENT", "two words"),
    ("DOSI_HTTP_LISTEN", "9464"),
    ("DOSI_TODAY", "25.12.2026"),
    ("DOSI_LOG", "info,,=x"),
    ("DOSI_LOG_FORMAT", "xml"),
];

/// What the exactly-once protocol depends on, under every name that librdkafka knows.
const PROTECTED: [&str; 38] = [
    "fetch.message.max.bytes",
    "max.partition.fetch.bytes",
    "group.id",
    "group.instance.id",
    "group.protocol",
    "group.remote.assignor",
    "transactional.id",
    "transaction.timeout.ms",
    "isolation.level",
    "enable.auto.commit",
    "auto.commit.enable",
    "enable.auto.offset.store",
    "auto.offset.reset",
    "topic.auto.offset.reset",
    "enable.idempotence",
    "acks",
    "request.required.acks",
    "topic.acks",
    "max.in.flight",
    "max.in.flight.requests.per.connection",
    "retries",
    "message.send.max.retries",
    "message.timeout.ms",
    "delivery.timeout.ms",
    "topic.message.timeout.ms",
    "partitioner",
    "topic.partitioner",
    "partition.assignment.strategy",
    "session.timeout.ms",
    "heartbeat.interval.ms",
    "max.poll.interval.ms",
    "enable.partition.eof",
    "allow.auto.create.topics",
    "message.max.bytes",
    "queued.min.messages",
    "queued.max.messages.kbytes",
    "bootstrap.servers",
    "metadata.broker.list",
];

/// Of parts that are not there: nothing may be asked of them.
fn nowhere() -> Dosi {
    let addresses = Addresses {
        kafka_bootstrap_servers: "127.0.0.1:1".to_owned(),
        schema_registry_url: "http://127.0.0.1:1".to_owned(),
        ..Addresses::from_env().unwrap()
    };
    Dosi::new(&addresses, "postgres://me@127.0.0.1:1/dos")
}

#[test]
fn a_wrong_setting_is_named_and_nothing_is_started() {
    for (name, value) in WRONG {
        let ended = nowhere().with(name, value).run(&["run"]).unwrap();
        assert_one_line(&ended, 2, &[name]);
        assert_eq!(ended.stderr.lines().count(), 1, "{name}: {}", ended.stderr);
        assert!(!ended.stderr.contains("hunter2"), "{name}: {}", ended.stderr);
        let flag = format!("--{}={value}", name.trim_start_matches("DOSI_").to_lowercase().replace('_', "-"));
        assert_one_line(&nowhere().without(name).run(&["run", &flag]).unwrap(), 2, &[name]);
    }
    // Nothing is as good as not set: only what is wrong is named.
    let nothing = WRONG.iter().fold(nowhere(), |dosi, (name, _)| dosi.with(name, ""));
    assert_one_line(&nothing.with("DOSI_LOG_FORMAT", "xml").run(&["run"]).unwrap(), 2, &["DOSI_LOG_FORMAT"]);
    let same = nowhere().with("DOSI_AUDIT_TOPIC", "t").with("DOSI_DEAD_LETTER_TOPIC", "t").run(&["run"]).unwrap();
    assert_one_line(&same, 2, &["DOSI_AUDIT_TOPIC"]);
    for (arguments, naming) in [
        (&["position", "set", "--offset", "1", "--reason", "r"][..], "--partition"),
        (&["position", "set", "--partition", "0", "--reason", "r"], "--offset"),
        (&["position", "set", "--partition", "0", "--offset", "1"], "--reason"),
        (&["position", "set", "--partition", "-1", "--offset", "1", "--reason", "r"], "--partition"),
        (&["publish"], "FILE"),
        (&["publish", "/nowhere/events"], "/nowhere/events"),
        (&["run", "--no-such-flag"], "--no-such-flag"),
        (&["walk"], "walk"),
        (&[], "command"),
    ] {
        assert_one_line(&nowhere().run(arguments).unwrap(), 2, &[naming]);
    }
}

#[test]
fn what_the_protocol_depends_on_cannot_be_set() {
    let scratch = Scratch::new("settings").unwrap();
    let file = scratch.path().join("kafka.properties");
    let path = file.display().to_string();
    for name in PROTECTED {
        fs::write(&file, format!("# TLS\nsocket.keepalive.enable=true\n{name} = 1\n")).unwrap();
        let ended = nowhere().with("DOSI_KAFKA_CONFIG", &path).run(&["run"]).unwrap();
        assert_one_line(&ended, 2, &["DOSI_KAFKA_CONFIG", name, "line 3"]);
        assert_eq!(ended.stderr.lines().count(), 1, "{name}: {}", ended.stderr);
    }
}

/// Found when a client is made: the file is read and every setting known.
#[test]
fn a_setting_that_librdkafka_refuses_is_wrong_use_of_every_command() {
    let scratch = Scratch::new("settings").unwrap();
    let file = scratch.path().join("kafka.properties");
    fs::write(&file, "security.protocol=ssl\nssl.ca.location=/nowhere/ca.pem\n").unwrap();
    let events = scratch.path().join("events.jsonl").display().to_string();
    fs::write(&events, "").unwrap();
    let dosi = nowhere().with("DOSI_KAFKA_CONFIG", &file.display().to_string()).with("DOSI_HTTP_LISTEN", "127.0.0.1:0");
    // Clients that use OpenSSL are still being made when it ends, which once killed a third of such processes at exit.
    let runs = repeat_n(&["run"][..], 8);
    let others = [
        &["topics"][..],
        &["publish", &events],
        &["position", "show"],
        &["position", "set", "--partition", "0", "--offset", "0", "--reason", "r"],
    ];
    for command in runs.chain(others) {
        assert_one_line(&dosi.run(command).unwrap(), 2, &["DOSI_KAFKA_CONFIG"]);
    }
}

#[tokio::test]
async fn what_the_brokers_refuse_to_create_names_its_setting() {
    let world = World::new(&[], 1).await;
    let missing = topics::unique("missing");
    let dosi = world.dosi.clone().with("DOSI_AUDIT_TOPIC", &missing).with("DOSI_TOPIC_REPLICATION", "3");
    let ended = dosi.run(&["topics"]).unwrap();
    assert_one_line(&ended, 2, &["DOSI_TOPIC_REPLICATION", &missing]);
    assert!(ended.stdout.contains(&format!("{}: exists", world.dosi.input_topic())), "told: {}", ended.stdout);
}

/// No position, no offset, no record.
async fn assert_nothing_done(world: &World) {
    let positions = "SELECT count(*) FROM information_schema.tables
        WHERE table_schema = 'dos_integration' AND table_name = 'consumer_position'";
    if world.value::<i64>(positions).await > 0 {
        assert_eq!(world.position(0).await, None);
    }
    assert_eq!(world.group_offset(0), None);
}

#[tokio::test]
async fn what_only_a_person_can_mend_is_told_at_start() {
    let world = World::new(&["FA001"], 1).await;
    world.produce(&[good("FA001", 1, "0113 1")]).await;
    let start = |dosi: &Dosi| dosi.clone().with("DOSI_HTTP_LISTEN", "127.0.0.1:0").run(&["run"]).unwrap();

    let no_dos = start(&world.dosi.clone().with("DOSI_DATABASE_SCHEMA", "elsewhere"));
    assert_one_line(&no_dos, 2, &["DOSI_DATABASE_SCHEMA", "elsewhere"]);
    let fresh = Dos::create(&world.addresses).await.unwrap();
    assert_one_line(&start(&world.dosi.clone().with("DOSI_DATABASE_URL", fresh.url())), 2, &["dosi migrate"]);
    let wrong_password = world.dos.url().replacen(":local@", ":wrong@", 1);
    let refused = start(&world.dosi.clone().with("DOSI_DATABASE_URL", &wrong_password));
    assert_one_line(&refused, 2, &["password"]);
    assert!(!refused.stderr.contains("wrong@"), "{}", refused.stderr);
    for topic in ["DOSI_CHANGE_EVENTS_TOPIC", "DOSI_AUDIT_TOPIC", "DOSI_DEAD_LETTER_TOPIC"] {
        let missing = topics::unique("missing");
        let dosi = world.dosi.clone().with(topic, &missing);
        // A new audit topic needs its schema, or that would be what is told.
        assert_one_line(&start(&dosi), 2, &[&missing]);
    }
    assert_one_line(&start(&lacking_a_right(&world).await), 2, &["INSERT on dos_integration.mail_queue"]);
    assert_nothing_done(&world).await;
    assert_eq!(world.phone("FA001").await, None);
    assert!(audit::read(&world.addresses, &[world.dosi.audit_topic()]).unwrap().is_empty());
}

/// As a role with every right but one.
async fn lacking_a_right(world: &World) -> Dosi {
    let role = world.dos.url().rsplit_once('/').unwrap().1;
    let grants = format!(
        "CREATE ROLE {role} LOGIN PASSWORD 'local';
         GRANT USAGE ON SCHEMA pathwaysdos, dos_integration TO {role};
         GRANT ALL ON ALL TABLES IN SCHEMA pathwaysdos, dos_integration TO {role};
         GRANT ALL ON ALL SEQUENCES IN SCHEMA pathwaysdos, dos_integration TO {role};
         REVOKE INSERT ON dos_integration.mail_queue FROM {role}"
    );
    world.execute(&grants).await;
    world
        .dosi
        .clone()
        .with("DOSI_DATABASE_URL", &world.dos.url().replacen("postgres:local@", &format!("{role}:local@"), 1))
}

#[tokio::test]
async fn a_schema_that_the_registry_refuses_is_told_at_start() {
    let world = World::bare(Addresses::from_env().unwrap(), &["FA001"], 1).await;
    let subject = format!("{}-value", world.dosi.audit_topic());
    let body = json!({"schema": r#"{"type":"record","name":"AuditRecord","namespace":"uk.nhs.dosintegration",
        "fields":[{"name":"event_id","type":"int"}]}"#});
    let url = format!("{}/subjects/{subject}/versions", world.addresses.schema_registry_url);
    let media = "application/vnd.schemaregistry.v1+json";
    let registered = http::post(&url, media, &body.to_string()).unwrap();
    assert_eq!(registered.status, 200, "{}", registered.body);
    let config = format!("{}/config/{subject}", world.addresses.schema_registry_url);
    let configured = http::put(&config, media, r#"{"compatibility":"BACKWARD"}"#).unwrap();
    assert_eq!(configured.status, 200, "{}", configured.body);
    world.dosi.done(&["migrate"]).unwrap();
    assert_one_line(&world.dosi.run(&["topics"]).unwrap(), 2, &[&subject]);
    world.produce(&[good("FA001", 1, "0113 1")]).await;
    let ended = world.dosi.clone().with("DOSI_HTTP_LISTEN", "127.0.0.1:0").run(&["run"]).unwrap();
    assert_one_line(&ended, 2, &[&subject]);
    assert_nothing_done(&world).await;
}

#[tokio::test]
async fn parts_that_come_late_are_waited_for() {
    let world = World::new(&["FA001"], 1).await;
    world.produce(&[good("FA001", 1, "0113 1")]).await;
    // Ports at which the parts will be, once something passes on to them.
    let (kafka, registry) = (free_port().unwrap(), free_port().unwrap());
    let registry_url = world.dosi.setting("DOSI_SCHEMA_REGISTRY_URL").to_owned();
    let (authority, path) = registry_url.trim_start_matches("http://").split_once('/').unwrap();
    let mut postgres = Postgres::start(Durability::Unsynced).unwrap();
    let addresses = Addresses { postgres_url: postgres.url("postgres"), ..world.addresses.clone() };
    dos::make_empty_template(&addresses).await.unwrap();
    let own = Dos::create(&addresses).await.unwrap();
    let dosi = world.dosi.clone().with("DOSI_DATABASE_URL", own.url());
    dosi.done(&["migrate"]).unwrap();
    postgres.stop("INT").unwrap();
    let late = dosi
        .with("DOSI_KAFKA_BOOTSTRAP_SERVERS", &format!("127.0.0.1:{kafka}"))
        .with("DOSI_SCHEMA_REGISTRY_URL", &format!("http://127.0.0.1:{registry}/{path}"));
    let mut running = late.start(&["run"]).unwrap();
    for part in ["database", "kafka", "registry"] {
        wait_until_not_ready(&running, &format!("{part}: ")).await;
    }
    let _kafka = pass_on(kafka, world.addresses.kafka_bootstrap_servers.clone()).await;
    let _registry = pass_on(registry, authority.to_owned()).await;
    wait_until_not_ready(&running, "database: ").await;
    assert!(running.is_running().unwrap());
    assert_eq!(world.group_offset(0), None, "nothing is begun before all parts are there");
    postgres.launch().unwrap();
    postgres.wait_until_ready().unwrap();
    wait_until_ready(&running).await;
    crate::support_faults::until("the event is published", async || world.group_offset(0) == Some(1)).await;
    let ended = running.stop("TERM").unwrap();
    assert_eq!(ended.status.code(), Some(0), "{}", ended.stderr);
}

/// Side by side, as each takes its 30 s.
#[tokio::test]
async fn commands_give_up_after_30_seconds() {
    let scratch = Scratch::new("settings").unwrap();
    let file = scratch.path().join("events.jsonl").display().to_string();
    fs::write(&file, "").unwrap();
    let world = World::new(&[], 1).await;
    let without_registry = || world.dosi.clone().with("DOSI_SCHEMA_REGISTRY_URL", "http://127.0.0.1:1");
    let without_database = || world.dosi.clone().with("DOSI_DATABASE_URL", "postgres://me@127.0.0.1:1/dos");
    let show = ["position", "show"];
    let set = ["position", "set", "--partition", "0", "--offset", "0", "--reason", "r"];
    // It takes connections and never answers.
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let silent = silent.local_addr().unwrap();
    let commands: [(Dosi, &[&str]); 11] = [
        (world.dosi.clone().with("DOSI_DATABASE_URL", &format!("postgres://me@{silent}/dos")), &["migrate"]),
        (world.dosi.clone().with("DOSI_SCHEMA_REGISTRY_URL", &format!("http://{silent}")), &["topics"]),
        (nowhere(), &["migrate"]),
        (nowhere(), &["topics"]),
        (nowhere(), &["publish", &file]),
        (nowhere(), &show),
        (nowhere(), &set),
        (without_registry(), &["topics"]),
        (without_registry(), &set),
        (without_database(), &show),
        (without_database(), &set),
    ];
    std::thread::scope(|scope| {
        for (dosi, command) in commands {
            scope.spawn(move || {
                let began = Instant::now();
                assert_one_line(&dosi.run(command).unwrap(), 1, &[]);
                let elapsed = began.elapsed();
                let expected = Duration::from_secs(25)..Duration::from_secs(34);
                assert!(expected.contains(&elapsed), "{command:?}: {elapsed:?}");
            });
        }
    });
}

#[tokio::test]
async fn set_up_again_beside_a_running_instance_disturbs_nothing() {
    let world = World::new(&["FA001"], 1).await;
    let running = world.run();
    world.produce(&[good("FA001", 1, "0113 1")]).await;
    assert!(world.dosi.done(&["migrate"]).unwrap().contains("(0 migrations applied)"));
    let topics = world.dosi.done(&["topics"]).unwrap();
    assert!(!topics.contains("created") && topics.matches("exists").count() == 4, "{topics}");
    let subject = format!("{}-value", world.dosi.audit_topic());
    let rule = format!("{}/config/{subject}", world.addresses.schema_registry_url);
    let media = "application/vnd.schemaregistry.v1+json";
    assert_eq!(http::put(&rule, media, r#"{"compatibility":"FULL"}"#).unwrap().status, 200);
    let topics = world.dosi.done(&["topics"]).unwrap();
    assert!(topics.contains("left as it is: compatibility is FULL, not BACKWARD"), "{topics}");
    assert!(http::get(&rule).unwrap().body.contains(r#""FULL""#), "a rule that is there is not changed");
    let differing = world.dosi.clone().with("DOSI_TOPIC_PARTITIONS", "3").done(&["topics"]).unwrap();
    assert!(differing.contains("left as it is: partitions is 1, not 3"), "{differing}");
    world.produce(&[good("FA001", 2, "0113 2")]).await;
    let outcomes = world.outcomes().await;
    assert_eq!(outcomes.count("UPDATED"), 2);
    assert_eq!(running.metric("dosi_rebalances_total").unwrap(), Some(1.0));
}

#[test]
fn help_version_and_completions_tell_what_they_should() {
    for command in [
        &[][..],
        &["migrate"],
        &["topics"],
        &["run"],
        &["position"],
        &["position", "show"],
        &["position", "set"],
        &["publish"],
        &["completions"],
    ] {
        let help = nowhere().done(&[command, &["--help"]].concat()).unwrap();
        assert!(help.contains("Examples:") && help.contains("  dosi "), "{command:?}: {help}");
    }
    let help = nowhere().done(&["run", "--help"]).unwrap();
    for (name, _) in WRONG.iter().filter(|(name, _)| !name.starts_with("DOSI_POSITION")) {
        assert!(help.contains(name), "{name} is not in dosi run --help");
    }
    let version = nowhere().done(&["--version"]).unwrap();
    assert!(
        version.starts_with("dosi ") && version.contains("commit ") && version.contains("librdkafka 2."),
        "{version}"
    );
    let script = nowhere().done(&["completions", "bash"]).unwrap();
    let mut bash = Command::new("bash").arg("-n").stdin(Stdio::piped()).spawn().unwrap();
    bash.stdin.take().unwrap().write_all(script.as_bytes()).unwrap();
    assert!(bash.wait().unwrap().success() && script.contains("--exit-at-end"));
}

#[tokio::test]
async fn publish_names_bad_lines_and_sends_the_others() {
    let world = World::new(&["FA001"], 1).await;
    let scratch = Scratch::new("settings").unwrap();
    let line =
        |n: i64| json!({"sequence": n, "correlation_id": format!("c-{n}"), "event": profile("FA001", "1")}).to_string();
    let (plain, packed) = (scratch.path().join("a.jsonl"), scratch.path().join("b.jsonl.gz"));
    fs::write(&plain, format!("{}\nnot JSON\n\n{{\"event\":{{}}}}\n{}\n", line(1), line(2))).unwrap();
    let mut gzip = GzEncoder::new(fs::File::create(&packed).unwrap(), Compression::fast());
    gzip.write_all(line(3).as_bytes()).unwrap();
    gzip.finish().unwrap();

    let ended = world.dosi.run(&["publish", plain.to_str().unwrap()]).unwrap();
    assert_one_line(&ended, 1, &["not all lines were sent"]);
    assert!(ended.stderr.contains("line 2: ") && ended.stderr.contains("line 4: has no sequence"), "{}", ended.stderr);
    assert!(ended.stdout.contains("sent 2 events") && ended.stdout.contains("2 lines refused"), "{}", ended.stdout);
    assert!(world.dosi.done(&["publish", packed.to_str().unwrap()]).unwrap().contains("sent 1 events"));
    let empty = world.dosi.done(&["publish", "-"]).unwrap();
    assert!(empty.contains("sent 0 events"), "{empty}");

    let read = audit::read(&world.addresses, &[world.dosi.input_topic()]).unwrap();
    let sent: Vec<_> =
        read.iter().map(|record| (record.header("sequence-number"), record.header("correlation-id"))).collect();
    assert_eq!(sent, [(Some("1"), Some("c-1")), (Some("2"), Some("c-2")), (Some("3"), Some("c-3"))]);
    assert!(read.iter().all(|record| record.key == "FA001"));
    let missing = world.dosi.clone().with("DOSI_CHANGE_EVENTS_TOPIC", &topics::unique("missing"));
    assert_one_line(&missing.run(&["publish", plain.to_str().unwrap()]).unwrap(), 2, &["DOSI_CHANGE_EVENTS_TOPIC"]);
}
