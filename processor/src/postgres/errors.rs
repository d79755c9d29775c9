//! What a failure of the database means for the event, the batch, the lane (design: errors, the SQLSTATE table).
//!
//! A [`Fault`] keeps names and codes and drops the driver's error, whose detail may quote a row: nothing here can carry a
//! value, a password or a person into a log.

use std::{error::Error as _, io};

use deadpool_postgres::{HookError, PoolError, TimeoutType};
use tokio_postgres::{Error, error::DbError};

use crate::error::Failure;

/// A failure, by what is to be done about it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// The event's own content is refused: dead letter at once.
    #[error("the database refuses the content: SQLSTATE {sqlstate} ({detail})")]
    Content {
        sqlstate: String,
        /// Table, column, constraint or type where the server names one; never a value.
        detail: String,
    },
    /// Another writer is in the way: again, without limit.
    #[error("another writer is in the way: {what}")]
    Contention { what: String },
    /// The database cannot do its work now: pause, again, without limit.
    #[error("the database is not usable: {what}")]
    Dependency {
        /// Only a person can mend it: a grant, a password, a changed table, a full disk.
        needs_person: bool,
        what: String,
    },
    /// The connection broke: pause, again, without limit; but see design 4.5 on one event that always breaks it.
    #[error("the connection to the database was lost: {what}")]
    ConnectionLost { what: String },
    /// Nobody can say: five tries alone, then dead letter.
    #[error("unclear failure of the database: {kind}")]
    Unclear {
        /// A SQLSTATE, or the driver's kind of error.
        kind: String,
    },
}

/// One line of the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Class {
    Content,
    Contention,
    Passing,
    NeedsPerson,
    Unclear,
}

/// The table of the design, whole: every SQLSTATE falls into exactly one arm.
fn class_of(sqlstate: &str) -> Class {
    match (sqlstate.get(..2).unwrap_or_default(), sqlstate) {
        ("22", _) | (_, "23514") => Class::Content,
        ("40", _) | (_, "55P03" | "23503" | "23505") => Class::Contention,
        // A full disk, damaged data, a wrong password, a missing grant or table do not mend themselves.
        ("28" | "3D" | "42" | "58" | "XX", _) | (_, "53100") => Class::NeedsPerson,
        ("08" | "53", _) | (_, "25P02" | "25P03" | "25006") => Class::Passing,
        _ if sqlstate.starts_with("57P") => Class::Passing,
        // 57014 (cancelled, statement time-out) among them.
        _ => Class::Unclear,
    }
}

impl Fault {
    /// SQLSTATE or kind, as a metric's label and a dead letter's reason.
    pub fn label(&self) -> &str {
        match self {
            Self::Content { sqlstate, .. } => sqlstate,
            Self::Contention { .. } => "contention",
            Self::Dependency { .. } | Self::ConnectionLost { .. } => "dependency",
            Self::Unclear { kind } => kind,
        }
    }

    pub(crate) fn unclear(kind: impl Into<String>) -> Self {
        Self::Unclear { kind: kind.into() }
    }

    pub(super) fn contention(what: impl Into<String>) -> Self {
        Self::Contention { what: what.into() }
    }

    /// The server does not answer at all.
    pub fn no_answer() -> Self {
        Self::lost("no answer in time")
    }

    /// The event's own content is refused.
    pub fn is_content(&self) -> bool {
        matches!(self, Self::Content { .. })
    }

    /// Only a person can mend it.
    pub fn needs_person(&self) -> bool {
        matches!(self, Self::Dependency { needs_person: true, .. })
    }

    /// Another writer is in the way.
    pub fn is_contention(&self) -> bool {
        matches!(self, Self::Contention { .. })
    }

    /// The server said that it cannot do its work now.
    pub fn is_dependency(&self) -> bool {
        matches!(self, Self::Dependency { .. })
    }

    /// Nobody can say whose fault it is.
    pub fn is_unclear(&self) -> bool {
        matches!(self, Self::Unclear { .. })
    }

    pub fn is_connection_lost(&self) -> bool {
        matches!(self, Self::ConnectionLost { .. })
    }

    /// A dead letter's reason (section 8).
    pub fn reason(&self) -> String {
        match self {
            Self::Content { sqlstate, .. } => match sqlstate.as_str() {
                "22001" => "Value too long".to_owned(),
                // A database in UTF8 refuses no other text of ours.
                "22021" => "Value has a NUL character".to_owned(),
                "22003" | "22008" => "Value out of range".to_owned(),
                other => other.to_owned(),
            },
            Self::ConnectionLost { .. } => "connection lost".to_owned(),
            other => other.label().to_owned(),
        }
    }

    /// A dead letter's detail: names, no values.
    pub fn detail(&self) -> String {
        match self {
            Self::Content { detail, .. } => detail.clone(),
            other => other.to_string(),
        }
    }

    fn lost(what: impl Into<String>) -> Self {
        Self::ConnectionLost { what: what.into() }
    }

    fn passing(what: impl Into<String>) -> Self {
        Self::Dependency { needs_person: false, what: what.into() }
    }

    fn lasting(what: impl Into<String>) -> Self {
        Self::Dependency { needs_person: true, what: what.into() }
    }

    fn of_server(error: &DbError) -> Self {
        let sqlstate = error.code().code();
        // Messages of the last two classes name objects and roles, not values.
        let line = || format!("{} (SQLSTATE {sqlstate})", error.message());
        match class_of(sqlstate) {
            Class::Content => Self::Content { sqlstate: sqlstate.to_owned(), detail: place_of(error) },
            Class::Contention => Self::contention(format!("SQLSTATE {sqlstate} ({})", place_of(error))),
            Class::Passing => Self::passing(line()),
            Class::NeedsPerson => Self::lasting(line()),
            Class::Unclear => Self::unclear(sqlstate),
        }
    }
}

/// Where the server says it happened, in names only.
fn place_of(error: &DbError) -> String {
    let named = [
        ("table", error.table()),
        ("column", error.column()),
        ("constraint", error.constraint()),
        ("type", error.datatype()),
    ];
    let parts: Vec<_> = named.iter().filter_map(|(what, name)| name.map(|name| format!("{what} {name}"))).collect();
    if parts.is_empty() { "no column named".to_owned() } else { parts.join(", ") }
}

fn causes(error: &Error) -> impl Iterator<Item = &(dyn std::error::Error + 'static)> {
    std::iter::successors(error.source(), |&cause| cause.source())
}

/// One side does not take the other's certificate. OpenSSL's texts name no values; what else goes wrong while TLS is being
/// agreed on may be no more than a broken connection.
fn tls_refusal(error: &Error) -> Option<Fault> {
    let told = causes(error).map(ToString::to_string).find(|text| text.contains("SSL routines"))?;
    if told.contains("certificate verify failed") {
        let why = told.rsplit(": ").next().unwrap_or_default();
        return Some(Fault::lasting(format!(
            "the server's certificate is not trusted: {why} (sslrootcert, host name)"
        )));
    }
    let alert = crate::error::tls_refusal(&told)?;
    Some(Fault::lasting(format!("the server refuses TLS: {alert} (sslcert, sslkey)")))
}

/// What a driver's error means.
pub fn classify(error: &Error) -> Fault {
    if let Some(server) = error.as_db_error() {
        return Fault::of_server(server);
    }
    if error.is_closed() {
        return Fault::lost("closed");
    }
    if let Some(fault) = tls_refusal(error) {
        return fault;
    }
    if let Some(cause) = causes(error).find_map(|cause| cause.downcast_ref::<io::Error>()) {
        return Fault::lost(cause.kind().to_string());
    }
    // The driver keeps its kinds to itself; its texts are fixed and hold no values.
    match error.to_string().as_str() {
        "error performing TLS handshake" => Fault::lasting("TLS handshake failed (sslmode)"),
        "authentication error" | "invalid configuration" => {
            Fault::lasting(format!("{error} (user, password, sslmode, host)"))
        }
        "error connecting to server" | "timeout waiting for server" => Fault::passing(error.to_string()),
        other => Fault::unclear(other),
    }
}

/// What a pool's error means.
pub fn classify_pool(error: &PoolError) -> Fault {
    match error {
        PoolError::Backend(error) | PoolError::PostCreateHook(HookError::Backend(error)) => classify(error),
        PoolError::Timeout(TimeoutType::Wait) => Fault::passing("no free connection in the pool in time"),
        PoolError::Timeout(TimeoutType::Create) => Fault::passing("no connection to the server in time"),
        PoolError::Timeout(TimeoutType::Recycle) => Fault::passing("a connection was not ready again in time"),
        PoolError::PostCreateHook(HookError::Message(_)) => Fault::passing("a new session could not be set up"),
        PoolError::Closed => Fault::passing("the pool is closed"),
        PoolError::NoRuntimeSpecified => Fault::unclear("pool without a runtime"),
    }
}

impl From<Error> for Fault {
    fn from(error: Error) -> Self {
        classify(&error)
    }
}

impl From<PoolError> for Fault {
    fn from(error: PoolError) -> Self {
        classify_pool(&error)
    }
}

/// Of a command that gives up: what only a person can mend is told as such.
impl From<Fault> for Failure {
    fn from(fault: Fault) -> Self {
        if fault.needs_person() { Self::Setup(fault.to_string()) } else { Self::Failed(fault.into()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn assert_class(class: Class, sqlstates: &[&str]) {
        for sqlstate in sqlstates {
            assert_eq!(class_of(sqlstate), class, "{sqlstate}");
        }
    }

    #[test]
    fn what_the_event_brought_is_content() {
        assert_class(Class::Content, &["22000", "22001", "22003", "22021", "22P02", "22P05", "23514"]);
    }

    #[test]
    fn another_writer_is_contention() {
        assert_class(Class::Contention, &["40000", "40001", "40003", "40P01", "55P03", "23503", "23505"]);
    }

    #[test]
    fn what_mends_itself_is_waited_for() {
        let passing = ["08000", "08006", "08P01", "53000", "53200", "53300", "57P01", "57P02", "57P03", "57P05"];
        assert_class(Class::Passing, &passing);
        assert_class(Class::Passing, &["25P02", "25P03", "25006"]);
    }

    #[test]
    fn what_a_person_must_mend_is_told() {
        let lasting =
            ["28000", "28P01", "3D000", "42501", "42703", "42P01", "53100", "58030", "58P01", "XX000", "XX001"];
        assert_class(Class::NeedsPerson, &lasting);
    }

    #[test]
    fn everything_else_is_unclear() {
        let others =
            ["57014", "57000", "23502", "23000", "23P01", "21000", "25001", "25000", "54000", "54001", "55006"];
        assert_class(Class::Unclear, &others);
        assert_class(Class::Unclear, &["55000", "0A000", "2BP01", "3F000", "P0001", "F0000", "HV000", "", "é"]);
    }

    #[test]
    fn a_pool_without_connections_is_a_dependency() {
        for timeout in [TimeoutType::Wait, TimeoutType::Create, TimeoutType::Recycle] {
            assert!(matches!(
                classify_pool(&PoolError::Timeout(timeout)),
                Fault::Dependency { needs_person: false, .. }
            ));
        }
        assert!(matches!(classify_pool(&PoolError::Closed), Fault::Dependency { needs_person: false, .. }));
    }

    #[test]
    fn reasons_are_words_where_there_are_words() {
        let reason = |sqlstate: &str| Fault::Content { sqlstate: sqlstate.to_owned(), detail: String::new() }.reason();
        assert_eq!(reason("22001"), "Value too long");
        assert_eq!(reason("22021"), "Value has a NUL character");
        assert_eq!(reason("22003"), "Value out of range");
        assert_eq!(reason("22P05"), "22P05", "a character that the encoding does not have is no NUL");
    }

    #[test]
    fn the_label_of_a_refusal_is_its_sqlstate() {
        let fault = Fault::Content { sqlstate: "22001".to_owned(), detail: "column web".to_owned() };
        assert_eq!(fault.label(), "22001");
        assert_eq!(Fault::unclear("57014").label(), "57014");
    }
}
