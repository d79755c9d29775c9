//! The form of `DOSI_DATABASE_URL`, held against what libpq takes before anything is started.
//!
//! The driver knows neither every `sslmode` nor the certificate files; those parts are looked at here and the rest by the driver.

use super::values::{Secret, read_text};

const SSL_MODES: &[&str] = &["disable", "prefer", "require", "verify-full"];
const SSL_FILES: &[&str] = &["sslrootcert", "sslcert", "sslkey"];

/// Reads the address, which may hold a password: no message repeats any of it but the names of files.
pub(super) fn database_url(text: &str) -> Result<Secret, String> {
    let (rest, ssl) = match text.split_once("://") {
        Some(("postgres" | "postgresql", _)) => split_url(text),
        Some(_) => return Err(form()),
        None => split_words(text),
    };
    for (name, value) in ssl {
        check_ssl(&name, &value)?;
    }
    let config = rest.parse::<tokio_postgres::Config>().map_err(|_| form())?;
    if config.get_hosts().is_empty() && config.get_hostaddrs().is_empty() {
        return Err("names no host: postgres://user@host:port/database".to_owned());
    }
    Ok(Secret::new(text))
}

fn form() -> String {
    "must be postgres://user@host:port/database, parameters as libpq has them".to_owned()
}

fn is_ssl(name: &str) -> bool {
    name == "sslmode" || SSL_FILES.contains(&name)
}

fn check_ssl(name: &str, value: &str) -> Result<(), String> {
    if name == "sslmode" {
        return if SSL_MODES.contains(&value) {
            Ok(())
        } else {
            Err(format!("sslmode must be one of {}", SSL_MODES.join(", ")))
        };
    }
    read_text(value).map(drop).map_err(|fault| format!("{name}: {fault}"))
}

/// The address without its TLS parameters, and those.
fn split_url(text: &str) -> (String, Vec<(String, String)>) {
    let Some((address, query)) = text.split_once('?') else { return (text.to_owned(), Vec::new()) };
    let (ssl, rest): (Vec<_>, Vec<_>) =
        query.split('&').map(|pair| pair.split_once('=').unwrap_or((pair, ""))).partition(|(name, _)| is_ssl(name));
    let rest: Vec<_> = rest.into_iter().map(|(name, value)| format!("{name}={value}")).collect();
    let address = if rest.is_empty() { address.to_owned() } else { format!("{address}?{}", rest.join("&")) };
    let decoded = ssl.into_iter().map(|(name, value)| (name.to_owned(), super::values::percent_decoded(value)));
    (address, decoded.collect())
}

/// The same for libpq's `name=value name=value`.
fn split_words(text: &str) -> (String, Vec<(String, String)>) {
    let (ssl, rest): (Vec<_>, Vec<_>) =
        text.split_whitespace().partition(|word| word.split_once('=').is_some_and(|(name, _)| is_ssl(name)));
    let pairs = ssl.into_iter().filter_map(|word| word.split_once('='));
    (rest.join(" "), pairs.map(|(name, value)| (name.to_owned(), value.to_owned())).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn libpq_forms_are_taken() {
        for right in [
            "postgres://localhost/dos",
            "postgresql://me:secret@db:5433/dos?sslmode=verify-full&options=-c%20search_path%3Dx",
            "postgres://a:1,b:2/dos?target_session_attrs=read-write",
            "host=localhost dbname=dos user=me sslmode=require",
            "postgres://db/dos?sslmode=disable&connect_timeout=3",
        ] {
            assert!(database_url(right).is_ok(), "{right}");
        }
    }

    #[test]
    fn wrong_forms_are_refused_without_repeating_the_password() {
        for wrong in [
            "mysql://me:hunter2@db/dos",
            "hunter2",
            "postgres://me:hunter2@db:port/dos",
            "postgres:///hunter2",
            "postgres://me:hunter2@db/dos?sslmode=yes",
            "postgres://me:hunter2@db/dos?sslrootcert=/nowhere/ca.pem",
            "postgres://me:hunter2@db/dos?no_such_parameter=1",
        ] {
            let fault = database_url(wrong).unwrap_err();
            assert!(!fault.contains("hunter2"), "{fault}");
        }
    }
}
