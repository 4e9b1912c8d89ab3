//! Sealpost's archiver: subscribes to every inbox and keeps the ciphertext for years, one JSON line
//! for each message, in the order of arrival. It holds no key that opens anything.
//!
//! A message is acknowledged to the broker only after it is on the disk, so none is lost that the
//! broker had; and one that comes twice is known again by its digest, so none is there twice.
//!
//! ```text
//!  broker ─► sealpost-mqtt ─► subscription ─► arrival ─► committer ─► writer ─► log_file ─► storage
//!    ▲                             │                         │
//!    └──────────── PUBACK ◄────────┴───────── receipts ◄─────┘   after the sync
//! ```
#![forbid(unsafe_code)]

pub mod administration;
pub mod archive;
pub mod arrival;
pub mod cli;
pub mod command;
pub mod committer;
pub mod control;
pub mod digest_window;
pub mod evidence;
pub mod exit;
pub mod health;
pub mod holds;
pub mod keeper;
pub mod key;
pub mod known_signers;
pub mod live;
pub mod lock;
pub mod moment;
pub mod observer;
mod open_archive;
pub mod operate;
pub mod removal;
pub mod removal_plan;
pub mod replay;
pub mod room;
pub mod rotation;
pub mod sealer;
pub mod settings;
pub mod share_name;
pub mod signers;
pub mod status;
pub mod subscription;
pub mod tiles;
pub mod work;
pub mod writer;
