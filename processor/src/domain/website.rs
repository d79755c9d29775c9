//! Websites: the form they take in DoS, and which are good enough to be written (rule 5.1).

use std::sync::LazyLock;

use regex::Regex;

/// What a website must match as a whole to replace another one. Classes are ASCII; only the path may hold other characters.
static VALID: LazyLock<Regex> = LazyLock::new(|| {
    Regex::new(r"^(https?://)?([a-z0-9][a-z0-9-]*[a-z0-9]\.)+[a-z]{2,}(/.*)?$").expect("the pattern is constant")
});

/// The event's website as DoS has it; not trimmed, not yet known to be valid.
pub fn for_dos(website: &str) -> String {
    if let Some((scheme, rest)) = split_scheme(website) {
        return format!("{}://{}", scheme.to_ascii_lowercase(), without_empty_ends(&host_lowered(rest)));
    }
    let (host, path) = website.split_at(website.find('/').unwrap_or(website.len()));
    host.to_ascii_lowercase() + path
}

/// Whether a website in the form of [`for_dos`] may be written.
pub fn is_valid(website: &str) -> bool {
    VALID.is_match(website)
}

/// A scheme as RFC 3986 has it, and what follows `://`.
fn split_scheme(website: &str) -> Option<(&str, &str)> {
    let (scheme, rest) = website.split_once("://")?;
    let is_scheme = scheme.starts_with(|first: char| first.is_ascii_alphabetic())
        && scheme.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"+-.".contains(&byte));
    is_scheme.then_some((scheme, rest))
}

/// Lower-cases the host: what lies between user information and port (section 13, 5.1).
fn host_lowered(rest: &str) -> String {
    let (authority, path) = rest.split_at(rest.find(['/', '?', '#']).unwrap_or(rest.len()));
    let (user, host_and_port) = authority.split_at(authority.rfind('@').map_or(0, |at| at + 1));
    let host_length = if host_and_port.starts_with('[') { host_and_port.find(']') } else { host_and_port.find(':') };
    let (host, port) = host_and_port.split_at(host_length.unwrap_or(host_and_port.len()));
    format!("{user}{}{port}{path}", host.to_ascii_lowercase())
}

/// Drops an empty fragment, then an empty query (section 13, 5.1): `?#` goes whole, `?#x` becomes `#x`.
fn without_empty_ends(rest: &str) -> String {
    let (before_fragment, fragment) = rest.split_at(rest.find('#').unwrap_or(rest.len()));
    let has_empty_query = before_fragment.find('?').is_some_and(|at| at + 1 == before_fragment.len());
    let before_query = if has_empty_query { &before_fragment[..before_fragment.len() - 1] } else { before_fragment };
    if fragment.len() > 1 { format!("{before_query}{fragment}") } else { before_query.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scheme_and_host_are_lowered_and_the_rest_is_kept() {
        for (received, expected) in [
            ("Http://WWW.A.com/B#", "http://www.a.com/B"),
            ("HTTPS://Www.Test.com/Path?Q=Z", "https://www.test.com/Path?Q=Z"),
            ("http://User:Pass@WWW.A.com:80/X", "http://User:Pass@www.a.com:80/X"),
            ("http://A.com:PORT/", "http://a.com:PORT/"),
            ("http://[FE80::A]:80/", "http://[fe80::a]:80/"),
            ("WWW.Test.co.UK/Path#", "www.test.co.uk/Path#"),
            ("WWW.Test.co.UK?Q=Z", "www.test.co.uk?q=z"),
            ("WWW.A.com/to?u=http://B.com", "www.a.com/to?u=http://B.com"),
            (" WWW.A.com ", " www.a.com "),
            ("HTTP://ÄB.com", "http://Äb.com"),
        ] {
            assert_eq!(for_dos(received), expected, "{received}");
        }
    }

    #[test]
    fn empty_fragment_goes_first_then_empty_query() {
        for (received, expected) in [
            ("http://a.com/b?", "http://a.com/b"),
            ("http://a.com/b?#", "http://a.com/b"),
            ("http://a.com/b?#x", "http://a.com/b#x"),
            ("http://a.com?#", "http://a.com"),
            ("http://a.com/b??", "http://a.com/b??"),
            ("http://a.com/b#?", "http://a.com/b#?"),
            ("http://a.com/b?q#", "http://a.com/b?q"),
        ] {
            assert_eq!(for_dos(received), expected, "{received}");
        }
    }

    #[test]
    fn only_whole_websites_are_valid() {
        for website in ["www.test.co.uk", "http://www.test.com/Any Thing-é", "https://ab.cd", "a1.b2.com/\0"] {
            assert!(is_valid(website), "{website}");
        }
        for website in [
            "test@gmail.com",
            "http://a.com",
            "www.test.com\n",
            "www.test.com/\n",
            "ftp://www.test.com",
            "www.tést.com",
            "http://www.test.com:80/",
            "www.٣a.com",
            " www.test.com",
            "www.test.com?q",
            "",
        ] {
            assert!(!is_valid(website), "{website:?}");
        }
    }
}
