//! What the archive promises, held against a simulated disk and a scripted broker.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing
)]

mod crashes;
mod evidence;
mod group_commit;
mod judging;
mod key_history;
mod lives;
mod log_reading;
mod long_lines;
mod messages;
mod reconnects;
mod removal;
mod restarts;
mod scripted_broker;
mod sealing;
mod simulated_disk;
mod torn_tail;
mod verifying;
