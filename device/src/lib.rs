//! Sealpost for unattended machines: keys made at the first start, an invitation claimed, readings from standard input sealed for
//! one recipient, kept in a bounded ring while the broker is away. See `docs/devices.md`.
//!
//! All of what becomes of a message is the client's library: the ring is a part of its outbox
//! ([`sealpost::store::Ring`]), the connection its session. Here is what a device does with them, without anybody to ask: [`machine`]
//! is the work, [`input`] standard input, [`beginnings`] what happens before, [`cli`] the command line.

pub mod beginnings;
pub mod cli;
pub mod input;
pub mod machine;
