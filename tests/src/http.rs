//! GET, POST and PUT over plain HTTP, enough for health checks, metrics and the registry of a local stack.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream, ToSocketAddrs};
use std::time::Duration;

use anyhow::{Context, Result, bail};

const TIMEOUT: Duration = Duration::from_secs(5);

/// What a server answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    pub status: u16,
    pub body: String,
}

/// Asks for `url` (`http://host:port/path`) and waits 5 seconds at most.
pub fn get(url: &str) -> Result<Answer> {
    ask("GET", url, "", "")
}

/// Sends a body to `url` and waits 5 seconds at most for the answer.
pub fn post(url: &str, content_type: &str, body: &str) -> Result<Answer> {
    send("POST", url, content_type, body)
}

/// As [`post`], to put it in the place of what is there.
pub fn put(url: &str, content_type: &str, body: &str) -> Result<Answer> {
    send("PUT", url, content_type, body)
}

fn send(method: &str, url: &str, content_type: &str, body: &str) -> Result<Answer> {
    let headers = format!("Content-Type: {content_type}\r\nContent-Length: {}\r\n", body.len());
    ask(method, url, &headers, body)
}

fn ask(method: &str, url: &str, headers: &str, body: &str) -> Result<Answer> {
    let (authority, path) = split(url)?;
    let mut stream = TcpStream::connect_timeout(&resolve(authority)?, TIMEOUT)?;
    stream.set_read_timeout(Some(TIMEOUT))?;
    // HTTP/1.0 keeps servers from chunking the body and ends it with the connection.
    write!(stream, "{method} {path} HTTP/1.0\r\nHost: {authority}\r\nAccept: */*\r\n{headers}\r\n{body}")?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer)?;
    parse(&String::from_utf8_lossy(&answer)).with_context(|| format!("no HTTP answer from {url}"))
}

fn split(url: &str) -> Result<(&str, &str)> {
    let rest = url.strip_prefix("http://").with_context(|| format!("not an http URL: {url}"))?;
    Ok(match rest.find('/') {
        Some(at) => rest.split_at(at),
        None => (rest, "/"),
    })
}

fn resolve(authority: &str) -> Result<SocketAddr> {
    authority.to_socket_addrs()?.next().with_context(|| format!("no address for {authority}"))
}

fn parse(answer: &str) -> Result<Answer> {
    let Some((head, body)) = answer.split_once("\r\n\r\n") else { bail!("no end of headers") };
    let status = head.split(' ').nth(1).context("no status")?.parse().context("status is no number")?;
    Ok(Answer { status, body: body.to_owned() })
}
