//! `DOSI_DATABASE_URL` in either of libpq's forms.

use std::path::PathBuf;

use dosi::config::{
    database_url::database_url,
    libpq::{TlsParams, parse},
};
use tokio_postgres::config::SslMode;

/// The password of the corpus's addresses.
const PASSWORD: &str = "hunter2";
/// No file is here; others are not looked at, since reading one may take for ever.
const NOWHERE: &str = "/nowhere/";

pub(crate) fn run(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    pairs_go_there_and_back(text);
    let parts = parse(text);
    let files = parts.as_ref().map(|parts| files(&parts.tls)).unwrap_or_default();
    if !files.iter().all(|file| file.starts_with(NOWHERE)) {
        return;
    }
    match database_url(text) {
        Err(fault) => {
            let is_named = files.iter().any(|file| file.to_string_lossy().contains(PASSWORD));
            assert!(is_named || !fault.contains(PASSWORD), "the fault tells the password");
            assert!(!fault.contains('\n') || !files.is_empty());
        }
        Ok(kept) => {
            assert_eq!(kept.expose(), text);
            assert!(!format!("{kept:?}").contains(PASSWORD));
            let parts = parts.unwrap_or_else(|fault| panic!("taken, and not read later: {fault}"));
            assert!(files.is_empty(), "a file that is not there is taken");
            let config: tokio_postgres::Config = parts.rest.parse().unwrap();
            assert_eq!(config.get_ssl_mode(), SslMode::Prefer, "the driver reads an sslmode that we do not");
            let again = parse(&parts.rest).unwrap_or_else(|fault| panic!("the rest is not read again: {fault}"));
            assert_eq!((again.tls, again.rest.as_str()), (TlsParams::default(), parts.rest.trim()));
        }
    }
}

fn files(tls: &TlsParams) -> Vec<PathBuf> {
    [&tls.root_cert, &tls.cert, &tls.key].into_iter().flatten().cloned().collect()
}

/// Values of any kind, quoted as libpq says, are read as they were.
fn pairs_go_there_and_back(text: &str) {
    let pairs: Vec<(String, &str)> =
        text.lines().zip(0..).map(|(value, number)| (format!("n{number}"), value)).collect();
    let quoted = |value: &str| value.replace('\\', "\\\\").replace('\'', "\\'");
    let written: Vec<_> = pairs.iter().map(|(name, value)| format!("{name} = '{}'", quoted(value))).collect();
    if written.is_empty() {
        return;
    }
    let read = parse(&written.join("\n")).unwrap_or_else(|fault| panic!("{fault}"));
    assert!(read.names.iter().eq(pairs.iter().map(|(name, _)| name)));
    let rest: Vec<_> = pairs.iter().map(|(name, value)| format!("{name}='{}'", quoted(value))).collect();
    assert_eq!(read.rest, rest.join(" "));
}
