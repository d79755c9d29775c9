//! Connection texts as libpq reads them: what the driver does not know is taken out before the driver sees the rest.
//!
//! No error here quotes the text: it may hold a password.

use std::path::PathBuf;

use percent_encoding::percent_decode_str;

/// `sslmode`, as far as dosi knows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SslMode {
    Disable,
    Prefer,
    Require,
    VerifyFull,
}

/// The TLS part of a connection text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsParams {
    pub mode: SslMode,
    pub root_cert: Option<PathBuf>,
    pub cert: Option<PathBuf>,
    pub key: Option<PathBuf>,
}

/// A connection text taken apart. It may hold a password, so it has no `Debug`.
#[derive(Clone)]
pub struct ConnectionText {
    pub tls: TlsParams,
    /// What is left for the driver.
    pub rest: String,
    /// Names of the options in `rest` (those of a URL's query, all of a key=value text).
    pub names: Vec<String>,
}

/// Why a text cannot be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TextFault {
    #[error("is neither a postgres:// URL nor key=value pairs as libpq reads them")]
    Unreadable,
    #[error("has an sslmode that is none of disable, prefer, require, verify-full")]
    SslMode,
}

impl Default for TlsParams {
    /// libpq's own default mode.
    fn default() -> Self {
        Self { mode: SslMode::Prefer, root_cert: None, cert: None, key: None }
    }
}

impl TlsParams {
    /// Takes an option that is ours; `false`: it is the driver's.
    fn take(&mut self, name: &str, value: &str) -> Result<bool, TextFault> {
        let path = (!value.is_empty()).then(|| PathBuf::from(value));
        match name {
            "sslmode" => self.mode = SslMode::parse(value)?,
            "sslrootcert" => self.root_cert = path,
            "sslcert" => self.cert = path,
            "sslkey" => self.key = path,
            _ => return Ok(false),
        }
        Ok(true)
    }
}

impl SslMode {
    fn parse(text: &str) -> Result<Self, TextFault> {
        match text {
            "disable" => Ok(Self::Disable),
            "prefer" => Ok(Self::Prefer),
            "require" => Ok(Self::Require),
            "verify-full" => Ok(Self::VerifyFull),
            _ => Err(TextFault::SslMode),
        }
    }
}

/// Reads either form.
pub fn parse(text: &str) -> Result<ConnectionText, TextFault> {
    let text = text.trim();
    if text.starts_with("postgres://") || text.starts_with("postgresql://") {
        parse_url(text)
    } else if text.contains('=') {
        parse_pairs(text)
    } else {
        Err(TextFault::Unreadable)
    }
}

fn parse_url(text: &str) -> Result<ConnectionText, TextFault> {
    let (base, options) = split_options(text);
    let mut tls = TlsParams::default();
    let mut kept = Vec::new();
    let mut names = Vec::new();
    for option in options.split('&').filter(|option| !option.is_empty()) {
        let (name, value) = option.split_once('=').ok_or(TextFault::Unreadable)?;
        let name = percent_decoded(name)?;
        if !tls.take(&name, &percent_decoded(value)?)? {
            // The driver takes what stands before the first `@` for user and password, wherever that is.
            kept.push(option.replace('@', "%40"));
            names.push(name);
        }
    }
    let rest = if kept.is_empty() { base.to_owned() } else { format!("{base}?{}", kept.join("&")) };
    Ok(ConnectionText { tls, rest, names })
}

/// What stands before the options, and those. A `?` in the password begins none: without this its `sslmode` would be the
/// driver's, which we then set to the default.
fn split_options(text: &str) -> (&str, &str) {
    let begin = text.find("://").map_or(0, |at| at + 3);
    let next = |character: char| text[begin..].find(character).map_or(text.len(), |at| begin + at);
    let (at, slash, question_mark) = (next('@'), next('/'), next('?'));
    let credentials_end = if at < slash || at < question_mark { at } else { begin };
    match text[credentials_end..].find('?').map(|question_mark| credentials_end + question_mark) {
        Some(question_mark) => (&text[..question_mark], &text[question_mark + 1..]),
        None => (text, ""),
    }
}

/// As the driver decodes the rest: what is no such sequence stays.
fn percent_decoded(text: &str) -> Result<String, TextFault> {
    let decoded = percent_decode_str(text).decode_utf8().map_err(|_| TextFault::Unreadable)?;
    Ok(decoded.into_owned())
}

fn parse_pairs(text: &str) -> Result<ConnectionText, TextFault> {
    let mut tls = TlsParams::default();
    let mut kept = Vec::new();
    let mut names = Vec::new();
    let mut rest = text.trim_start();
    while !rest.is_empty() {
        let (name, after) = rest.split_once('=').ok_or(TextFault::Unreadable)?;
        let name = name.trim_end();
        if name.is_empty() || name.contains(char::is_whitespace) {
            return Err(TextFault::Unreadable);
        }
        let (value, after) = pair_value(after.trim_start())?;
        if !tls.take(name, &value)? {
            kept.push(format!("{name}='{}'", value.replace('\\', "\\\\").replace('\'', "\\'")));
            names.push(name.to_owned());
        }
        rest = after.trim_start();
    }
    Ok(ConnectionText { tls, rest: kept.join(" "), names })
}

/// A value, bare up to white space or in single quotes; a backslash takes the next character as it is.
fn pair_value(text: &str) -> Result<(String, &str), TextFault> {
    let quoted = text.starts_with('\'');
    let mut chars = text.char_indices().skip(usize::from(quoted));
    let mut value = String::new();
    while let Some((at, char)) = chars.next() {
        match char {
            '\\' => value.push(chars.next().ok_or(TextFault::Unreadable)?.1),
            '\'' if quoted => return Ok((value, &text[at + 1..])),
            char if !quoted && char.is_whitespace() => return Ok((value, &text[at..])),
            char => value.push(char),
        }
    }
    if quoted { Err(TextFault::Unreadable) } else { Ok((value, "")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> (TlsParams, String) {
        let read = parse(text).unwrap_or_else(|fault| panic!("{text}: {fault}"));
        (read.tls, read.rest)
    }

    #[test]
    fn a_url_keeps_what_the_driver_knows() {
        let text = "postgres://u:p%3F@h:5/d?sslmode=verify-full&options=-c%20a%3Db&sslrootcert=%2Fca%20x.pem";
        let (tls, rest) = read(text);
        assert_eq!(rest, "postgres://u:p%3F@h:5/d?options=-c%20a%3Db");
        assert_eq!(tls.mode, SslMode::VerifyFull);
        assert_eq!(tls.root_cert, Some(PathBuf::from("/ca x.pem")));
        assert_eq!(read("postgresql://h/d?sslcert=a&sslkey=b").1, "postgresql://h/d");
        assert_eq!(read("postgres://localhost/dos").0, TlsParams::default());
    }

    #[test]
    fn a_password_may_hold_a_question_mark_and_an_option_an_at_sign() {
        for (text, rest) in [
            ("postgres://u:p?q@h/d?sslmode=require", "postgres://u:p?q@h/d"),
            ("postgres://u:p/q@h/d?sslmode=require", "postgres://u:p/q@h/d"),
            ("postgres://h/d?application_name=a@b&sslmode=require", "postgres://h/d?application_name=a%40b"),
            ("postgres://u@h?sslmode=require", "postgres://u@h"),
        ] {
            let (tls, left) = read(text);
            assert_eq!((tls.mode, left.as_str()), (SslMode::Require, rest));
        }
    }

    #[test]
    fn pairs_keep_what_the_driver_knows() {
        let (tls, rest) = read(r"host = h password='a \' b\\' sslmode=disable dbname=d\ e sslkey='/k y'");
        assert_eq!(rest, r"host='h' password='a \' b\\' dbname='d e'");
        assert_eq!((tls.mode, tls.key), (SslMode::Disable, Some(PathBuf::from("/k y"))));
        assert_eq!(read("host='' user=u").1, "host='' user='u'");
    }

    #[test]
    fn other_modes_and_other_texts_are_refused() {
        for mode in ["allow", "verify-ca", "", "Require"] {
            assert_eq!(parse(&format!("postgres://h/d?sslmode={mode}")).err(), Some(TextFault::SslMode));
            assert_eq!(parse(&format!("host=h sslmode='{mode}'")).err(), Some(TextFault::SslMode));
        }
        for text in ["", "localhost", "host='h", "=x", "a b=c", "postgres://h/d?sslmode", "a=\\"] {
            assert_eq!(parse(text).err(), Some(TextFault::Unreadable), "{text}");
        }
    }
}
