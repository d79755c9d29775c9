//! The form of `DOSI_DATABASE_URL`, held against what libpq takes before anything is started.
//!
//! The driver knows neither every `sslmode` nor the certificate files; [`libpq`] takes those parts out, the rest is tried on the
//! driver.

use super::{
    libpq::{self, TextFault},
    values::{Secret, read_text},
};

/// Reads the address, which may hold a password: no message repeats any of it but the names of files.
pub fn database_url(text: &str) -> Result<Secret, String> {
    let parts = libpq::parse(text).map_err(|fault| match fault {
        TextFault::Unreadable => form(),
        TextFault::SslMode => "sslmode must be one of disable, prefer, require, verify-full".to_owned(),
    })?;
    let files = [("sslrootcert", parts.tls.root_cert), ("sslcert", parts.tls.cert), ("sslkey", parts.tls.key)];
    for (name, path) in files {
        path.map(read_text).transpose().map_err(|fault| format!("{name}: {fault}"))?;
    }
    let config = parts.rest.parse::<tokio_postgres::Config>().map_err(|_| form())?;
    if config.get_hosts().is_empty() && config.get_hostaddrs().is_empty() {
        return Err("names no host: postgres://user@host:port/database".to_owned());
    }
    Ok(Secret::new(text))
}

fn form() -> String {
    "must be postgres://user@host:port/database, parameters as libpq has them".to_owned()
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
            "host = localhost sslmode = disable password='a  sslcert=b'",
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
            "host=db password='x sslcert=hunter2",
            "host=db password='x sslmode=hunter2' nonsense=1",
        ] {
            let fault = database_url(wrong).unwrap_err();
            assert!(!fault.contains("hunter2"), "{fault}");
        }
    }
}
