//! Sealpost core.
#![cfg_attr(not(test), no_std)]

extern crate alloc;

mod bundle;
mod encryption;
mod envelope;
mod identity;
mod json;
mod link;
mod login;
mod message_id;
mod name;
mod padding;
#[cfg(test)]
mod testing;
mod timestamp;
mod topic;
mod transcript;

pub use bundle::*;
pub use encryption::*;
pub use envelope::{Envelope, EnvelopeError, MAX_ENVELOPE, NONCE_LEN, SUITE, TAG_LEN};
pub use identity::*;
pub use json::EncodingError;
pub use link::IdentityLink;
pub use login::*;
pub use message_id::*;
pub use name::*;
pub use padding::*;
pub use timestamp::*;
pub use topic::*;
