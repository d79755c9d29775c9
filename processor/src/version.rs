//! Which program this is.

use std::sync::LazyLock;

/// Version of the workspace.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");
/// Commit it was built from, or `unknown`.
pub const COMMIT: &str = env!("DOSI_COMMIT");

/// Version of the librdkafka that was linked.
pub fn librdkafka() -> String {
    rdkafka::util::get_rdkafka_version().1
}

/// What `dosi --version` says after the name.
pub fn text() -> &'static str {
    static TEXT: LazyLock<String> =
        LazyLock::new(|| format!("{VERSION} (commit {COMMIT}, librdkafka {})", librdkafka()));
    &TEXT
}
