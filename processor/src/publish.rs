//! `dosi publish FILE`: sends change events from JSON lines, keyed and with headers as rule 1.1 has them.
//!
//! The file is streamed; what waits to be acknowledged is bounded. A bad line is named and the others are sent.

pub mod line;
mod sender;
pub mod source;

use std::{
    fmt,
    time::{Duration, Instant},
};

use anyhow::{Context as _, anyhow};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use rdkafka::ClientConfig;

use self::{
    line::Event,
    sender::{Delivered, Sender},
    source::Source,
};
use crate::{
    cli::PublishSettings,
    config::kafka_base_config,
    error::Failure,
    kafka::{
        admin::{Admin, PATIENCE},
        settings::message_max_bytes,
        topics::max_message_bytes,
    },
    output,
};

/// What became of the lines of a file.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Summary {
    /// Acknowledged by all replicas in step.
    pub sent: u64,
    /// Named as bad and not sent.
    pub refused: u64,
    /// Not acknowledged: the broker refused them or did not answer.
    pub undelivered: u64,
    /// The first line that nothing was heard of, when the rest of the file was given up for it.
    pub gave_up_at: Option<usize>,
    pub elapsed: Duration,
}

/// `sent 1,000 events in 2.0 s (500 a second)`, with what went wrong.
impl fmt::Display for Summary {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seconds = self.elapsed.as_secs_f64().max(0.001);
        #[expect(clippy::cast_precision_loss, reason = "a rate for people")]
        let rate = self.sent as f64 / seconds;
        write!(formatter, "sent {} events in {seconds:.1} s ({rate:.0} a second)", self.sent)?;
        if self.refused > 0 {
            write!(formatter, "; {} lines refused", self.refused)?;
        }
        if self.undelivered > 0 {
            write!(formatter, "; {} not delivered", self.undelivered)?;
        }
        Ok(())
    }
}

/// Sends the file. Fails when a line was bad, when something was not delivered, or after 30 s without a broker.
pub async fn run(settings: PublishSettings) -> Result<(), Failure> {
    // Opened first: a file that is not there is wrong use, whatever the broker does.
    let source = Source::open(&settings.file)
        .map_err(|error| Failure::Usage(format!("FILE: cannot read {}: {error}", settings.file.display())))?;
    let config = producer_config(&settings).await?;
    let topic = settings.topics.change_events.clone();
    let summary = tokio::task::spawn_blocking(move || publish(source, &config, &topic));
    let summary = summary.await.context("failed to send")??;
    output::print(&summary.to_string())?;
    match summary {
        Summary { gave_up_at: Some(line), .. } => {
            Err(Failure::Failed(anyhow!("gave up: line {line} is the first that was not sent")))
        }
        Summary { refused: 0, undelivered: 0, .. } => Ok(()),
        _ => Err(Failure::Failed(anyhow!("not all lines were sent"))),
    }
}

/// Also shows that the broker answers and that the topic is there.
async fn producer_config(settings: &PublishSettings) -> Result<ClientConfig, Failure> {
    let deadline = Instant::now() + PATIENCE;
    let admin = Admin::connect(&settings.kafka)?;
    let topic = &settings.topics.change_events;
    if !admin.topics(deadline).await?.contains_key(topic) {
        return Err(Failure::Setup(format!("DOSI_CHANGE_EVENTS_TOPIC: there is no topic {topic}; see dosi topics")));
    }
    let bytes_max = max_message_bytes(&admin, topic, deadline).await?;
    let mut config = kafka_base_config(&settings.kafka);
    config
        .set("allow.auto.create.topics", "false")
        .set("partitioner", "murmur2_random")
        .set("enable.idempotence", "true")
        .set("acks", "all")
        .set("message.timeout.ms", PATIENCE.as_millis().to_string())
        .set("message.max.bytes", message_max_bytes(bytes_max))
        .set("queue.buffering.max.messages", "10000")
        .set("queue.buffering.max.kbytes", "65536")
        .set("linger.ms", "5");
    Ok(config)
}

fn publish(mut source: Source, config: &ClientConfig, topic: &str) -> Result<Summary, Failure> {
    let begin = Instant::now();
    let bar = progress_bar(source.size());
    let sender = Sender::connect(config, topic, bar.clone())?;
    let mut refused = 0;
    let mut number = 0;
    while let Some(read) = source.next_line() {
        number += 1;
        let outcome = match &read {
            Ok(text) if text.trim_ascii().is_empty() => Ok(()),
            Ok(text) => Event::parse(text).map_err(Into::into).and_then(|event| sender.send(number, &event)),
            Err(fault) => Err(fault.clone().into()),
        };
        if let Err(reason) = outcome {
            refused += 1;
            sender.tell(number, &reason);
        }
        bar.set_position(source.position());
        if sender.gave_up_at().is_some() {
            break;
        }
    }
    let Delivered { sent, undelivered, gave_up_at } = sender.finish();
    bar.finish_and_clear();
    Ok(Summary { sent, refused, undelivered, gave_up_at, elapsed: begin.elapsed() })
}

/// Drawn only where stderr is a terminal.
fn progress_bar(size: Option<u64>) -> ProgressBar {
    let (bar, template) = match size {
        Some(size) => (ProgressBar::new(size), "{wide_bar} {percent}% {bytes}/{total_bytes} {eta}"),
        None => (ProgressBar::no_length(), "{spinner} {bytes} {elapsed}"),
    };
    bar.set_draw_target(ProgressDrawTarget::stderr());
    bar.set_style(ProgressStyle::with_template(template).expect("the template is valid"));
    bar
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_summary_tells_what_went_wrong() {
        let elapsed = Duration::from_secs(2);
        let summary = Summary { sent: 1000, refused: 0, undelivered: 0, gave_up_at: None, elapsed };
        assert_eq!(summary.to_string(), "sent 1000 events in 2.0 s (500 a second)");
        let summary = Summary { refused: 2, undelivered: 1, ..summary };
        assert!(summary.to_string().ends_with("; 2 lines refused; 1 not delivered"));
    }

    #[test]
    fn who_gives_up_says_where_to_go_on() {
        let line = r#"{"sequence": 1, "event": {"ODSCode": "FA001"}}"#;
        let lines = format!("not JSON\n\n{line}\n{line}\n");
        let source = Source::new(std::io::Cursor::new(lines), None).unwrap();
        let mut config = ClientConfig::new();
        config.set("bootstrap.servers", "127.0.0.1:1").set("message.timeout.ms", "500").set("linger.ms", "0");
        let summary = publish(source, &config, "t").unwrap();
        assert_eq!((summary.sent, summary.refused, summary.undelivered), (0, 1, 2));
        assert_eq!(summary.gave_up_at, Some(3), "lines that were refused are told one by one");
    }
}
