//! What else one might pick: a generic sink. Debezium's JDBC sink in a standalone Kafka Connect copies records into one narrow
//! table; it decides nothing, reads nothing and knows no history.

use std::env;
use std::fs;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use dosi_tests::http;
use dosi_tests::stack::{Part, Scratch, bound_to_parent, free_port};
use dosi_tests::topics::Record;

use crate::backlog::{ROWS, ROWS_RATE};
use crate::england::BEFORE;
use crate::figures::Figures;
use crate::ground::Ground;
use crate::processes::{Processor, processor_of};
use crate::statements::first_and_last_commit;

/// Where `deploy/local/install --bench` put the connector.
const PLUGINS: &str = "DOSI_BENCH_CONNECT_PLUGINS";
const TABLE: &str = "public.sink_rows";
/// One for each core of the machine that the figures come from; dosi has three batches at a time.
const TASKS: u32 = 2;
const BATCH: u32 = 2_000;
const LOOK_EVERY: Duration = Duration::from_secs(2);
const WRITTEN_WITHIN: Duration = Duration::from_secs(300);

/// Lets the sink copy as many rows into an empty table.
pub async fn copy(ground: &mut Ground, rows: usize) -> Result<Figures> {
    let dos = ground.copy_of(BEFORE).await?;
    let make = format!("CREATE TABLE {TABLE} (id integer PRIMARY KEY, value text NOT NULL)");
    dos.client().batch_execute(&make).await?;
    let topic = ground.publish((0..rows).map(narrow)).await?;
    let scratch = Scratch::new("connect")?;
    let parts = ground.parts_time()?;
    let port = free_port()?;
    let mut connect = start(ground, &scratch, &topic, dos.url(), port)?;
    let count = format!("SELECT count(*) FROM {TABLE}");
    let deadline = Instant::now() + WRITTEN_WITHIN;
    loop {
        let written: i64 = dos.client().query_one(&count, &[]).await?.try_get(0)?;
        if usize::try_from(written)? == rows {
            break;
        }
        // A task that has failed leaves Connect running.
        let status = http::get(&format!("http://127.0.0.1:{port}/connectors/sink/status"));
        let has_failed = status.is_ok_and(|status| status.body.contains("FAILED"));
        if has_failed || Instant::now() > deadline || connect.wait(Duration::ZERO)?.is_some() {
            bail!("the sink has written {written} of {rows} rows:\n{}", connect.log());
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
    let (first, last) = first_and_last_commit(dos.client(), TABLE).await?;
    let (parts_now, connects) = (ground.parts_time()?, processor_of(connect.pid(), Processor::Alone)?);
    connect.stop("TERM")?;
    dos.remove(&ground.addresses).await?;
    let mut figures = Figures::default();
    #[expect(clippy::cast_precision_loss, reason = "far below 2^52")]
    let rows = rows as f64;
    figures.add(ROWS_RATE, rows / (last - first), "/s");
    figures.add(ROWS, rows, "");
    figures.add("first to last commit", last - first, "s");
    figures.add("processor time of Connect, start and all", connects, "s");
    figures.add("processor time of PostgreSQL", parts_now.postgres - parts.postgres, "s");
    figures.add("processor time of Kafka", parts_now.kafka - parts.kafka, "s");
    Ok(figures)
}

fn narrow(number: usize) -> Record {
    // Kafka's own converter of integers wants four bytes.
    let id = i32::try_from(number).unwrap_or(i32::MAX);
    Record {
        key: Some(id.to_be_bytes().to_vec()),
        value: Some(format!("value number {number}").into_bytes()),
        ..Record::default()
    }
}

fn start(ground: &Ground, scratch: &Scratch, topic: &str, database_url: &str, port: u16) -> Result<Part> {
    let plugins: PathBuf = env::var_os(PLUGINS).context("no connector: start this with `make bench-peers`")?.into();
    let (worker, sink) = (scratch.path().join("worker.properties"), scratch.path().join("sink.properties"));
    let offsets = scratch.path().join("offsets");
    fs::write(
        &worker,
        format!(
            "bootstrap.servers={}\nlisteners=http://127.0.0.1:{port}\nplugin.path={}\noffset.storage.file.filename={}\n\
            key.converter=org.apache.kafka.connect.converters.IntegerConverter\n\
            value.converter=org.apache.kafka.connect.storage.StringConverter\n\
            consumer.max.poll.records={BATCH}\n",
            ground.addresses.kafka_bootstrap_servers,
            plugins.display(),
            offsets.display(),
        ),
    )?;
    let (jdbc, user, password) = for_java(database_url).context("no user or address in the database's URL")?;
    fs::write(
        &sink,
        format!(
            "name=sink\nconnector.class=io.debezium.connector.jdbc.JdbcSinkConnector\ntasks.max={TASKS}\ntopics={topic}\n\
            connection.url={jdbc}\nconnection.username={user}\nconnection.password={password}\n\
            collection.name.format=sink_rows\nschema.evolution=none\ninsert.mode=upsert\nbatch.size={BATCH}\n\
            primary.key.mode=record_key\nprimary.key.fields=id\n\
            transforms=key,value\n\
            transforms.key.type=org.apache.kafka.connect.transforms.HoistField$Key\ntransforms.key.field=id\n\
            transforms.value.type=org.apache.kafka.connect.transforms.HoistField$Value\ntransforms.value.field=value\n",
        ),
    )?;
    let mut command = bound_to_parent("KILL", "java");
    command
        .current_dir(scratch.path())
        .args(["-Xmx512m", "-XX:-UsePerfData", "-cp", &ground.addresses.installed.class_path()])
        .arg(format!("-Djava.io.tmpdir={}", scratch.path().display()))
        .arg("org.apache.kafka.connect.cli.ConnectStandalone")
        .args([&worker, &sink]);
    Part::start("Kafka Connect", command, &scratch.path().join("connect.log"))
}

/// `postgres://user:password@host:port/name` as Java's driver wants it: URL, user and password.
fn for_java(url: &str) -> Option<(String, &str, &str)> {
    let (_, rest) = url.split_once("://")?;
    let (who, address) = rest.rsplit_once('@')?;
    let (user, password) = who.split_once(':')?;
    Some((format!("jdbc:postgresql://{address}?reWriteBatchedInserts=true"), user, password))
}
