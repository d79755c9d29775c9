//! TLS towards the server, as libpq's `sslmode` and files describe it.

use std::path::Path;

use openssl::{
    error::ErrorStack,
    ssl::{SslConnector, SslFiletype, SslMethod, SslVerifyMode},
    x509::store::X509StoreBuilder,
};
use postgres_openssl::{MakeTlsConnector, set_postgresql_alpn};

use crate::config::libpq::{SslMode, TlsParams};

/// Which file is at fault; the texts name the option of the URL and the path.
#[derive(Debug, thiserror::Error)]
pub(super) enum TlsFault {
    #[error("{option}: {path} cannot be read as PEM")]
    File { option: &'static str, path: String },
    #[error("sslcert and sslkey belong together")]
    HalfIdentity,
    #[error("sslkey is not the key of sslcert")]
    KeyMismatch,
    #[error("TLS cannot be set up")]
    Library(#[from] ErrorStack),
}

/// A connector for these settings. As in libpq, `require` checks the server's certificate only when a root certificate is
/// given, and its name never; `verify-full` checks both, against the system's roots when none is given. A root certificate
/// that is given is the only one.
pub(super) fn connector(params: &TlsParams) -> Result<MakeTlsConnector, TlsFault> {
    let mut builder = SslConnector::builder(SslMethod::tls_client())?;
    set_postgresql_alpn(&mut builder)?;
    if let Some(path) = &params.root_cert {
        // The builder trusts the system's authorities to begin with.
        builder.set_cert_store(X509StoreBuilder::new()?.build());
        builder.set_ca_file(path).map_err(|_| file_fault("sslrootcert", path))?;
    }
    match (&params.cert, &params.key) {
        (Some(cert), Some(key)) => {
            builder.set_certificate_chain_file(cert).map_err(|_| file_fault("sslcert", cert))?;
            builder.set_private_key_file(key, SslFiletype::PEM).map_err(|_| file_fault("sslkey", key))?;
            builder.check_private_key().map_err(|_| TlsFault::KeyMismatch)?;
        }
        (None, None) => {}
        _ => return Err(TlsFault::HalfIdentity),
    }
    let full = params.mode == SslMode::VerifyFull;
    if !full && params.root_cert.is_none() {
        builder.set_verify(SslVerifyMode::NONE);
    }
    let mut connector = MakeTlsConnector::new(builder.build());
    connector.set_callback(move |connection, _| {
        connection.set_verify_hostname(full);
        Ok(())
    });
    Ok(connector)
}

fn file_fault(option: &'static str, path: &Path) -> TlsFault {
    TlsFault::File { option, path: path.display().to_string() }
}
