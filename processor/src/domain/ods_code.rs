//! The code that names an organisation.

use std::fmt;

/// An ODS code: exactly five ASCII letters or digits (rule 1.3). Case is kept and matters (rule 3.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct OdsCode([u8; OdsCode::LEN]);

/// Why a text is no [`OdsCode`]. Both can hold at once (rule 1.3, `detail`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OdsCodeFaults {
    /// The text is not five characters long.
    pub wrong_length: bool,
    /// The text holds something besides ASCII letters and digits.
    pub not_alphanumeric: bool,
}

impl OdsCode {
    /// Characters in a code.
    pub const LEN: usize = 5;

    /// Reads a code; every fault is told, not only the first.
    pub fn parse(text: &str) -> Result<Self, OdsCodeFaults> {
        let faults = OdsCodeFaults {
            wrong_length: text.chars().count() != Self::LEN,
            not_alphanumeric: !text.bytes().all(|byte| byte.is_ascii_alphanumeric()),
        };
        match <[u8; Self::LEN]>::try_from(text.as_bytes()) {
            Ok(bytes) if !faults.wrong_length && !faults.not_alphanumeric => Ok(Self(bytes)),
            _ => Err(faults),
        }
    }

    /// The code as text.
    pub fn as_str(&self) -> &str {
        // ASCII is always UTF-8: the default is never taken.
        std::str::from_utf8(&self.0).unwrap_or_default()
    }
}

impl fmt::Display for OdsCode {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.as_str())
    }
}
