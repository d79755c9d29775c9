//! Applying one hand of events: together, and where the database refuses that, in parts, one by one, or as a dead letter
//! (rules 9.1, 9.2, 9.4; design: errors).
//!
//! Every later event of the partition waits meanwhile, so order holds. Every try moves the position from exactly where the
//! one before it left it.

use std::ops::Range;

use crate::fault_injection::{Mutant, is};

/// Tries of one event whose error may or may not be its own (rule 9.2).
pub const TRIES: i32 = 5;
/// A connection lost this often on the same events, while the database answers, is theirs to answer for.
const LOSSES: i32 = 5;

/// An event as far as order and suspicion go.
pub trait Event {
    /// Offset in the log.
    fn offset(&self) -> i64;
    fn ods_code(&self) -> Option<&str>;
}

/// What a failure of the database means, one arm for each line of the design's table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Class {
    /// The event's own content is refused.
    Content,
    /// Another writer is in the way.
    Contention,
    /// The database cannot do its work now.
    Dependency,
    ConnectionLost,
    /// Nobody can say.
    Unclear,
}

/// A failure of the database.
pub trait Failure: Clone {
    fn class(&self) -> Class;
    /// What two events must have in common for neither to be at fault: SQLSTATE or kind.
    fn reason(&self) -> String;
}

/// How one try ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Tried<F> {
    /// Committed: the position is where the try was to move it.
    Applied,
    /// The position was not where the try started from: nothing was written.
    Fenced,
    /// Several events make more than one transaction may carry: nothing was written.
    TooLarge,
    /// Nothing was written, or (the answer to COMMIT was lost) everything: the next compare-and-set tells.
    Failed(F),
}

/// One transaction to try.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Try<F> {
    /// Which of the events.
    pub events: Range<usize>,
    /// Where the position is to move from and to.
    pub from: i64,
    pub to: i64,
    pub how: How<F>,
}

/// With what care.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum How<F> {
    Together,
    /// Suspected: under time-outs that five tries have room in.
    Alone,
    /// Refused: nothing of the event is applied, a dead letter is made.
    Refused {
        failure: F,
        attempts: i32,
    },
}

/// What is to be done next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step<F> {
    /// [`Applying::tried`]
    Try(Try<F>),
    /// See whether the database does its work, with a query and an empty batch: [`Applying::probed`].
    Probe,
    /// Wait, then [`Applying::waited`].
    Wait(Wait<F>),
    /// All is applied.
    Applied,
    /// The lane has to begin again.
    Fenced,
}

/// What is waited for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Wait<F> {
    /// A failure that may pass, longer each time.
    Failure(F),
    /// The next of five tries.
    Spacing,
    /// A suspected event that the database itself, or another event, clears of suspicion: longer each time.
    NoEventsFault(F),
}

/// What a lane remembers from one hand to the next.
#[derive(Clone, Debug)]
pub struct Progress {
    /// The position in the database, as far as the lane knows.
    pub position: i64,
    /// The unclear failure that the event before was dead-lettered for, and its ODS code.
    last_unclear: Option<(String, Option<String>)>,
}

impl Progress {
    pub fn new(position: i64) -> Self {
        Self { position, last_unclear: None }
    }
}

/// One hand of events on its way into the database.
#[derive(Debug)]
pub struct Applying<E, F> {
    events: Vec<E>,
    /// Where the position moves with the last of them.
    to: i64,
    progress: Progress,
    /// Parts still to be applied, the next one last.
    parts: Vec<Range<usize>>,
    part: Range<usize>,
    stage: Stage<F>,
}

#[derive(Clone, Debug)]
enum Stage<F> {
    Together { losses: i32 },
    TogetherLost { losses: i32, failure: F },
    TogetherWaits { losses: i32, failure: F },
    Alone { tries: i32 },
    AloneLost { tries: i32, failure: F },
    AloneWaits { tries: i32, wait: Wait<F> },
    Judged { failure: F },
    Refused { failure: F, attempts: i32 },
    RefusedWaits { failure: F, attempts: i32, wait: F },
    Applied,
    Fenced,
}

impl<E: Event, F: Failure> Applying<E, F> {
    /// Applies `events` and moves the position behind the last of them, or to `end` if that is further.
    pub fn new(events: Vec<E>, end: Option<i64>, progress: Progress) -> Self {
        let behind_last = events.last().map_or(progress.position, |event| event.offset() + 1);
        let to = behind_last.max(end.unwrap_or(behind_last));
        let stage = if to == progress.position { Stage::Applied } else { Stage::Together { losses: 0 } };
        let part = 0..events.len();
        Self { events, to, progress, parts: Vec::new(), part, stage }
    }

    pub fn events(&self) -> &[E] {
        &self.events
    }

    /// How far it came, for the next hand.
    pub fn into_progress(self) -> Progress {
        self.progress
    }

    pub fn step(&self) -> Step<F> {
        match self.stage.clone() {
            Stage::Together { .. } => Step::Try(self.attempt(How::Together)),
            Stage::Alone { .. } => Step::Try(self.attempt(How::Alone)),
            Stage::Refused { failure, attempts } => Step::Try(self.attempt(How::Refused { failure, attempts })),
            Stage::TogetherLost { .. } | Stage::AloneLost { .. } | Stage::Judged { .. } => Step::Probe,
            Stage::TogetherWaits { failure, .. } | Stage::RefusedWaits { wait: failure, .. } => {
                Step::Wait(Wait::Failure(failure))
            }
            Stage::AloneWaits { wait, .. } => Step::Wait(wait),
            Stage::Applied => Step::Applied,
            Stage::Fenced => Step::Fenced,
        }
    }

    fn attempt(&self, how: How<F>) -> Try<F> {
        let to = if self.part.end == self.events.len() {
            self.to
        } else if is(Mutant::PartsWithoutPosition) {
            self.progress.position
        } else {
            self.events[self.part.end - 1].offset() + 1
        };
        Try { events: self.part.clone(), from: self.progress.position, to, how }
    }

    /// The answer to [`Step::Try`].
    pub fn tried(&mut self, tried: Tried<F>) {
        let Step::Try(attempt) = self.step() else { return };
        self.stage = match (tried, self.stage.clone()) {
            (Tried::Applied, stage) => {
                if !matches!(stage, Stage::Refused { .. }) {
                    self.progress.last_unclear = None;
                }
                self.progress.position = attempt.to;
                if matches!(stage, Stage::Refused { .. }) && is(Mutant::PartitionStopsAtDeadLetter) {
                    return;
                }
                self.next_part()
            }
            (Tried::TooLarge, Stage::Together { .. }) if self.part.len() > 1 => self.halve(),
            // One event alone is never too large.
            (Tried::Fenced | Tried::TooLarge, _) => Stage::Fenced,
            (Tried::Failed(failure), Stage::Together { losses }) => self.together_failed(failure, losses),
            (Tried::Failed(failure), Stage::Alone { tries }) => Self::alone_failed(failure, tries),
            (Tried::Failed(wait), Stage::Refused { failure, attempts }) => {
                Stage::RefusedWaits { failure, attempts, wait }
            }
            (Tried::Failed(_), stage) => stage,
        };
    }

    /// The answer to [`Step::Probe`]: the database answers, and does its work.
    pub fn probed(&mut self, answers: bool) {
        self.stage = match self.stage.clone() {
            Stage::TogetherLost { losses, failure } if answers && losses + 1 >= LOSSES => self.suspect(failure),
            Stage::TogetherLost { losses, failure } => {
                Stage::TogetherWaits { losses: losses + i32::from(answers), failure }
            }
            Stage::AloneLost { tries, failure } if answers => Self::tried_in_vain(failure, tries),
            Stage::AloneLost { tries, failure } => Stage::AloneWaits { tries, wait: Wait::Failure(failure) },
            Stage::Judged { failure } if answers && !self.fails_like_the_last(&failure) => {
                let code = self.events[self.part.start].ods_code().map(str::to_owned);
                self.progress.last_unclear = Some((failure.reason(), code));
                Stage::Refused { failure, attempts: TRIES }
            }
            // Not this event's fault when the database is not well, or when another organisation's event has just
            // failed in the same way.
            Stage::Judged { failure } => Stage::AloneWaits { tries: 0, wait: Wait::NoEventsFault(failure) },
            stage => stage,
        };
    }

    /// The answer to [`Step::Wait`].
    pub fn waited(&mut self) {
        self.stage = match self.stage.clone() {
            Stage::TogetherWaits { losses, .. } => Stage::Together { losses },
            Stage::AloneWaits { tries, .. } => Stage::Alone { tries },
            Stage::RefusedWaits { failure, attempts, .. } => Stage::Refused { failure, attempts },
            stage => stage,
        };
    }

    fn together_failed(&mut self, failure: F, losses: i32) -> Stage<F> {
        match failure.class() {
            // The position alone, without an event, has nothing that could be at fault.
            _ if self.part.is_empty() => Stage::TogetherWaits { losses, failure },
            Class::Content | Class::Unclear => self.suspect(failure),
            Class::ConnectionLost => Stage::TogetherLost { losses, failure },
            Class::Contention | Class::Dependency => Stage::TogetherWaits { losses, failure },
        }
    }

    /// The failure is, or may be, one event's own.
    fn suspect(&mut self, failure: F) -> Stage<F> {
        if self.part.len() > 1 {
            self.parts.extend(self.part.clone().rev().map(|event| event..event + 1));
            return self.next_part();
        }
        if failure.class() == Class::Content {
            Stage::Refused { failure, attempts: 1 }
        } else {
            Stage::Alone { tries: 0 }
        }
    }

    fn alone_failed(failure: F, tries: i32) -> Stage<F> {
        match failure.class() {
            Class::Content => Stage::Refused { failure, attempts: tries + 1 },
            // What another writer or the database itself is in the way of is no try of this event.
            Class::Contention | Class::Dependency => Stage::AloneWaits { tries, wait: Wait::Failure(failure) },
            Class::ConnectionLost => Stage::AloneLost { tries, failure },
            Class::Unclear => Self::tried_in_vain(failure, tries),
        }
    }

    fn tried_in_vain(failure: F, tries: i32) -> Stage<F> {
        if tries + 1 < TRIES {
            Stage::AloneWaits { tries: tries + 1, wait: Wait::Spacing }
        } else {
            Stage::Judged { failure }
        }
    }

    fn fails_like_the_last(&self, failure: &F) -> bool {
        let code = self.events[self.part.start].ods_code();
        self.progress
            .last_unclear
            .as_ref()
            .is_some_and(|(reason, other)| *reason == failure.reason() && other.as_deref() != code)
    }

    fn halve(&mut self) -> Stage<F> {
        let middle = self.part.start.midpoint(self.part.end);
        self.parts.extend([middle..self.part.end, self.part.start..middle]);
        self.next_part()
    }

    fn next_part(&mut self) -> Stage<F> {
        if is(Mutant::LaterEventPasses) && self.parts.len() > 1 {
            let last = self.parts.len() - 1;
            self.parts.swap(last, last - 1);
        }
        self.parts.pop().map_or(Stage::Applied, |part| {
            self.part = part;
            Stage::Together { losses: 0 }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug)]
    struct One(i64, &'static str);

    impl Event for One {
        fn offset(&self) -> i64 {
            self.0
        }

        fn ods_code(&self) -> Option<&str> {
            Some(self.1)
        }
    }

    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    struct Fault(Class);

    impl Failure for Fault {
        fn class(&self) -> Class {
            self.0
        }

        fn reason(&self) -> String {
            format!("{:?}", self.0)
        }
    }

    /// Three events, of which those at `bad` fail each time; what was dead-lettered, after how many attempts, and how many
    /// transactions it took. Ends where the position does not move any more.
    fn apply(progress: Progress, bad: &[i64], class: Class, answers: bool) -> (Vec<(i64, i32)>, usize, Progress) {
        let events = vec![One(5, "FA001"), One(6, "FA002"), One(7, "FA003")];
        let mut applying = Applying::<_, Fault>::new(events, None, progress);
        let (mut letters, mut tries) = (Vec::new(), 0);
        for _ in 0..100 {
            match applying.step() {
                Step::Applied | Step::Fenced => break,
                Step::Probe => applying.probed(answers),
                Step::Wait(_) => applying.waited(),
                Step::Try(one) => {
                    tries += 1;
                    let offsets: Vec<i64> = applying.events()[one.events.clone()].iter().map(Event::offset).collect();
                    let is_refused = matches!(one.how, How::Refused { .. });
                    if !is_refused && offsets.iter().any(|offset| bad.contains(offset)) {
                        applying.tried(Tried::Failed(Fault(class)));
                        continue;
                    }
                    if let How::Refused { attempts, .. } = one.how {
                        letters.push((offsets[0], attempts));
                    }
                    applying.tried(Tried::Applied);
                }
            }
        }
        (letters, tries, applying.into_progress())
    }

    #[test]
    fn content_costs_its_event_at_once_and_no_other() {
        let (letters, _, progress) = apply(Progress::new(5), &[6], Class::Content, true);
        assert_eq!((letters, progress.position), (vec![(6, 1)], 8));
    }

    #[test]
    fn an_unclear_failure_is_tried_five_times_alone() {
        let (letters, tries, progress) = apply(Progress::new(5), &[6], Class::Unclear, true);
        // Together, then each by itself; the second once more in company, five times alone and as a dead letter.
        assert_eq!((letters, tries, progress.position), (vec![(6, 5)], 1 + 1 + 1 + 5 + 1 + 1, 8));
    }

    #[test]
    fn content_refused_on_a_later_try_counts_the_tries_made() {
        let mut applying = Applying::new(vec![One(5, "FA001")], None, Progress::new(5));
        // Together, then alone.
        for class in [Class::Unclear, Class::Unclear, Class::Unclear, Class::Content] {
            if matches!(applying.step(), Step::Wait(_)) {
                applying.waited();
            }
            applying.tried(Tried::Failed(Fault(class)));
        }
        let Step::Try(Try { how: How::Refused { attempts, .. }, .. }) = applying.step() else { panic!("not refused") };
        assert_eq!(attempts, 3);
    }

    #[test]
    fn a_connection_lost_again_and_again_on_one_event_is_that_events_fault() {
        let (letters, _, progress) = apply(Progress::new(5), &[6], Class::ConnectionLost, true);
        assert_eq!((letters, progress.position), (vec![(6, 5)], 8));
    }

    #[test]
    fn nothing_is_given_up_while_the_database_does_not_answer_or_another_writer_is_in_the_way() {
        for (class, answers) in [
            (Class::ConnectionLost, false),
            (Class::Unclear, false),
            (Class::Contention, true),
            (Class::Dependency, true),
        ] {
            let (letters, _, progress) = apply(Progress::new(5), &[6], class, answers);
            assert!(letters.is_empty() && progress.position <= 6, "{class:?}: {letters:?} at {}", progress.position);
        }
    }

    #[test]
    fn two_organisations_that_fail_alike_are_no_events_fault() {
        let (letters, _, progress) = apply(Progress::new(5), &[6, 7], Class::Unclear, true);
        assert_eq!((letters, progress.position), (vec![(6, 5)], 7));
    }

    #[test]
    fn too_much_for_one_transaction_is_halved() {
        let events = (0..4).map(|offset| One(offset, "FA001")).collect();
        let mut applying = Applying::<_, Fault>::new(events, Some(9), Progress::new(0));
        let mut tried = Vec::new();
        while let Step::Try(one) = applying.step() {
            tried.push((one.events.clone(), one.from, one.to));
            applying.tried(if one.events.len() > 2 { Tried::TooLarge } else { Tried::Applied });
        }
        assert_eq!(applying.step(), Step::Applied);
        assert_eq!(tried, [(0..4, 0, 9), (0..2, 0, 2), (2..4, 2, 9)]);
    }
}
