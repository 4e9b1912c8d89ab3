//! What every daemon tells those who look after it: health and numbers over HTTP ([`endpoint`], [`pen`]), and whether it lives to
//! the service manager ([`manager`]); and how its own user asks it, through a socket ([`control_socket`]). What there is to tell,
//! each daemon says itself, as an [`Observed`].
#![forbid(unsafe_code)]

use std::future::Future;

pub mod control_socket;
pub mod endpoint;
pub mod manager;
pub mod pen;
pub mod seconds;
pub mod socket_path;

/// A daemon that can be looked at.
pub trait Observed: Send + Sync + 'static {
    /// Whether it lives: an error says what does not work, in words for a person. What is still starting is not sick.
    fn feel(&self) -> impl Future<Output = Result<(), String>> + Send;

    /// Whether it can do its work now, and in one word how it is.
    fn is_ready(&self) -> (bool, String);

    /// Its numbers in OpenMetrics text; `None` while it starts. May block.
    fn metrics(&self) -> Option<String>;
}
