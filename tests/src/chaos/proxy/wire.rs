//! As much of the two protocols as it takes to lose one certain answer.

/// What travels through a proxy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wire {
    Postgres,
    Kafka,
    Other,
}

/// A simple query `COMMIT`, as drivers send it, and the server's word that it is done.
const COMMIT: &[u8] = b"Q\0\0\0\x0bCOMMIT\0";
const COMMITTED: &[u8] = b"C\0\0\0\x0bCOMMIT\0";
/// `EndTxn`, which commits or aborts a transaction.
const END_TXN: [u8; 2] = 26_i16.to_be_bytes();
/// Length, key and version of a request, then its correlation id.
const REQUEST_HEAD_BYTES: usize = 12;
/// Length of a response, then its correlation id.
const RESPONSE_HEAD_BYTES: usize = 8;

/// Sees requests whose answers are worth losing.
#[derive(Debug)]
pub(super) struct Requests {
    wire: Wire,
    tail: Tail,
    frames: Frames,
}

impl Requests {
    pub(super) fn new(wire: Wire) -> Self {
        Self { wire, tail: Tail::default(), frames: Frames::new(REQUEST_HEAD_BYTES) }
    }

    /// The next bytes on their way to the server. Whether such a request ends or begins in them, and how to know its answer.
    pub(super) fn see(&mut self, bytes: &[u8]) -> Option<Answer> {
        match self.wire {
            Wire::Postgres => self.tail.holds(bytes, COMMIT).then(Answer::default),
            Wire::Kafka => {
                let mut ends = Vec::new();
                self.frames.see(bytes, |head| {
                    if head[4..6] == END_TXN {
                        ends.push([head[8], head[9], head[10], head[11]]);
                    }
                });
                ends.pop().map(Answer::correlated)
            }
            Wire::Other => None,
        }
    }
}

/// Knows one answer when it comes.
#[derive(Debug, Default)]
pub(super) struct Answer {
    /// Kafka's; `None`: the answer to a COMMIT.
    correlation_id: Option<[u8; 4]>,
    tail: Tail,
}

impl Answer {
    fn correlated(correlation_id: [u8; 4]) -> Self {
        Self { correlation_id: Some(correlation_id), ..Self::default() }
    }

    /// The next bytes from the server: whether the answer is among them.
    ///
    /// For Kafka `responses` has seen the connection from its beginning, as only frames tell where an id stands.
    pub(super) fn is_in(&mut self, bytes: &[u8], responses: &[[u8; 4]]) -> bool {
        match &self.correlation_id {
            Some(id) => responses.contains(id),
            None => self.tail.holds(bytes, COMMITTED),
        }
    }
}

/// Correlation ids of the responses on a Kafka connection.
#[derive(Debug)]
pub(super) struct Responses {
    wire: Wire,
    frames: Frames,
}

impl Responses {
    pub(super) fn new(wire: Wire) -> Self {
        Self { wire, frames: Frames::new(RESPONSE_HEAD_BYTES) }
    }

    pub(super) fn see(&mut self, bytes: &[u8]) -> Vec<[u8; 4]> {
        let mut ids = Vec::new();
        if self.wire == Wire::Kafka {
            self.frames.see(bytes, |head| ids.push([head[4], head[5], head[6], head[7]]));
        }
        ids
    }
}

/// The end of what has passed, for a pattern that two reads share.
#[derive(Debug, Default)]
struct Tail(Vec<u8>);

impl Tail {
    fn holds(&mut self, bytes: &[u8], pattern: &[u8]) -> bool {
        self.0.extend_from_slice(bytes);
        let found = self.0.windows(pattern.len()).any(|window| window == pattern);
        let kept = if found { 0 } else { self.0.len().min(pattern.len() - 1) };
        self.0.drain(..self.0.len() - kept);
        found
    }
}

/// Kafka's frames: four bytes of length, then as many.
#[derive(Debug)]
struct Frames {
    head: Vec<u8>,
    head_bytes: usize,
    /// Bytes of the frame's body behind its head that are still to come.
    left: usize,
}

impl Frames {
    fn new(head_bytes: usize) -> Self {
        Self { head: Vec::new(), head_bytes, left: 0 }
    }

    fn see(&mut self, mut bytes: &[u8], mut found: impl FnMut(&[u8])) {
        while !bytes.is_empty() {
            if self.left > 0 {
                let skipped = self.left.min(bytes.len());
                self.left -= skipped;
                bytes = &bytes[skipped..];
                continue;
            }
            let wanted = (self.head_bytes - self.head.len()).min(bytes.len());
            self.head.extend_from_slice(&bytes[..wanted]);
            bytes = &bytes[wanted..];
            if self.head.len() == self.head_bytes {
                let length = u32::from_be_bytes([self.head[0], self.head[1], self.head[2], self.head[3]]) as usize;
                self.left = (length + 4).saturating_sub(self.head_bytes);
                found(&self.head);
                self.head.clear();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(key: i16, id: i32, body: &[u8]) -> Vec<u8> {
        let rest = [&key.to_be_bytes()[..], &3_i16.to_be_bytes(), &id.to_be_bytes(), body].concat();
        [&u32::try_from(rest.len()).unwrap().to_be_bytes()[..], &rest].concat()
    }

    fn response(id: i32, body: &[u8]) -> Vec<u8> {
        [&u32::try_from(4 + body.len()).unwrap().to_be_bytes()[..], &id.to_be_bytes(), body].concat()
    }

    #[test]
    fn a_commit_is_seen_wherever_reads_are_cut() {
        let stream = [b"B\0\0\0\x04".as_slice(), COMMIT, b"X"].concat();
        for cut in 0..stream.len() {
            let mut requests = Requests::new(Wire::Postgres);
            let seen = [requests.see(&stream[..cut]).is_some(), requests.see(&stream[cut..]).is_some()];
            assert_eq!(seen.iter().filter(|seen| **seen).count(), 1, "cut at {cut}");
        }
        assert!(Requests::new(Wire::Postgres).see(b"Q\0\0\0\rROLLBACK\0").is_none());
    }

    #[test]
    fn the_answer_to_a_commit_is_known() {
        let mut answer = Requests::new(Wire::Postgres).see(COMMIT).unwrap();
        assert!(!answer.is_in(b"C\0\0\0\x0dINSERT 0 1\0", &[]));
        assert!(answer.is_in(COMMITTED, &[]));
    }

    #[test]
    fn the_end_of_a_transaction_is_seen_between_other_requests_and_its_answer_known_by_its_id() {
        // A body that looks like the head of one is none.
        let lookalike = request(26, 9, b"");
        let stream = [request(0, 1, &lookalike), request(26, 7, b"id"), request(3, 8, b"")].concat();
        for cut in 0..stream.len() {
            let mut requests = Requests::new(Wire::Kafka);
            let answers: Vec<_> =
                [&stream[..cut], &stream[cut..]].iter().filter_map(|part| requests.see(part)).collect();
            assert_eq!(answers.len(), 1, "cut at {cut}");
            assert_eq!(answers[0].correlation_id, Some(7_i32.to_be_bytes()));
        }
    }

    #[test]
    fn responses_are_told_by_their_ids() {
        let stream = [response(6, &response(7, b"")), response(7, b"done")].concat();
        let mut responses = Responses::new(Wire::Kafka);
        let ids: Vec<_> = stream.chunks(3).flat_map(|part| responses.see(part)).collect();
        assert_eq!(ids, [6_i32.to_be_bytes(), 7_i32.to_be_bytes()]);
        let mut answer = Answer::correlated(7_i32.to_be_bytes());
        assert!(!answer.is_in(b"", &ids[..1]) && answer.is_in(b"", &ids[1..]));
    }
}
