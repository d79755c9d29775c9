//! How a command fails: what is told on stderr, in one line, and the exit code (interface, section 1).

use std::{fmt, process::ExitCode};

use crate::{
    kafka::{refusals::is_refusal, registry::RegistryError},
    postgres::Fault,
};

/// Why a command ended without doing what it was asked.
#[derive(Debug)]
pub enum Failure {
    /// Wrong use, a wrong or missing setting: nothing was started. Exit code 2.
    Usage(String),
    /// What only a person can mend: wrong password, no DoS schema, a missing topic, a refused schema. Exit code 2.
    Setup(String),
    /// Failed while running. Exit code 1.
    Failed(anyhow::Error),
}

impl Failure {
    /// The exit code that scripts see.
    pub fn exit_code(&self) -> ExitCode {
        match self {
            Self::Usage(_) | Self::Setup(_) => ExitCode::from(2),
            Self::Failed(_) => ExitCode::FAILURE,
        }
    }
}

/// Another part said no, in one line that says what a person can do.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Refused(pub String);

/// Whether trying again would help nobody.
fn needs_person(cause: &(dyn std::error::Error + 'static)) -> bool {
    cause.is::<Refused>()
        || cause.downcast_ref().is_some_and(is_refusal)
        || cause.downcast_ref().is_some_and(Fault::needs_person)
        || cause.downcast_ref().is_some_and(RegistryError::needs_person)
}

/// One line, whatever the cause wrote into its message.
impl fmt::Display for Failure {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = match self {
            Self::Usage(text) | Self::Setup(text) => text.clone(),
            Self::Failed(error) => format!("{error:#}"),
        };
        formatter.write_str(&one_line(&text))
    }
}

impl From<anyhow::Error> for Failure {
    fn from(error: anyhow::Error) -> Self {
        if error.chain().any(needs_person) { Self::Setup(format!("{error:#}")) } else { Self::Failed(error) }
    }
}

/// The name of a TLS alert by which the other side refuses for good, in OpenSSL's text of an error.
pub(crate) fn tls_refusal(text: &str) -> Option<&str> {
    const FOR_GOOD: [&str; 5] = ["certificate", "unknown ca", "access denied", "handshake failure", "protocol version"];
    let name = text.split_once(" alert ")?.1.split(':').next()?;
    FOR_GOOD.iter().any(|alert| name.contains(alert)).then_some(name)
}

/// Lines joined by single spaces: messages of other parts come with line breaks.
pub(crate) fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_alert_that_may_pass_is_no_refusal() {
        let told = |name: &str| format!("error:0A000412:SSL routines::sslv3 alert {name}: SSL alert number 1");
        assert_eq!(tls_refusal(&told("bad certificate")), Some("bad certificate"));
        assert_eq!(tls_refusal(&told("internal error")), None);
        assert_eq!(tls_refusal("connection reset by peer"), None);
    }

    #[test]
    fn a_failure_is_one_line_with_its_causes() {
        let error = anyhow::anyhow!("first\n  second").context("failed to start");
        assert_eq!(Failure::from(error).to_string(), "failed to start: first second");
    }
}
