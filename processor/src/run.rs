//! `dosi run`: waits for the parts it needs, starts consumer, lanes and publisher, and leaves in order.

mod setup;

use std::{
    collections::BTreeMap, io::Write as _, num::NonZero, sync::Arc, thread::available_parallelism, time::Duration,
};

use tokio::{
    net::TcpListener,
    runtime::{self, Handle},
    signal::unix::{SignalKind, signal},
    sync::watch,
    task::JoinHandle,
    time::{Instant, interval, sleep, timeout},
};

use crate::{
    cli::RunSettings,
    error::Failure,
    kafka::{
        consumer::{self, Membership},
        partitions::Partitions,
        settings as protocol, sharing,
    },
    pipeline::{Shared, clearing, lane::stopped, lanes::Lanes, publishing::Publisher},
    protocol::position::GroupOffset,
    telemetry::{http, metrics::Metrics, readiness::Readiness},
};

/// Leaving takes no longer than this, whatever hangs.
const LEAVE_TIMEOUT: Duration = Duration::from_secs(9);
/// Of it, how long the ends of quiet partitions may take to be told and to become positions.
const ENDS_TIMEOUT: Duration = Duration::from_millis(600);
/// And how long lanes may finish the batches in hand.
const LANES_TIMEOUT: Duration = Duration::from_millis(2_700);
/// And how long the publisher may send what is applied.
const PUBLISH_TIMEOUT: Duration = Duration::from_secs(2);
/// And how long the outbox may take to be cleared of it.
const CLEAR_TIMEOUT: Duration = Duration::from_millis(500);
/// And how long the consumer may take to leave the group.
const GROUP_TIMEOUT: Duration = Duration::from_millis(2_500);

/// How long the last line may take to be written.
const LAST_LINE_TIMEOUT: Duration = Duration::from_millis(200);

/// How often the database is asked whether it still has the positions that were committed.
const POSITIONS_LOOK: Duration = Duration::from_secs(10);

/// Connections that one thread serves: each waits for the database most of its time.
const CONNECTIONS_A_WORKER: usize = 4;

/// How many threads lanes, publisher and their connections share. Fewer take less: tasks that hand each other their messages wake no
/// other thread for it, nor take the database's processors (at 400 events/s on two cores, with one worker in place of two, the median
/// to DoS fell from 20 to 9 ms).
pub fn workers(settings: &RunSettings) -> usize {
    let cores = available_parallelism().map_or(1, NonZero::get);
    settings.database.pool_size.div_ceil(CONNECTIONS_A_WORKER).min(cores)
}

/// Processes until it is to stop, or with `--exit-at-end` until the topic's end.
pub async fn run(settings: RunSettings, mut stop: watch::Receiver<bool>) -> Result<(), Failure> {
    if let Some(today) = settings.processing.today {
        tracing::warn!(%today, "DOSI_TODAY is set: this date is taken as today");
    }
    let metrics = Arc::new(Metrics::new());
    let readiness = Arc::new(Readiness::starting());
    let (stop_http, stopping_http) = watch::channel(false);
    let server = serve(&settings, &metrics, &readiness, stopping_http).await?;
    let end = process(&settings, &metrics, &readiness, &mut stop).await;
    stop_http.send_replace(true);
    // A client that does not let go does not hold the process.
    let _ = timeout(Duration::from_secs(1), server).await;
    end
}

async fn process(
    settings: &RunSettings,
    metrics: &Arc<Metrics>,
    readiness: &Arc<Readiness>,
    stop: &mut watch::Receiver<bool>,
) -> Result<(), Failure> {
    let (fatal, mut failed) = watch::channel(None);
    let shared = tokio::select! {
        shared = setup::setup(settings, metrics, readiness, fatal) => Arc::new(shared?),
        () = stopped(stop) => return Ok(()),
    };
    let work = start(settings, &shared)?;
    let ticker = tokio::spawn(tick(Arc::clone(&shared)));
    let looker = tokio::spawn(look_at_positions(Arc::clone(&shared)));
    let sharing = tokio::spawn(sharing::watch(shared.consumer().clone()));
    let mut is_asked = false;
    let line = tokio::select! {
        () = stopped(stop) => {
            is_asked = true;
            None
        }
        () = at_end(&shared), if settings.exit_at_end => None,
        Ok(line) = failed.wait_for(Option::is_some) => line.clone(),
    };
    if !is_asked {
        // Before anything is logged: a stderr that nobody reads holds whoever writes to it.
        leave_within(LEAVE_TIMEOUT, i32::from(line.is_some()), line.clone());
    }
    if let Some(line) = &line {
        tracing::error!("{line}");
    }
    if is_asked {
        move_to_ends(&shared).await;
    }
    work.leave(&shared).await;
    ticker.abort();
    looker.abort();
    sharing.abort();
    line.map_or(Ok(()), |line| Err(Failure::Failed(anyhow::anyhow!(line))))
}

/// Positions move past what is no record (markers of transactions), so that retention of an idle topic is no loss.
async fn move_to_ends(shared: &Shared) {
    let ends = shared.consumer().tell_ends(ENDS_TIMEOUT).await;
    let reached = |&(partition, end): &(i32, i64)| {
        shared.serving.get(partition).is_none_or(|partition| partition.is_halted() || partition.position() >= end)
    };
    let all_reached = async {
        while !ends.iter().all(reached) {
            sleep(Duration::from_millis(10)).await;
        }
    };
    if timeout(ENDS_TIMEOUT, all_reached).await.is_err() {
        tracing::debug!("left before every position was at its end");
    }
}

/// What runs until it is told to leave.
struct Work {
    lanes: Arc<Lanes>,
    publisher: JoinHandle<()>,
    stop_publisher: watch::Sender<bool>,
    clearing: JoinHandle<()>,
    stop_clearing: watch::Sender<bool>,
    consumer_ended: tokio::sync::oneshot::Receiver<()>,
}

fn start(settings: &RunSettings, shared: &Arc<Shared>) -> Result<Work, Failure> {
    let base = crate::config::kafka_base_config(&settings.kafka);
    let own = Membership {
        group_id: settings.deployment.group_id.clone(),
        instance_id: settings.processing.instance_id.clone(),
        topic: shared.topics.change_events.clone(),
    };
    let mut config = protocol::consumer_config(&base, &own.group_id, &own.instance_id);
    let quiet = if settings.exit_at_end {
        // Where a partition ends is told by statistics alone, and waited for.
        config.set("statistics.interval.ms", "100");
        Duration::ZERO
    } else {
        consumer::QUIET
    };
    let lanes = Arc::new(Lanes::new(Arc::clone(shared), Handle::current()));
    shared.readiness.set("group", Some("no partition is assigned yet".to_owned()));
    let (handle, consumer_ended) = consumer::start(&config, own, quiet, Arc::clone(&lanes) as Arc<dyn Partitions>)
        .map_err(|error| Failure::Failed(anyhow::Error::new(error).context("failed to start the consumer")))?;
    // Nothing asks for it before partitions are assigned, and those come through the handle's own thread.
    let _ = shared.consumer.set(handle);
    let (stop_publisher, stop) = watch::channel(false);
    let publisher = tokio::spawn(Publisher::new(Arc::clone(shared), stop).run());
    let (stop_clearing, stop) = watch::channel(false);
    let clearing = tokio::spawn(clearing::run(Arc::clone(shared), stop));
    shared.readiness.clear("start");
    Ok(Work { lanes, publisher, stop_publisher, clearing, stop_clearing, consumer_ended })
}

impl Work {
    /// Stop taking, finish the batches in hand, publish, leave the group. What is unpublished stays in the outbox.
    async fn leave(self, shared: &Shared) {
        tracing::info!("leaving");
        self.lanes.stop_all(LANES_TIMEOUT).await;
        self.stop_publisher.send_replace(true);
        if timeout(PUBLISH_TIMEOUT, self.publisher).await.is_err() {
            tracing::warn!("what is unpublished stays in the outbox");
        }
        self.stop_clearing.send_replace(true);
        if timeout(CLEAR_TIMEOUT, self.clearing).await.is_err() {
            tracing::debug!("left before the outbox was cleared");
        }
        shared.consumer().leave();
        if timeout(GROUP_TIMEOUT, self.consumer_ended).await.is_err() {
            tracing::warn!("left without the group's answer");
        }
        tracing::info!("left");
    }
}

/// Ends the process after `within`, whatever hangs: a thread that no async time-out reaches.
fn leave_within(within: Duration, code: i32, line: Option<String>) {
    std::thread::spawn(move || {
        std::thread::sleep(within);
        // Beside: a stderr that nobody reads holds whoever writes to it.
        std::thread::spawn(move || {
            tracing::warn!("left before everything had ended");
            if let Some(line) = line {
                // Nothing can be done about a stderr that is gone.
                let _ = writeln!(std::io::stderr(), "dosi: {line}");
            }
        });
        std::thread::sleep(LAST_LINE_TIMEOUT);
        std::process::exit(code);
    });
}

async fn serve(
    settings: &RunSettings,
    metrics: &Arc<Metrics>,
    readiness: &Arc<Readiness>,
    mut stop: watch::Receiver<bool>,
) -> Result<JoinHandle<std::io::Result<()>>, Failure> {
    let address = &settings.processing.http_listen;
    let listener = TcpListener::bind(address)
        .await
        .map_err(|error| Failure::Usage(format!("DOSI_HTTP_LISTEN (--http-listen) {address}: {error}")))?;
    let stopped = async move {
        let _ = stop.wait_for(|stop| *stop).await;
    };
    Ok(tokio::spawn(http::serve(listener, Arc::clone(metrics), Arc::clone(readiness), stopped)))
}

/// Turns true at SIGTERM or SIGINT, from now on: one that comes while nobody waits for it is not missed. The process ends then,
/// whatever it is at: the thread that listens is one of its own, as a stderr that nobody reads holds whoever logs. To be called outside
/// a runtime.
pub fn listen_for_stop() -> anyhow::Result<watch::Receiver<bool>> {
    let runtime = runtime::Builder::new_current_thread().enable_io().build()?;
    let listening = runtime.enter();
    let (mut terminate, mut interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    drop(listening);
    let (stop, stopping) = watch::channel(false);
    std::thread::spawn(move || {
        runtime.block_on(async {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
            }
        });
        leave_within(LEAVE_TIMEOUT, 0, None);
        stop.send_replace(true);
    });
    Ok(stopping)
}

/// Done when the group's offset has reached, for every partition, the end that it had at start.
async fn at_end(shared: &Shared) {
    let mut left: BTreeMap<i32, i64> = shared.ends.clone();
    let mut asked = Instant::now();
    while !left.is_empty() {
        let ask = asked.elapsed() > Duration::from_millis(500);
        for (partition, end) in left.clone() {
            let (applied, group) = match shared.serving.get(partition) {
                Some(ours) => {
                    let protocol = &shared.serving.lock().protocol;
                    let unpublished = protocol.unpublished(ours.assignment);
                    unpublished.map_or((0, None), |known| (known.applied(), Some(known.group())))
                }
                None if ask => (end, shared.group_offset(partition).await),
                None => (end, None),
            };
            // A position behind the group's offset is caught up with, too.
            if applied >= end && matches!(group, Some(GroupOffset::At(offset)) if offset >= end) {
                left.remove(&partition);
            }
        }
        if ask {
            asked = Instant::now();
        }
        sleep(Duration::from_millis(20)).await;
    }
    tracing::info!("every partition has reached the end it had at start");
}

/// Gauges that nobody sets as things happen.
async fn tick(shared: Arc<Shared>) {
    let mut ticks = interval(Duration::from_secs(1));
    loop {
        ticks.tick().await;
        shared.measure();
    }
}

/// Looks whether the database has lost commits, beside everything else.
async fn look_at_positions(shared: Arc<Shared>) {
    loop {
        sleep(POSITIONS_LOOK).await;
        shared.look_at_positions().await;
    }
}
