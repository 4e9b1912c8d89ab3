//! `drain`: ends the running broker as SIGTERM does.

use super::GlobalArguments;
use super::failure::Failure;
use super::target::Target;
use crate::control::request::Request;

/// Asks the broker to drain. Returns when it has begun to.
pub(super) fn run(global: GlobalArguments) -> Result<(), Failure> {
    Target::find(global)?.ask(&Request::Drain {}, |_| {})
}
