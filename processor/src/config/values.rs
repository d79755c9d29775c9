//! One type for each kind of setting value: what was read is right, and secrets do not show.

use std::{fmt, path::Path};

use percent_encoding::percent_decode_str;
use reqwest::Url;
use tracing_subscriber::EnvFilter;

/// A text that must not show in logs, errors or `--help`.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// Hides a text.
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// The text itself, for the one who has to send it.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Secret(…)")
    }
}

/// An HTTP address whose user and password, if any, are kept apart from what may be shown.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RegistryUrl {
    /// Without user information and without a slash at the end.
    pub base: String,
    pub user: Option<String>,
    pub password: Option<Secret>,
}

/// The name of a schema in the database: letters, digits and `_`, not beginning with a digit, at most 63 characters.
/// Safe to stand between double quotes in a statement.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SqlIdentifier(String);

impl SqlIdentifier {
    /// The name without quotes.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for SqlIdentifier {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

/// Reads a [`SqlIdentifier`].
pub fn sql_identifier(text: &str) -> Result<SqlIdentifier, String> {
    const BYTES_MAX: usize = 63;
    let right = text.len() <= BYTES_MAX
        && text.starts_with(|first: char| first.is_ascii_alphabetic() || first == '_')
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
    if right {
        Ok(SqlIdentifier(text.to_owned()))
    } else {
        Err("must be an SQL name: letters, digits and _, not beginning with a digit, at most 63 characters".to_owned())
    }
}

/// A name that Kafka takes for topics, group instances and transactions.
pub fn kafka_name(text: &str) -> Result<String, String> {
    const CHARACTERS_MAX: usize = 249;
    let letters_right = text.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-'));
    if text.is_empty() || text.len() > CHARACTERS_MAX || !letters_right || matches!(text, "." | "..") {
        return Err("must be 1 to 249 letters, digits, dots, underscores or hyphens".to_owned());
    }
    Ok(text.to_owned())
}

/// A short text in printable ASCII.
pub fn printable(text: &str) -> Result<String, String> {
    const CHARACTERS_MAX: usize = 200;
    if text.is_empty() || text.len() > CHARACTERS_MAX || !text.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err("must be 1 to 200 printable characters without spaces".to_owned());
    }
    Ok(text.to_owned())
}

/// `host:port`, `[address]:port`; librdkafka also takes a protocol before and a host without port.
pub fn bootstrap_servers(text: &str) -> Result<String, String> {
    for server in text.split(',') {
        let address = server.trim();
        let address = address.split_once("://").map_or(address, |(_, rest)| rest);
        if !is_host_and_port(address, true) {
            return Err("must be host:port, several separated by commas".to_owned());
        }
    }
    Ok(text.to_owned())
}

/// Where to listen: `host:port`; port 0 takes a free one.
pub fn listen_address(text: &str) -> Result<String, String> {
    if is_host_and_port(text, false) {
        Ok(text.to_owned())
    } else {
        Err("must be host:port, for example 0.0.0.0:9464".to_owned())
    }
}

fn is_host_and_port(address: &str, port_may_miss: bool) -> bool {
    let (host, port) = match address.rsplit_once(':') {
        Some((host, port)) if !port.ends_with(']') => (host, Some(port)),
        _ => (address, None),
    };
    let port_right = port.map_or(port_may_miss, |port| port.parse::<u16>().is_ok());
    let in_brackets = host.starts_with('[') && host.ends_with(']');
    let host_right = !host.is_empty() && !host.contains(char::is_whitespace) && !host.contains(['/', '@']);
    host_right && port_right && (in_brackets || !host.contains(':'))
}

impl RegistryUrl {
    /// Reads an address and takes user and password out of it.
    pub fn parse(text: &str) -> Result<Self, String> {
        registry_url(text)
    }
}

pub fn registry_url(text: &str) -> Result<RegistryUrl, String> {
    let form = || "must be http://host:port or https://host:port, a path is allowed".to_owned();
    let mut url = Url::parse(text).map_err(|_| form())?;
    if !matches!(url.scheme(), "http" | "https") || url.host_str().is_none_or(str::is_empty) {
        return Err(form());
    }
    if url.query().is_some() || url.fragment().is_some() {
        return Err("must not hold a query (?) or fragment (#)".to_owned());
    }
    let user = (!url.username().is_empty()).then(|| percent_decoded(url.username()));
    let password = url.password().map(|password| Secret::new(percent_decoded(password)));
    url.set_username("").map_err(|()| form())?;
    url.set_password(None).map_err(|()| form())?;
    Ok(RegistryUrl { base: url.as_str().trim_end_matches('/').to_owned(), user, password })
}

/// `%40` is `@`; what is no such sequence stays.
pub fn percent_decoded(text: &str) -> String {
    percent_decode_str(text).decode_utf8_lossy().into_owned()
}

/// Reads a password from a file: its first line, without the line break.
pub fn secret_file(path: &str) -> Result<Secret, String> {
    let text = read_text(path)?;
    let line = text.lines().next().unwrap_or_default();
    if line.is_empty() {
        return Err(format!("{path} holds no password in its first line"));
    }
    Ok(Secret::new(line))
}

/// Certificates to trust, as PEM text that was found to be readable.
#[derive(Clone)]
pub struct Certificates {
    pem: Vec<u8>,
}

impl Certificates {
    /// PEM text.
    pub fn pem(&self) -> &[u8] {
        &self.pem
    }
}

impl fmt::Debug for Certificates {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "Certificates({} bytes)", self.pem.len())
    }
}

/// Reads a file of certificates.
pub fn certificate_file(path: &str) -> Result<Certificates, String> {
    let pem = read_text(path)?.into_bytes();
    match reqwest::Certificate::from_pem_bundle(&pem) {
        Ok(certificates) if !certificates.is_empty() => Ok(Certificates { pem }),
        _ => Err(format!("{path} holds no certificate in PEM form")),
    }
}

/// Reads a text file of modest size; says which one and why when that fails.
pub fn read_text(path: impl AsRef<Path>) -> Result<String, String> {
    let path = path.as_ref();
    std::fs::read_to_string(path).map_err(|error| format!("cannot read {}: {error}", path.display()))
}

/// A filter for log lines, as `tracing-subscriber` reads it.
pub fn log_filter(text: &str) -> Result<String, String> {
    let fault = "must be a level (error, warn, info, debug, trace) or target=level, separated by commas";
    env_filter(text).map(|_| text.to_owned()).ok_or_else(|| fault.to_owned())
}

/// The filter itself. The library panics at some texts that are not ASCII, and takes minutes over some values of fields as
/// patterns.
pub fn env_filter(text: &str) -> Option<EnvFilter> {
    if text.is_ascii() { EnvFilter::builder().with_regex(false).parse(text).ok() } else { None }
}

/// A date as `2026-12-25`.
pub fn date(text: &str) -> Result<chrono::NaiveDate, String> {
    chrono::NaiveDate::parse_from_str(text, "%Y-%m-%d").map_err(|_| "must be a date like 2026-12-25".to_owned())
}

/// A whole number within bounds, both included.
pub fn whole_number<T>(text: &str, least: T, most: T) -> Result<T, String>
where
    T: std::str::FromStr + PartialOrd + Copy + fmt::Display,
{
    match text.parse::<T>() {
        Ok(number) if number >= least && number <= most => Ok(number),
        _ => Err(format!("must be a whole number from {least} to {most}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_registry_url_gives_up_its_user_and_password() {
        let url = registry_url("https://me:p%40ss@host:8080/apis/ccompat/v7/").unwrap();
        assert_eq!(url.base, "https://host:8080/apis/ccompat/v7");
        assert_eq!(url.user.as_deref(), Some("me"));
        assert_eq!(url.password.as_ref().unwrap().expose(), "p@ss");
        assert!(!format!("{url:?}").contains("p@ss"));
        for wrong in ["localhost:8081", "ftp://host", "http://", "http://host/?a=b", "http://host/#x"] {
            assert!(registry_url(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn servers_are_hosts_with_ports() {
        for right in ["localhost:9092", "a:1,b:2", "a, b:3", "[::1]:9092", "PLAINTEXT://a:1"] {
            assert!(bootstrap_servers(right).is_ok(), "{right}");
        }
        for wrong in ["", ",", "a:1,", "a:x", "a:99999", "a b:1", "::1", "http:/x", ":9092"] {
            assert!(bootstrap_servers(wrong).is_err(), "{wrong}");
        }
        assert!(listen_address("127.0.0.1:0").is_ok());
        assert!(listen_address("127.0.0.1").is_err());
    }

    #[test]
    fn names_are_held_to_their_alphabets() {
        assert!(sql_identifier("pathwaysdos").is_ok());
        for wrong in ["", "1a", "a-b", "a\"b", "a.b", &"a".repeat(64)] {
            assert!(sql_identifier(wrong).is_err(), "{wrong}");
        }
        assert!(kafka_name("dos.change-events").is_ok());
        for wrong in ["", ".", "..", "a b", "a/b", &"a".repeat(250)] {
            assert!(kafka_name(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_log_filter_is_refused_and_not_panicked_at() {
        for right in ["info", "warn,dosi=debug", "dosi[span{field=1}]=trace"] {
            assert!(log_filter(right).is_ok(), "{right}");
        }
        for wrong in [" y\u{20f}=b", "dosi=l\u{e9}vel", "dosi=loud"] {
            assert!(log_filter(wrong).is_err(), "{wrong}");
        }
        let slow_as_a_pattern = format!("[span{{field=x{}}}]=info", ".".repeat(40));
        assert!(log_filter(&slow_as_a_pattern).is_ok());
    }

    #[test]
    fn numbers_keep_within_bounds() {
        assert_eq!(whole_number("2", 2, 9), Ok(2));
        for wrong in ["1", "10", "x", "", "2.0", "-3"] {
            assert!(whole_number(wrong, 2, 9).is_err(), "{wrong}");
        }
        assert!(date("2024-02-29").is_ok());
        assert!(date("2025-02-29").is_err());
    }

    #[test]
    fn a_password_file_gives_its_first_line() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("password");
        std::fs::write(&path, "tiger \nrest\n").unwrap();
        assert_eq!(secret_file(path.to_str().unwrap()).unwrap().expose(), "tiger ");
        std::fs::write(&path, "\n").unwrap();
        assert!(secret_file(path.to_str().unwrap()).is_err());
        assert!(secret_file("/nowhere/password").is_err());
    }
}
