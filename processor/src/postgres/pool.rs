//! Connections: from settings to sessions that are fit for a batch's transaction.

use std::time::Duration;

use deadpool_postgres::{
    Hook, HookError, Manager, ManagerConfig, Pool, RecyclingMethod, Runtime, Timeouts, Transaction,
};
use tokio::time::timeout;
use tokio_postgres::{Config, config};

use super::{Result, tls};
use crate::config::libpq::{self, ConnectionText, SslMode};

const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
const POOL_TIMEOUTS: Timeouts = Timeouts {
    wait: Some(Duration::from_secs(10)),
    create: Some(Duration::from_secs(10)),
    recycle: Some(Duration::from_secs(5)),
};
/// A server that has gone away silently is noticed within 10 to 15 s, idle or with data on the way (design 4.1).
const KEEPALIVE_IDLE: Duration = Duration::from_secs(5);
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(2);
const KEEPALIVE_RETRIES: u32 = 4;
const TCP_USER_TIMEOUT: Duration = Duration::from_secs(12);

/// What a pool is made from.
#[derive(Clone)]
pub struct PoolSettings {
    /// `DOSI_DATABASE_URL`, either libpq form.
    pub url: String,
    /// From `DOSI_DATABASE_PASSWORD_FILE`; replaces the URL's.
    pub password: Option<String>,
    /// `DOSI_DATABASE_SCHEMA`
    pub schema: String,
    /// `DOSI_DATABASE_POOL_SIZE`
    pub size: usize,
}

/// The URL and the password stay out of logs.
impl std::fmt::Debug for PoolSettings {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("PoolSettings")
            .field("schema", &self.schema)
            .field("size", &self.size)
            .finish_non_exhaustive()
    }
}

/// A wrong setting: one line that names it and holds nothing of its text.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{setting} {fault}")]
pub struct SettingFault {
    pub setting: &'static str,
    pub fault: String,
}

/// Makes the pool; connects to nothing yet.
pub fn build(settings: &PoolSettings) -> std::result::Result<Pool, SettingFault> {
    let wrong = |fault: &dyn std::fmt::Display| SettingFault { setting: "DOSI_DATABASE_URL", fault: fault.to_string() };
    let text = libpq::parse(&settings.url).map_err(|fault| wrong(&fault))?;
    let config = driver_config(&text, settings.password.as_deref())
        .ok_or_else(|| wrong(&"has an option that is unknown or out of range"))?;
    let connector = tls::connector(&text.tls).map_err(|fault| wrong(&fault))?;
    if settings.schema.is_empty() || settings.schema.contains('\0') {
        return Err(SettingFault { setting: "DOSI_DATABASE_SCHEMA", fault: "is no name of a schema".to_owned() });
    }
    let manager = Manager::from_config(config, connector, ManagerConfig { recycling_method: RecyclingMethod::Fast });
    Pool::builder(manager)
        .max_size(settings.size)
        .timeouts(POOL_TIMEOUTS)
        .runtime(Runtime::Tokio1)
        .post_create(session_hook(session_setup(&settings.schema)))
        .build()
        .map_err(|fault| wrong(&fault))
}

fn driver_config(text: &ConnectionText, password: Option<&str>) -> Option<Config> {
    let mut config: Config = text.rest.parse().ok()?;
    let given = |name: &str| text.names.iter().any(|given| given == name);
    config.ssl_mode(match text.tls.mode {
        SslMode::Disable => config::SslMode::Disable,
        SslMode::Prefer => config::SslMode::Prefer,
        SslMode::Require | SslMode::VerifyFull => config::SslMode::Require,
    });
    if let Some(password) = password {
        config.password(password);
    }
    if !given("application_name") {
        config.application_name("dosi");
    }
    if !given("connect_timeout") {
        config.connect_timeout(CONNECT_TIMEOUT);
    }
    if !given("tcp_user_timeout") {
        config.tcp_user_timeout(TCP_USER_TIMEOUT);
    }
    if !["keepalives", "keepalives_idle", "keepalives_interval", "keepalives_retries"].into_iter().any(given) {
        config.keepalives(true).keepalives_idle(KEEPALIVE_IDLE);
        config.keepalives_interval(KEEPALIVE_INTERVAL).keepalives_retries(KEEPALIVE_RETRIES);
    }
    Some(config)
}

/// What every session begins with, after whatever the URL's `options` set.
///
/// Time-outs as in design 4.1: a stopped process must not hold its position row, nor a lock be waited for without end.
///
/// Plans must not depend on statistics, which may be missing, old, or those of an empty table, and must not be made anew for
/// every batch. So every statement is planned once a connection, for arrays of unknown length (`force_generic_plan`; measured
/// for one event: 0.1 ms a statement against 0.2 with a custom plan each time, and no worse for 500), and only with index scans
/// and nested loops: each statement names its rows by key, so that is the best plan at any size (measured on 60,000 services
/// never analysed: with the planner's own choice, reading the days of four services took 60 ms, so it takes 0.1). The settings
/// reach the foreign keys' own statements too, where a plan made on an empty table would otherwise scan it when it has grown.
/// `jit` would compile what these settings make look expensive. A command that reads whole tables sets them back.
fn session_setup(schema: &str) -> String {
    format!(
        "SET idle_in_transaction_session_timeout = '5s'; SET lock_timeout = '2s'; SET statement_timeout = '30s';
        SET TimeZone = 'UTC'; SET client_encoding = 'UTF8'; SET default_transaction_isolation = 'read committed';
        SET search_path = {}, dbo;
        SET plan_cache_mode = force_generic_plan; SET enable_seqscan = off; SET enable_hashjoin = off;
        SET enable_mergejoin = off; SET enable_bitmapscan = off; SET jit = off; SET max_parallel_workers_per_gather = 0",
        quoted(schema)
    )
}

/// A name as an SQL identifier.
fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

fn session_hook(setup: String) -> Hook {
    let setup: std::sync::Arc<str> = setup.into();
    Hook::async_fn(move |client, _| {
        let setup = std::sync::Arc::clone(&setup);
        Box::pin(async move {
            // Not within the pool's own time-out for making a connection.
            let set = timeout(CONNECT_TIMEOUT, client.batch_execute(&setup)).await;
            set.map_err(|_| HookError::message("no answer to a session's settings"))?.map_err(HookError::Backend)
        })
    })
}

/// A transaction's own limit for each of its statements (design 4.5: a lone event has 800 ms).
pub async fn limit_statements(tx: &Transaction<'_>, limit: Duration) -> Result<()> {
    // Much shorter, so that another writer's lock shows as what it is also where the machine is slow.
    let lock = limit / 4;
    let set =
        format!("SET LOCAL statement_timeout = {}; SET LOCAL lock_timeout = {}", limit.as_millis(), lock.as_millis());
    Ok(tx.batch_execute(&set).await?)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(url: &str) -> PoolSettings {
        PoolSettings { url: url.to_owned(), password: None, schema: "pathwaysdos".to_owned(), size: 4 }
    }

    fn fault(settings: &PoolSettings) -> String {
        build(settings).err().map(|fault| fault.to_string()).unwrap_or_default()
    }

    #[tokio::test]
    async fn wrong_settings_are_named_without_their_text() {
        let secret = "hunter2";
        let urls =
            ["hunter2", "postgres://u:hunter2@h/d?sslmode=allow", "host=h password=hunter2 nonsense=1", "a=hunter2"];
        for url in urls.into_iter().chain(["postgres://h/d?port=hunter2", "host=h password=hunter2 hunter2"]) {
            let line = fault(&settings(url));
            assert!(line.starts_with("DOSI_DATABASE_URL "), "{url}: {line}");
            assert!(!line.contains(secret), "{line}");
        }
        let line = fault(&PoolSettings { schema: String::new(), ..settings("postgres://h/d") });
        assert!(line.starts_with("DOSI_DATABASE_SCHEMA "), "{line}");
    }

    #[tokio::test]
    async fn files_that_are_not_there_are_named() {
        let line = fault(&settings("postgres://h/d?sslmode=verify-full&sslrootcert=/nowhere/ca.pem"));
        assert!(line.contains("sslrootcert: /nowhere/ca.pem"), "{line}");
        assert!(fault(&settings("postgres://h/d?sslcert=/nowhere/c.pem")).contains("belong together"));
    }

    #[test]
    fn the_url_wins_over_defaults_and_the_password_over_the_url() {
        let text = libpq::parse("postgres://u:old@h/d?connect_timeout=3&application_name=x").expect("it is a URL");
        let config = driver_config(&text, Some("new")).expect("the driver knows it");
        assert_eq!(config.get_password(), Some(b"new".as_slice()));
        assert_eq!(config.get_connect_timeout(), Some(&Duration::from_secs(3)));
        assert_eq!(config.get_application_name(), Some("x"));
        assert_eq!(config.get_tcp_user_timeout(), Some(&TCP_USER_TIMEOUT));
    }

    #[test]
    fn a_schema_is_quoted() {
        assert!(session_setup("a\"b c").contains("search_path = \"a\"\"b c\", dbo;"));
    }
}
