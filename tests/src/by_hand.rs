//! A record that no client library sends: a header's name may be any bytes, as Kafka itself allows.
//!
//! Names of headers are text in every library, so this speaks the protocol itself: one Produce request with one record, to a
//! broker that is alone.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, bail, ensure};

use crate::stack::Addresses;

const TIMEOUT: Duration = Duration::from_secs(30);
/// The oldest form of the request that brokers still take.
const PRODUCE: i16 = 0;
const VERSION: i16 = 3;
const ALL_REPLICAS: i16 = -1;
/// Castagnoli's polynomial, bits reversed.
const CRC_32C: u32 = 0x82f6_3b78;

/// A record with headers of any name.
#[derive(Clone, Debug)]
pub struct Record<'a> {
    pub key: &'a [u8],
    pub value: &'a [u8],
    pub headers: &'a [(&'a [u8], &'a [u8])],
}

/// Produces one record to partition 0 and returns when it is acknowledged.
pub fn produce(addresses: &Addresses, topic: &str, record: &Record<'_>) -> Result<()> {
    let mut broker = TcpStream::connect(&addresses.kafka_bootstrap_servers).context("failed to connect to Kafka")?;
    broker.set_read_timeout(Some(TIMEOUT))?;
    broker.write_all(&sized(&request(topic, &batch(record)?)?)?)?;
    let mut size = [0; 4];
    broker.read_exact(&mut size)?;
    let mut answer = vec![0; usize::try_from(i32::from_be_bytes(size))?];
    broker.read_exact(&mut answer)?;
    // Correlation id, number of topics, the topic's name, number of partitions, partition.
    let at = 4 + 4 + 2 + topic.len() + 4 + 4;
    match answer.get(at..at + 2) {
        Some([0, 0]) => Ok(()),
        refused => bail!("Kafka refused the record: {refused:?}"),
    }
}

fn request(topic: &str, batch: &[u8]) -> Result<Vec<u8>> {
    let no_text = (-1_i16).to_be_bytes();
    let one = 1_i32.to_be_bytes();
    let timeout_ms = i32::try_from(TIMEOUT.as_millis())?.to_be_bytes();
    let (correlation_id, partition) = (0_i32.to_be_bytes(), 0_i32.to_be_bytes());
    Ok([
        &PRODUCE.to_be_bytes()[..],
        &VERSION.to_be_bytes(),
        &correlation_id,
        // Neither a client id nor a transactional one.
        &no_text,
        &no_text,
        &ALL_REPLICAS.to_be_bytes(),
        &timeout_ms,
        &one,
        &i16::try_from(topic.len())?.to_be_bytes(),
        topic.as_bytes(),
        &one,
        &partition,
        &sized(batch)?,
    ]
    .concat())
}

/// A record batch of version 2.
fn batch(record: &Record<'_>) -> Result<Vec<u8>> {
    let now = i64::try_from(SystemTime::now().duration_since(UNIX_EPOCH)?.as_millis())?.to_be_bytes();
    let checked = [
        // Attributes, last offset; first and last timestamp; producer id, its epoch, sequence; number of records.
        &[0; 2][..],
        &[0; 4],
        &now,
        &now,
        &(-1_i64).to_be_bytes(),
        &(-1_i16).to_be_bytes(),
        &(-1_i32).to_be_bytes(),
        &1_i32.to_be_bytes(),
        &encoded(record)?,
    ]
    .concat();
    // Leader's epoch, version, checksum.
    let rest = [&[0xff; 4][..], &[2], &crc_32c(&checked).to_be_bytes(), &checked].concat();
    Ok([&[0; 8][..], &sized(&rest)?].concat())
}

fn encoded(record: &Record<'_>) -> Result<Vec<u8>> {
    // Attributes, timestamp and offset after the batch's own.
    let mut body = vec![0; 3];
    for bytes in [record.key, record.value] {
        put_bytes(&mut body, bytes)?;
    }
    put_number(&mut body, record.headers.len())?;
    for (name, value) in record.headers {
        put_bytes(&mut body, name)?;
        put_bytes(&mut body, value)?;
    }
    let mut record = Vec::new();
    put_bytes(&mut record, &body)?;
    Ok(record)
}

fn put_bytes(to: &mut Vec<u8>, bytes: &[u8]) -> Result<()> {
    put_number(to, bytes.len())?;
    to.extend_from_slice(bytes);
    Ok(())
}

/// Seven bits a byte, lowest first; the lowest of all is the sign.
fn put_number(to: &mut Vec<u8>, number: usize) -> Result<()> {
    ensure!(i32::try_from(number).is_ok(), "{number} is too large for a record");
    let mut left = number << 1;
    while left > 0x7f {
        to.push(u8::try_from(left & 0x7f)? | 0x80);
        left >>= 7;
    }
    to.push(u8::try_from(left)?);
    Ok(())
}

fn sized(bytes: &[u8]) -> Result<Vec<u8>> {
    Ok([&i32::try_from(bytes.len())?.to_be_bytes()[..], bytes].concat())
}

fn crc_32c(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(!0, |crc, byte| {
        (0..8).fold(crc ^ u32::from(*byte), |crc, _| if crc & 1 == 1 { (crc >> 1) ^ CRC_32C } else { crc >> 1 })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_and_checksums_are_kafkas() {
        let written = |number| {
            let mut bytes = Vec::new();
            put_number(&mut bytes, number).unwrap();
            bytes
        };
        assert_eq!(
            (written(0), written(63), written(64), written(300)),
            (vec![0], vec![126], vec![128, 1], vec![216, 4])
        );
        assert_eq!(crc_32c(b"123456789"), 0xe306_9283);
    }
}
