//! What stands in the way of being ready, by component.

use std::{
    collections::BTreeMap,
    fmt,
    sync::{Mutex, MutexGuard, PoisonError},
};

/// Shared by all parts of an instance: each says what is wrong with it, `/readyz` says it on.
#[derive(Debug, Default)]
pub struct Readiness {
    reasons: Mutex<BTreeMap<String, String>>,
}

impl Readiness {
    /// Not ready yet: component `start` is in the way until it is cleared.
    pub fn starting() -> Self {
        let readiness = Self::default();
        readiness.set("start", Some("starting".to_owned()));
        readiness
    }

    /// Says why a component is not ready, or that it is (`None`). `true` when that is news.
    pub fn set(&self, component: &str, reason: Option<String>) -> bool {
        let mut reasons = self.lock();
        match reason {
            None => reasons.remove(component).is_some(),
            Some(reason) if reasons.get(component) == Some(&reason) => false,
            Some(reason) => {
                reasons.insert(component.to_owned(), reason);
                true
            }
        }
    }

    /// Says that a component is ready. `true` when that is news.
    pub fn clear(&self, component: &str) -> bool {
        self.set(component, None)
    }

    /// Nothing stands in the way.
    pub fn is_ready(&self) -> bool {
        self.lock().is_empty()
    }

    /// Components that are not ready, with reasons, by name.
    pub fn reasons(&self) -> Vec<(String, String)> {
        self.lock().iter().map(|(component, reason)| (component.clone(), reason.clone())).collect()
    }

    /// A thread that panicked while it held the lock left the map whole: each change is one call.
    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, String>> {
        self.reasons.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// `ready`, or one line `component: reason` for each that is not.
impl fmt::Display for Readiness {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let reasons = self.lock();
        if reasons.is_empty() {
            return writeln!(formatter, "ready");
        }
        reasons
            .iter()
            .try_for_each(|(component, reason)| writeln!(formatter, "{component}: {}", crate::error::one_line(reason)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ready_when_nothing_is_in_the_way() {
        let readiness = Readiness::starting();
        assert!(!readiness.is_ready());
        assert!(readiness.set("database", Some("wrong\npassword".to_owned())));
        assert!(!readiness.set("database", Some("wrong\npassword".to_owned())));
        assert_eq!(readiness.to_string(), "database: wrong password\nstart: starting\n");
        assert!(readiness.clear("start") && readiness.clear("database"));
        assert!(!readiness.clear("database"));
        assert_eq!(readiness.to_string(), "ready\n");
    }
}
