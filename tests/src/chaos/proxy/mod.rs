//! A TCP proxy between dosi and one of its parts, with weather: it cuts, delays, throttles, swallows, and can lose the answer
//! to the next COMMIT or to the next end of a Kafka transaction, for which it has to understand the wire.

mod wire;

pub use wire::Wire;

use std::net::Ipv4Addr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::time::sleep;

use wire::{Answer, Requests, Responses};

const CHUNK_BYTES: usize = 16 * 1024;
/// How long an answer that is to be lost may take before the connection is cut all the same.
const ANSWER_WITHIN: Duration = Duration::from_secs(10);

/// What lies between the two ends at the moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Weather {
    pub passage: Passage,
    /// Of each read, one way.
    pub delay: Duration,
    pub bytes_per_second: Option<u32>,
    /// Of what goes to the server; what comes from it is as quick as before.
    pub uploaded_bytes_per_second: Option<u32>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Passage {
    #[default]
    Open,
    /// Connections stay and new ones are accepted, and nothing passes.
    Silent,
    /// Connections are cut as soon as they come.
    Refused,
}

/// One listening port and what lies behind it. It ends with the runtime.
#[derive(Debug)]
pub struct Proxy {
    port: u16,
    control: Arc<Control>,
}

#[derive(Debug)]
struct Control {
    target_port: u16,
    wire: Wire,
    weather: watch::Sender<Weather>,
    /// Rises with every cut.
    cuts: watch::Sender<u64>,
    loses_next_answer: AtomicBool,
    answers_lost: AtomicU64,
}

impl Proxy {
    /// On a free port, for what listens or will listen on `target_port`.
    pub async fn start(target_port: u16, wire: Wire) -> Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.context("failed to bind a proxy")?;
        let port = listener.local_addr()?.port();
        let control = Arc::new(Control {
            target_port,
            wire,
            weather: watch::Sender::default(),
            cuts: watch::Sender::default(),
            loses_next_answer: AtomicBool::new(false),
            answers_lost: AtomicU64::new(0),
        });
        tokio::spawn(accept(listener, Arc::clone(&control)));
        Ok(Self { port, control })
    }

    pub fn port(&self) -> u16 {
        self.port
    }

    /// From now on, for connections that are there and that will come.
    pub fn set(&self, weather: Weather) {
        self.control.weather.send_replace(weather);
        if weather.passage == Passage::Refused {
            self.cut();
        }
    }

    /// Ends all connections at once.
    pub fn cut(&self) {
        self.control.cuts.send_modify(|cuts| *cuts += 1);
    }

    /// The next request of the kind that this proxy's wire knows reaches the server; its answer is lost with the connection.
    pub fn lose_next_answer(&self, arm: bool) {
        self.control.loses_next_answer.store(arm, Ordering::SeqCst);
    }

    /// How many answers came and were lost.
    pub fn answers_lost(&self) -> u64 {
        self.control.answers_lost.load(Ordering::SeqCst)
    }
}

async fn accept(listener: TcpListener, control: Arc<Control>) {
    loop {
        // An error here is the machine's (no file descriptors left); the next try may succeed.
        if let Ok((client, _)) = listener.accept().await {
            tokio::spawn(connection(client, Arc::clone(&control)));
        }
    }
}

/// Both ways of one connection, until one of them ends or it is cut.
async fn connection(client: TcpStream, control: Arc<Control>) {
    let mut cuts = control.cuts.subscribe();
    if control.weather.borrow().passage == Passage::Refused {
        return;
    }
    let Ok(server) = TcpStream::connect((Ipv4Addr::LOCALHOST, control.target_port)).await else { return };
    let nodelay = client.set_nodelay(true).and(server.set_nodelay(true));
    if nodelay.is_err() {
        return;
    }
    let awaited = Mutex::new(None);
    let (client_in, client_out) = client.into_split();
    let (server_in, server_out) = server.into_split();
    tokio::select! {
        () = requests(client_in, server_out, &control, &awaited) => {}
        () = responses(server_in, client_out, &control, &awaited) => {}
        _ = cuts.changed() => {}
    }
}

/// The answer that is to be lost, once its request has passed.
type Awaited = Mutex<Option<Answer>>;

async fn requests(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, control: &Control, awaited: &Awaited) {
    let mut requests = Requests::new(control.wire);
    let mut chunk = vec![0; CHUNK_BYTES];
    while let Ok(length @ 1..) = from.read(&mut chunk).await {
        if let Some(answer) = requests.see(&chunk[..length])
            && control.loses_next_answer.swap(false, Ordering::SeqCst)
        {
            *awaited.lock().unwrap_or_else(PoisonError::into_inner) = Some(answer);
        }
        travel(length, control, |weather| weather.uploaded_bytes_per_second.or(weather.bytes_per_second)).await;
        if to.write_all(&chunk[..length]).await.is_err() {
            return;
        }
    }
}

async fn responses(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, control: &Control, awaited: &Awaited) {
    let mut responses = Responses::new(control.wire);
    let mut chunk = vec![0; CHUNK_BYTES];
    while let Ok(length @ 1..) = from.read(&mut chunk).await {
        let bytes = &chunk[..length];
        let ids = responses.see(bytes);
        let answer = awaited.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(answer) = answer {
            return lose(answer, bytes, &ids, from, responses, control).await;
        }
        travel(length, control, |weather| weather.bytes_per_second).await;
        if to.write_all(bytes).await.is_err() {
            return;
        }
    }
}

/// Reads on until the answer has come, which nobody is told.
async fn lose(
    mut answer: Answer,
    bytes: &[u8],
    ids: &[[u8; 4]],
    mut from: OwnedReadHalf,
    mut responses: Responses,
    control: &Control,
) {
    let mut found = answer.is_in(bytes, ids);
    let mut chunk = vec![0; CHUNK_BYTES];
    let reading = async {
        while !found {
            match from.read(&mut chunk).await {
                Ok(length @ 1..) => found = answer.is_in(&chunk[..length], &responses.see(&chunk[..length])),
                _ => break,
            }
        }
        found
    };
    if tokio::time::timeout(ANSWER_WITHIN, reading).await.unwrap_or(false) {
        control.answers_lost.fetch_add(1, Ordering::SeqCst);
    }
}

/// As long as the weather lets so many bytes take.
async fn travel(bytes: usize, control: &Control, rate: impl Fn(&Weather) -> Option<u32>) {
    let mut weather = control.weather.subscribe();
    // The sender lives as long as the connection's control.
    let open = weather.wait_for(|weather| weather.passage != Passage::Silent).await.map(|weather| *weather);
    let weather = open.unwrap_or_default();
    let throttled = rate(&weather)
        .map_or(Duration::ZERO, |rate| Duration::from_micros(bytes as u64 * 1_000_000 / u64::from(rate.max(1))));
    let time = weather.delay + throttled;
    if !time.is_zero() {
        sleep(time).await;
    }
}
