//! What operators see of the broker from outside: numbers for Prometheus, and whether it lives and is ready.
//!
//! [`meters`] are what the rest of the broker counts in: atomics, no lock for a message. [`exposition`] writes them, and what
//! can be read off the broker at that moment, in the format of Prometheus. [`pulse`] tells whether router and journal
//! work. [`observer`] gives all that to whoever asks over HTTP.
//!
//! No label names a user, a client or a topic: labels are for ever, and who talks to whom is nobody's business.

pub mod exposition;
pub mod meters;
pub mod observer;
pub mod pulse;
