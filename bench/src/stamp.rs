//! What every payload begins with: which message of which publisher of which run it is, and when it left.

use std::time::Instant;

/// Bytes that a [`Stamp`] takes at the front of a payload, and so the smallest payload there is.
pub(crate) const STAMP_LEN: usize = 24;

/// The name of one message: 4 bytes run, 4 bytes publisher, 8 bytes sequence number, 8 bytes time, all big-endian.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Stamp {
    /// Drawn at random for each run, so that a leftover of an earlier run is not taken for one of this.
    pub(crate) run: u32,
    /// Which publisher, counted from 0.
    pub(crate) publisher: u32,
    /// Which of its messages, counted from 0.
    pub(crate) sequence: u64,
    /// When it was handed to the socket, in nanoseconds of this process's [`Clock`].
    pub(crate) sent: u64,
}

impl Stamp {
    /// The bytes.
    pub(crate) fn to_bytes(self) -> [u8; STAMP_LEN] {
        let mut bytes = [0; STAMP_LEN];
        let fields = [
            &self.run.to_be_bytes()[..],
            &self.publisher.to_be_bytes(),
            &self.sequence.to_be_bytes(),
            &self.sent.to_be_bytes(),
        ];
        for (place, byte) in bytes.iter_mut().zip(fields.into_iter().flatten()) {
            *place = *byte;
        }
        bytes
    }

    /// The stamp at the front of a payload, and what follows it. `None` when the payload is too short to have one.
    pub(crate) fn split(payload: &[u8]) -> Option<(Self, &[u8])> {
        let (run, rest) = payload.split_first_chunk()?;
        let (publisher, rest) = rest.split_first_chunk()?;
        let (sequence, rest) = rest.split_first_chunk()?;
        let (sent, filler) = rest.split_first_chunk()?;
        let stamp = Self {
            run: u32::from_be_bytes(*run),
            publisher: u32::from_be_bytes(*publisher),
            sequence: u64::from_be_bytes(*sequence),
            sent: u64::from_be_bytes(*sent),
        };
        Some((stamp, filler))
    }
}

/// What fills a payload of `size` bytes after its stamp: every byte differs from its neighbours, so that a shift shows.
pub(crate) fn filler(size: usize) -> Vec<u8> {
    (0..=250)
        .cycle()
        .take(size.saturating_sub(STAMP_LEN))
        .collect()
}

/// The monotonic clock that publishers and subscribers of one process share.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Clock(Instant);

impl Clock {
    /// A clock that reads 0 now.
    pub(crate) fn start() -> Self {
        Self(Instant::now())
    }

    /// Nanoseconds since the start.
    pub(crate) fn now(self) -> u64 {
        u64::try_from(self.0.elapsed().as_nanos()).unwrap_or(u64::MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stamp_is_read_back_as_it_was_written() {
        let stamp = Stamp {
            run: 0x0102_0304,
            publisher: 5,
            sequence: 6 << 40,
            sent: u64::MAX - 1,
        };
        let mut payload = stamp.to_bytes().to_vec();
        payload.extend_from_slice(b"rest");
        assert_eq!(Stamp::split(&payload), Some((stamp, &b"rest"[..])));
        assert_eq!(Stamp::split(&payload[..STAMP_LEN - 1]), None);
    }

    #[test]
    fn filler_and_stamp_make_up_the_size() {
        assert_eq!(filler(1024).len() + STAMP_LEN, 1024);
        assert!(filler(1024).windows(2).all(|pair| pair[0] != pair[1]));
    }
}
