//! Sealpost core.
#![cfg_attr(not(test), no_std)]

extern crate alloc;

mod aead;
mod bundle;
mod content;
mod encryption;
mod envelope;
mod identity;
mod json;
mod link;
mod login;
mod message_id;
mod name;
mod open;
mod padding;
mod safety_number;
mod seal;
#[cfg(test)]
mod testing;
mod timestamp;
mod topic;
mod transcript;
mod trust;

pub use bundle::*;
pub use content::*;
pub use encryption::*;
pub use envelope::{Envelope, EnvelopeError, MAX_ENVELOPE, NONCE_LEN, SUITE, TAG_LEN};
pub use identity::*;
pub use json::EncodingError;
pub use link::IdentityLink;
pub use login::*;
pub use message_id::*;
pub use name::*;
pub use open::*;
pub use padding::*;
pub use rand_core;
pub use safety_number::*;
pub use seal::*;
pub use timestamp::*;
pub use topic::*;
pub use trust::*;
