//! What the tests of the core share.

pub(crate) mod dos;
pub(crate) mod examples;
pub(crate) mod golden_form;
pub(crate) mod golden_reports;
