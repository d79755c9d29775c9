//! Files of `dosi publish`, plain or gzip: lines, and the event in each.

use std::io::{Cursor, Write as _};

use dosi::{
    domain::batch::InputBody,
    publish::{line::Event, source::Source},
    wire::change_event::decode,
};
use flate2::{Compression, write::GzEncoder};

use crate::support::golden_form::record;

/// What a file of this many bytes may hold in memory unpacked is bounded by the length of a line.
const LINES_MAX: usize = 10_000;

pub(crate) fn run(data: &[u8]) {
    let lines = lines(data);
    let is_gzip = data.starts_with(&[0x1f, 0x8b]);
    if !is_gzip {
        let wanted: Vec<&[u8]> = data.split_inclusive(|byte| *byte == b'\n').collect();
        assert!(lines.iter().map(Vec::as_slice).eq(wanted), "a plain file's lines are its bytes");
    }
    // Packing takes longer than everything else here.
    if !is_gzip && data.len().is_multiple_of(16) {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
        encoder.write_all(data).unwrap();
        assert_eq!(self::lines(&encoder.finish().unwrap()), lines, "packed it says the same");
    }
    for line in &lines {
        if let Ok(event) = Event::parse(line) {
            is_read_as_sent(&event);
        }
    }
}

fn lines(data: &[u8]) -> Vec<Vec<u8>> {
    let mut source = Source::new(Cursor::new(data.to_vec()), None).unwrap();
    let mut lines = Vec::new();
    while let Some(line) = source.next_line() {
        let Ok(line) = line else { continue };
        lines.push(line.to_vec());
        if lines.len() > LINES_MAX {
            break;
        }
    }
    lines
}

/// What is sent for a line has the key, number and id that the processor then reads.
fn is_read_as_sent(event: &Event<'_>) {
    let mut input = record(event.body.as_bytes(), &event.sequence.to_string());
    input.key = Some(event.ods_code.as_bytes().to_vec());
    if let Some(id) = &event.correlation_id {
        input.headers[0].1 = Some(id.as_bytes().to_vec());
    }
    let decoded = decode(&input, Ok(event.body.as_bytes()));
    assert_eq!(decoded.sequence_number, Some(event.sequence));
    if let Some(id) = &event.correlation_id {
        assert_eq!(&decoded.input.correlation_id, id.as_ref());
    }
    match &decoded.input.body {
        InputBody::Rejected { reason: "Value not decodable", .. } => {}
        InputBody::Rejected { detail, .. } => assert!(!detail.contains("Key is not the ODSCode"), "{detail}"),
        InputBody::Event { event: read, .. } => assert_eq!(read.ods_code.as_str(), event.ods_code),
    }
}
